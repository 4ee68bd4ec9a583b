"""Files elsewhere, by URL: each is paid once, whatever happens to it, and the results are those of local files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from aihub_runner.sources import stores
from support.proxy import BATCHES, FILE, RUNS, Answer, Call, Proxy
from support.stores import Bucket, Folder, Place
from support.world import check_paid_once, lose, payments

from .conftest import Outcome, Project

LIMIT = "[limits]"


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path, project: Project) -> Place:
    """A place elsewhere, which the spec names."""
    if request.param == "file":
        made: Place = Folder(tmp_path / "elsewhere")
    else:
        made = Bucket(request.getfixturevalue("s3"))
    project.env |= made.env
    project.change_spec('"in/**/*"', f'"{made.url}/in/**/*"')
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts follow each other at once."""
    monkeypatch.setattr(stores, "PAUSES_S", (0.0, 0.0))


def fill(place: Place, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        place.put(f"in/{number:05}.txt", f"document number {number}".encode())


def allow(place: Place) -> tuple[str, str]:
    return "--allow-remote", place.url


def apply(project: Project, place: Place, *args: str) -> Outcome:
    return project.apply(*allow(place), *args)


def results(project: Project, prefix: str) -> list[dict[str, Any]]:
    """The results, with paths relative to a place, and without what differs: runs, and names made of the whole path."""
    lines = [{key: line[key] for key in line.keys() - {"run_id", "file_name"}} for line in project.documents]
    return sorted(
        (line | {"path": line["path"].removeprefix(prefix)} for line in lines),
        key=lambda line: (line["path"], line["document_index"]),
    )


def test_results_are_those_of_the_same_files_on_disk(project: Project, place: Place, tmp_path: Path) -> None:
    names = {"a.txt": b"one", "b/a.txt": b"two", "B/A.txt": b"three", "b/a b+c%2F\u00e4.txt": b"four", "c.txt": b"one"}
    for name, data in names.items():
        place.put(f"in/{name}", data)
        project.write(f"in/{name}", data)
    outcome = apply(project, place, "--yes")
    assert outcome.code == 0, outcome.text
    elsewhere = results(project, f"{place.url}/")
    assert project.run("status", *allow(place)).code == 0
    project.change_spec(f"{place.url}/", "")
    lose(tmp_path, "job.state.db", "job.lock.toml")
    project.change_spec('context = "acme"', 'context = "other"')
    assert project.apply("--yes").code == 0
    assert results(project, "") == elsewhere


def test_second_apply_sends_no_request_and_a_new_file_is_sent_alone(project: Project, place: Place) -> None:
    fill(place, 3)
    assert apply(project, place).code == 0
    project.forget_requests()
    again = apply(project, place)
    assert (again.code, list(project.fake.journal)) == (0, [])
    assert "nothing to do" in again.out
    fill(place, 1, start=3)
    outcome = apply(project, place)
    assert (outcome.code, project.sent().count("PUT addFileToBatch")) == (0, 1)
    check_paid_once(project.fake, 4)


def test_plan_names_what_is_new_without_reading_it_and_refuses_a_place_that_is_not_allowed(
    project: Project, place: Place
) -> None:
    fill(place, 2)
    shown = project.run("plan", *allow(place)).out
    assert f"+ 2 files ({place.url}/in/00000.txt …): new" in shown
    for command in ("plan", "apply", "status"):
        refused = project.run(command, "--allow-remote", f"{place.url}/i")
        assert refused.code == 2
        assert f"pass --allow-remote {place.url}/in to allow it" in refused.err
    assert project.sent() == []


def test_same_content_under_two_keys_is_two_files_as_on_disk(project: Project, place: Place) -> None:
    place.put("in/a.txt", b"the same")
    assert apply(project, place).code == 0
    place.put("in/b.txt", b"the same")
    place.put("in/c.txt", b"the same")
    assert apply(project, place).code == 0
    assert sum(payments(project.fake).values()) == 3
    assert len({line["path"] for line in project.documents}) == 3


def test_moved_file_is_sent_but_not_paid_for_again(project: Project, place: Place) -> None:
    fill(place, 3)
    assert apply(project, place).code == 0
    place.delete("in/00001.txt")
    place.put("in/moved/new.txt", b"document number 1")
    fill(place, 1, start=7)
    outcome = apply(project, place)
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 4)
    assert {line["path"].removeprefix(f"{place.url}/in/") for line in project.documents if line["present"]} == {
        "00000.txt",
        "moved/new.txt",
        "00002.txt",
        "00007.txt",
    }


def test_moved_file_of_an_apply_that_broke_after_sending_is_not_paid_for_again(project: Project, place: Place) -> None:
    fill(place, 2)
    assert apply(project, place).code == 0
    place.delete("in/00001.txt")
    place.put("in/new.txt", b"document number 1")
    project.fake.faults.add(operation="listRuns", do="status", status=403, nth=2)
    assert apply(project, place).code == 4
    assert apply(project, place).code == 0
    check_paid_once(project.fake, 2)


def test_changed_file_is_paid_for_and_then_the_first_content_again_is_not(project: Project, place: Place) -> None:
    fill(place, 2)
    apply(project, place)
    place.put("in/00000.txt", b"changed, and longer")
    assert apply(project, place).code == 0
    check_paid_once(project.fake, 3)
    project.forget_requests()
    fill(place, 2)
    assert (apply(project, place).code, project.sent()) == (0, [])


