"""Results on disk after an apply, and what happens if you change them."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import closing

import pytest

from aihub_runner.state.store import State
from fake_aihub.extraction import Extraction
from support.proxy import RESULTS, Proxy, rewrite

from .conftest import Project


@pytest.mark.slow
def test_results_are_kept_byte_for_byte_and_private(project: Project) -> None:
    project.write_files(120)
    assert project.apply().code == 0
    [run] = project.fake.runs()
    raw = project.folder / "results/job/raw" / run["id"] / "plain"
    assert sorted(path.name for path in raw.iterdir()) == ["0.json", "100.json"]
    pages = [e["response_json"] for e in project.fake.journal if e["operation"] == "getRunResults"]
    assert [json.loads((raw / name).read_bytes()) for name in ("0.json", "100.json")] == pages
    assert (project.folder / "results/job/documents.jsonl").stat().st_mode & 0o777 == 0o600
    assert (project.folder / "results").stat().st_mode & 0o777 == 0o700
    assert [line["path"] for line in project.documents] == sorted(line["path"] for line in project.documents)


def test_results_with_every_include_carry_what_was_asked_for(project: Project) -> None:
    project.write_files(3)
    project.change_spec("[limits]", '[results]\ninclude = ["review", "source", "confidence", "validation"]\n[limits]')
    assert project.apply().code == 0
    document = project.documents[0]
    assert {"classification_confidence", "page_layouts", "review_completed", "validations"} <= document.keys()
    assert {"name", "value", "type", "error", "confidence", "source_coordinates"} <= document["fields"][0].keys()


def test_results_file_that_is_deleted_is_written_again_without_a_request(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    (project.folder / "results/job/documents.jsonl").unlink()
    project.forget_requests()
    assert project.apply().code == 0
    assert (project.documents, project.fake.journal) == (before, [])


def test_results_file_that_was_edited_is_told_of_and_replaced_only_when_told(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    path = project.folder / "results/job/documents.jsonl"
    path.write_text("{}\n")
    project.forget_requests()
    assert "edited by hand" in project.apply().out
    assert "edited by hand" in project.run("status").out
    assert path.read_text() == "{}\n"
    assert project.apply("--refetch").code == 0
    assert (project.documents, project.sent()) == (before, [])


def test_results_file_that_was_edited_and_lacks_newer_results_is_no_success(project: Project) -> None:
    project.write_files(1)
    project.apply()
    documents = project.folder / "results/job/documents.jsonl"
    documents.write_text("my own\n")
    project.write_files(1, start=1)
    for _ in range(2):
        outcome = project.apply()
        assert outcome.code == 3
        assert "was edited by hand and lacks newer results" in outcome.err
    assert documents.read_text() == "my own\n"
    assert project.apply("--refetch").code == 0
    assert len(project.documents) == 2


@pytest.mark.parametrize("damages", [False, True])
def test_results_are_not_replaced_by_fewer(proxy: Proxy, project: Project, damages: bool) -> None:
    project.write_files(3)
    project.change_spec("[limits]", "[limits]\nfiles_per_batch = 2")
    assert project.apply().code == 0
    before = project.documents
    pages = sorted(project.folder.glob("results/job/raw/*/*/*.json"))
    if damages:
        pages[0].write_text("{}")
    kept = [page.read_bytes() for page in pages]
    proxy.always("GET", RESULTS, rewrite(lambda page: page | {"files": page["files"][1:]}))
    outcome = project.apply(*["--refetch"] * (not damages))
    assert (outcome.code, [page.read_bytes() for page in pages]) == (3, kept)
    assert "the service no longer has the results of" in outcome.err
    assert damages or project.documents == before
    proxy.clear()
    project.check_done(3, refetch=True)
    assert project.documents == before


def test_results_folder_that_is_deleted_is_fetched_again_by_itself(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    shutil.rmtree(project.folder / "results")
    project.forget_requests()
    status = project.run("status")
    assert (status.code, project.fake.journal) == (6, []), status.text
    assert "is missing" in status.out
    assert "1 fetch of results" in status.out
    plan = project.run("plan", "--exit-code")
    assert (plan.code, "apply fetches them again" in plan.out) == (0, True)  # nothing is sent or paid for that
    assert project.apply().code == 0
    assert (project.documents, project.sent()) == (before, [])
    assert project.run("status").code == 0
    project.forget_requests()
    assert project.apply().code == 0
    assert project.fake.journal == []


@pytest.mark.parametrize("name", ["documents.jsonl", "fields.csv"])
def test_file_of_results_that_is_deleted_is_told_of_by_status_and_written_again(project: Project, name: str) -> None:
    project.write_files(2)
    project.apply()
    path = project.folder / "results/job" / name
    before = path.read_bytes()
    path.unlink()
    status = project.run("status")
    assert status.code == 6, status.text
    assert f"{name} is missing" in status.out
    assert "1 results file to write again" in status.out
    project.forget_requests()
    assert project.apply().code == 0
    assert (path.read_bytes(), project.fake.journal) == (before, [])
    assert project.run("status").code == 0


def test_tables_that_were_edited_stay_while_their_pages_are_fetched_again(project: Project) -> None:
    project.write_files(2)
    project.apply()
    folder = project.folder / "results/job"
    for name in ("fields.csv", "documents.jsonl"):
        (folder / name).write_text("mine\n")
    shutil.rmtree(folder / "raw")
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert [(folder / name).read_text() for name in ("fields.csv", "documents.jsonl")] == ["mine\n"] * 2
    assert list((folder / "raw").rglob("*.json"))


def lose_run(project: Project, run_id: str) -> None:
    """Let the service have a run no more."""
    world = project.fake.world
    world.delete_run(next(run for run in world.runs.values() if run.id == run_id))
    project.fake.clock.advance(1000)


def test_damaged_page_of_a_run_that_is_gone_keeps_no_other_run_from_its_documents(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    [run] = project.fake.runs()
    [page] = (project.folder / "results/job/raw").rglob("*.json")
    page.write_text("{}")
    lose_run(project, run["id"])
    project.write_files(1, start=2)
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert f"run {run['id']}: no longer exists on the server" in outcome.err
    assert "stay" not in outcome.err
    assert "restore the results folder from a backup" in outcome.err
    assert "restore the results folder from a backup" in project.run("results").err
    assert project.documents[:2] == before
    assert {line["path"] for line in project.documents} == {f"in/0000{number}.txt" for number in range(3)}
    assert "in/00002.txt" in (project.folder / "results/job/fields.csv").read_text()
    assert len(project.fake.ledger["runs"]) == 2
    project.forget_requests()
    for outcome in (project.run("status"), project.apply(), project.apply("--retry-failed")):
        assert outcome.code == 3, outcome.text
        assert f"run {run['id']}: no longer exists on the server" in outcome.err
    assert project.fake.journal == []


def test_deleted_results_of_a_run_that_is_gone_keep_no_other_run_from_its_documents(project: Project) -> None:
    project.write_files(2)
    project.apply()
    [run] = project.fake.runs()
    project.write_files(1, start=2)
    project.apply()
    lose_run(project, run["id"])
    shutil.rmtree(project.folder / "results")
    outcome = project.apply()
    assert outcome.code == 3, outcome.text
    assert [line["path"] for line in project.documents] == ["in/00002.txt"]
    assert outcome.code == project.run("status").code == project.apply().code
    assert len(project.fake.ledger["runs"]) == 2


def test_page_that_cannot_be_fetched_now_keeps_no_other_run_from_its_documents(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    (damaged,) = (project.folder / "results/job/raw").rglob("*.json")
    project.write_files(1, start=2)
    project.apply()
    damaged.unlink()
    (project.folder / "results/job/documents.jsonl").unlink()
    project.fake.faults.add(operation="getRunResults", times=99, do="status", status=403)
    outcome = project.apply()
    assert outcome.code == 4, outcome.text
    assert [line["path"] for line in project.documents] == ["in/00002.txt"]
    project.fake.faults.scripts.clear()
    assert project.apply().code == 0
    assert project.documents[:2] == before


def test_files_without_an_answer_are_listed_and_not_fetched_for_ever(project: Project) -> None:
    project.write_files(3)
    project.fake.faults.add(operation="getRunResults", times=999, do="drop_answer", name="00001.txt")
    outcome = project.apply()
    assert outcome.code == 3
    assert "unanswered in/00001.txt" in outcome.out
    assert "hint       to fetch these results again, for free, pass --refetch" in outcome.out
    project.forget_requests()
    assert project.apply().code == 3
    assert project.fake.journal == []
    project.fake.faults.scripts.clear()
    assert project.apply("--refetch").code == 0


@pytest.mark.slow
def test_pages_that_shift_once_are_read_again(project: Project) -> None:
    project.write_files(120)
    project.fake.faults.add(operation="getRunResults", nth=2, do="repeat_page")
    assert project.apply().code == 0
    assert len({line["path"] for line in project.documents}) == 120


def test_results_are_read_as_dictionaries_from_python(project: Project) -> None:
    from aihub_runner import documents

    project.write_files(2)
    project.apply()
    assert next(documents(project.spec_path))["path"] == "in/00000.txt"
    assert len({document["path"] for document in documents(project.spec_path)}) == 2


@pytest.mark.slow
def test_run_that_is_gone_before_its_results_were_fetched_has_failed(project: Project) -> None:
    project.write_files(1, start=1)
    assert project.apply().code == 0  # another run, which shows that the account sees its runs
    project.write_files(1)
    project.fake.next_run(hold=True)
    assert project.apply("--wait-timeout", "0.1").code == 6
    project.fake.world.delete_run(list(project.fake.world.runs.values())[-1])
    project.fake.clock.advance(10)
    outcome = project.apply()
    assert outcome.code == 3
    assert "does not exist on the service any more" in outcome.text
    assert project.apply("--retry-failed").code == 0


def test_run_that_is_gone_after_it_was_complete_has_failed_too(project: Project) -> None:
    project.write_files(1, start=1)
    assert project.apply().code == 0
    project.write_files(1)
    project.fake.faults.add(operation="getRunResults", times=99, do="status", status=403)
    assert project.apply().code == 4
    project.fake.faults.scripts.clear()
    project.fake.world.delete_run(list(project.fake.world.runs.values())[-1])
    project.fake.clock.advance(10)
    assert project.apply().code == 3
    assert project.apply("--retry-failed").code == 0


def test_another_name_or_results_folder_fetches_again_and_pays_nothing(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    project.forget_requests()
    project.change_spec('name = "job"', 'name = "other"')
    outcome = project.apply()
    assert (outcome.code, project.sent()) == (0, []), outcome.text
    lines = (project.folder / "results/other/documents.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == before


def test_another_results_folder_keeps_what_the_server_has_no_more(project: Project) -> None:
    project.write_files(2)
    project.apply()
    before = project.documents
    project.fake.world.delete_run(next(iter(project.fake.world.runs.values())))
    project.fake.clock.advance(1000)
    project.change_spec("[limits]", '[results]\ndir = "other"\n[limits]')
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    lines = (project.folder / "other/documents.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == before


def test_raw_page_that_was_edited_is_told_of_by_status_and_fetched_again(project: Project) -> None:
    project.write_files(1)
    project.apply()
    [page] = (project.folder / "results/job/raw").rglob("*.json")
    kept = page.read_bytes()
    page.write_bytes(kept.replace(b"COMPLETE", b"COMPLETED"))
    assert "was changed after it was fetched" in project.run("status").out
    assert project.apply().code == 0
    assert page.read_bytes() == kept


@pytest.mark.parametrize("kept", [2, 1])
def test_raw_page_whose_places_do_not_hold_is_fetched_again(project: Project, kept: int) -> None:
    """A fetch that was cut off may have left a page of which the recorded places do not hold."""
    project.write_files(2)
    project.apply()
    before = project.documents
    [page] = (project.folder / "results/job/raw").rglob("*.json")
    content = json.loads(page.read_bytes())
    content["files"] = content["files"][::-1][:kept]
    page.write_text(json.dumps(content))
    project.write_files(1, start=2)
    outcome = project.apply()
    assert outcome.code == 0, outcome.text
    assert project.documents[:2] == before


def test_file_that_is_answered_without_a_document_is_listed_by_apply_and_status(project: Project) -> None:
    project.write_files(3)
    project.write("fixtures/00001.txt.json", "[]")
    project.fake.service.extraction = Extraction(fixtures=project.folder / "fixtures")
    for outcome in (project.apply(), project.run("status"), project.apply()):
        assert outcome.code == 3, outcome.text
        assert "in/00001.txt: the results contain no document" in outcome.out
    assert project.apply("--json").json["without_documents"] == ["in/00001.txt"]
    assert {line["path"] for line in project.documents} == {"in/00000.txt", "in/00002.txt"}
    assert len(project.fake.ledger["runs"]) == 1


def test_times_of_a_batch_are_recorded_as_the_service_has_them(project: Project) -> None:
    project.write_files(2)
    project.fake.clock.advance(1_000_000)
    project.apply()
    with closing(State(project.folder / "job.state.db", write=False)) as state:
        [shard] = state.load_shards()
    [batch], [run] = shard.batches, shard.runs
    times = [batch.intent_s, batch.sent_s, run.intent_s, run.fetched["plain"]]
    assert all(time.time() + 999_000 < moment < time.time() + 1_000_100 for moment in times)


def test_page_that_begins_with_a_byte_order_mark_is_delivered(project: Project) -> None:
    project.write_files(2)
    project.fake.faults.add(operation="getRunResults", do="replace", old="^", new="\ufeff", times=9)
    assert project.apply().code == 0
    assert [line["path"] for line in project.documents] == ["in/00000.txt", "in/00001.txt"]


def without_progress(shown: str) -> str:
    """What stays on a terminal: without the bar, and without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.rpartition("\x1b[2K")[2])


def test_results_on_a_terminal_are_a_table(project: Project) -> None:
    project.write_files(3)
    project.apply()
    code, shown = project.on_terminal("results", "job.toml", answer="")
    assert code == 0
    header, first = without_progress(shown).splitlines()[:2]
    assert header.split() == ["path", "class", "field", "value"]
    assert first.startswith("in/")
    assert "{" not in shown


def test_results_on_a_terminal_are_lines_of_json_if_asked_for(project: Project) -> None:
    project.write_files(1)
    project.apply()
    for options in (["--format", "jsonl"], ["--table", "nested"]):
        shown = project.on_terminal("results", "job.toml", *options, answer="")[1]
        assert without_progress(shown).startswith('{"')


@pytest.mark.slow
def test_long_table_on_a_terminal_says_how_many_rows_are_left(project: Project) -> None:
    project.write_files(130)
    project.apply()
    shown = project.on_terminal("results", "job.toml", "--table", "documents", answer="")[1]
    assert re.search(r"and \d+ more rows and \d+ more columns; pass --output FILE to write all", shown)


def test_names_in_a_table_on_a_terminal_cannot_act(project: Project) -> None:
    project.write("in/[red]a[/red].txt", "Total: \x1b[31m7\n")
    project.apply()
    shown = project.on_terminal("results", "job.toml", "--no-color", answer="")[1]
    assert "[red]a[/red].txt" in shown
    assert "\x1b[31m7" not in shown