def test_apply_that_broke_after_sending_sends_nothing_again(project: Project, place: Place) -> None:
    fill(place, 3)
    project.fake.faults.add(operation="listFiles", do="status", status=403, nth=2)
    assert apply(project, place).code == 4
    assert project.sent().count("PUT addFileToBatch") == 3
    assert payments(project.fake) == {}
    project.forget_requests()
    assert apply(project, place).code == 0
    assert project.sent().count("PUT addFileToBatch") == 0
    check_paid_once(project.fake, 3)


def test_file_that_is_overwritten_while_it_is_sent_is_sent_again(project: Project, place: Place, proxy: Proxy) -> None:
    fill(place, 2)

    def overwrite(call: Call) -> Answer:
        place.put("in/00001.txt", b"other bytes, longer than before")
        return call.forward()

    proxy.on("PUT", f"{FILE[:-5]}00001.txt", overwrite)
    outcome = apply(project, place)
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 2)
    assert apply(project, place).code == 0
    check_paid_once(project.fake, 2)


def test_file_that_vanishes_before_it_is_sent_is_skipped(project: Project, place: Place, proxy: Proxy) -> None:
    fill(place, 3)

    def vanish(call: Call) -> Answer:
        place.delete("in/00001.txt")
        return call.forward()

    proxy.on("POST", BATCHES, vanish)
    outcome = apply(project, place)
    assert (outcome.code, "00001.txt: vanished" in outcome.out) == (3, True)
    check_paid_once(project.fake, 2)
    assert apply(project, place).code == 0


def test_crash_after_sending_pays_once(project: Project, place: Place, proxy: Proxy) -> None:
    fill(place, 3)
    proxy.on("POST", RUNS, lambda call: None)
    proxy.on("POST", RUNS, lambda call: call.forward() and None)
    apply(project, place)
    for _ in range(2):
        outcome = apply(project, place)
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 3)


def test_fresh_clone_with_the_lock_file_pays_nothing(project: Project, place: Place) -> None:
    fill(place, 3)
    apply(project, place)
    lose(project.folder, "job.state.db")
    project.forget_requests()
    assert apply(project, place).code == 0
    assert project.sent() == []
    check_paid_once(project.fake, 3)


def test_state_from_a_backup_does_not_pay_again(project: Project, place: Place) -> None:
    fill(place, 2)
    apply(project, place)
    shutil.copy(project.folder / "job.state.db", project.folder / "backup")
    lock = (project.folder / "job.lock.toml").read_text()
    fill(place, 2, start=2)
    apply(project, place)
    shutil.move(project.folder / "backup", project.folder / "job.state.db")
    (project.folder / "job.lock.toml").write_text(lock)
    outcome = apply(project, place)
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 4)


@pytest.mark.slow
def test_only_limit_and_destroy_work_on_urls(project: Project, place: Place) -> None:
    fill(place, 4)
    assert apply(project, place, "--only", f"{place.url}/in/*1.txt").code == 0
    check_paid_once(project.fake, 1)
    assert apply(project, place, "--limit", "1").code == 0
    check_paid_once(project.fake, 2)
    assert apply(project, place).code == 0
    check_paid_once(project.fake, 4)
    assert project.run("destroy", "--yes", *allow(place)).code == 0
    assert project.fake.batches() == []
    project.forget_requests()
    assert (apply(project, place).code, project.sent()) == (0, [])


def test_folders_are_grouped_and_passwords_are_sent(project: Project, place: Place) -> None:
    for name in ("a/1.pdf", "a/2.pdf", "b/1.pdf"):
        place.put(f"in/{name}", f"%PDF- {name}".encode())
    project.env["AIHUB_SECRET_PDF"] = "hidden"
    project.change_spec(
        LIMIT, f'[run.pdf_passwords]\n"{place.url}/in/a/1.pdf" = {{ env = "AIHUB_SECRET_PDF" }}\n{LIMIT}'
    )
    project.change_spec('name = "job"', 'name = "job"\ngroup_by = "folder"')
    outcome = apply(project, place)
    assert outcome.code == 0, outcome.text
    runs = list(project.fake.world.runs.values())
    assert sorted(len(run.files) for run in runs) == [1, 2]
    assert "hidden" in repr([run.request for run in runs])
    assert project.run("code", "--as", "curl", *allow(place)).code == 2


def test_files_are_counted_without_reading_them(project: Project, place: Place) -> None:
    fill(place, 2)
    place.put("in/empty.txt", b"")
    place.put("in/x.exe", b"x")
    outcome = project.run("validate", "--check-files", *allow(place), "--json")
    assert (outcome.code, outcome.json["files"]) == (0, 4)
    assert {item["reason"] for item in outcome.json["skipped"]} == {"empty", "unsupported type"}


def test_large_files_are_sent_in_parts_that_are_read_by_range(project: Project, place: Place) -> None:
    project.change_spec(LIMIT, f"{LIMIT}\npart_threshold_mb = 0.5")
    data = bytes(range(256)) * 4 * 1024 * 12
    place.put("in/large.txt", data)
    place.put("in/small.txt", b"small")
    outcome = apply(project, place)
    assert outcome.code == 0, outcome.text
    assert any("multipart" in entry["path"] for entry in project.fake.journal)
    assert {line["sha256"] for line in project.documents} == {
        stores.hashlib.sha256(data).hexdigest(),
        stores.hashlib.sha256(b"small").hexdigest(),
    }
