"""Promises about runs and their results. Those that start runs come last, and deleting runs at the very end."""

from __future__ import annotations

import re
from typing import Any

from fake_aihub.certify.promise import NO_BATCH, Check, Skipped, check_equal, check_has, check_that
from fake_aihub.certify.promises.access import check_unit, service_time
from fake_aihub.certify.promises.files import new_path, write
from fake_aihub.certify.session import DOCUMENTS, FINAL, Hub

STATUSES = (*FINAL, "RUNNING", "PAUSED", "STOPPED_AT_CHECKPOINT")
APP = ("app_name",)
TAG_FOUND = "a run is found by its tag"


def runs_are_listed(hub: Hub) -> None:
    runs = hub.ask(200, "GET", "/v2/apps/runs", params={"limit": 2})["runs"]
    check_that("runs", isinstance(runs, list) and len(runs) <= 2, len(runs), "at most 2, as the limit says")


def future_window_has_no_runs(hub: Hub) -> None:
    asked = {"from_timestamp": int(service_time(hub)) + 86_400, "to_timestamp": int(service_time(hub)) + 90_000}
    check_equal("runs", hub.ask(200, "GET", "/v2/apps/runs", params=asked)["runs"], [])


def run_without_an_app_is_refused(hub: Hub) -> None:
    hub.refused(hub.start_run(**(hub.app() | {"app_name": None}), batch_id=hub.run_batch), 400)


def tags_end_at_500(hub: Hub) -> None:
    body = hub.app() | {"batch_id": hub.run_batch, "settings": {"tags": ["x" * 250, "y" * 251]}}
    hub.refused(hub.start_run(**body), 400)


def run_is_answered_at_once(hub: Hub) -> None:
    run = hub.run()
    check_that("id", isinstance(run["id"], str) and run["id"] != "", run["id"], "a text")
    check_that("status", run["status"] in STATUSES, run["status"], f"one of {STATUSES}")
    check_equal("batch_id", run["batch_id"], hub.run_batch)


def running_run_has_no_results(hub: Hub) -> None:
    run_id = hub.run()["id"]
    answer = hub.target.send("GET", "/v2/apps/runs/{}/results", run_id)
    if hub.ask(200, "GET", "/v2/apps/runs/{}", run_id)["status"] == "COMPLETE":
        raise Skipped("the run ended before it could be checked")
    hub.refused(answer)


def running_run_has_not_finished(hub: Hub) -> None:
    run = hub.ask(200, "GET", "/v2/apps/runs/{}", hub.run()["id"])
    if run["status"] != "RUNNING":
        raise Skipped("the run ended before it could be checked")
    check_that("finish_timestamp", run["finish_timestamp"] in (None, 0), run["finish_timestamp"], "null or 0")


def run_times_are_nanoseconds(hub: Hub) -> None:
    run = hub.completed()
    check_unit(hub, "start_timestamp", run["start_timestamp"], 10**9)
    check_unit(hub, "finish_timestamp", run["finish_timestamp"], 10**9)
    check_that("finish_timestamp", run["finish_timestamp"] >= run["start_timestamp"], run, "not before the start")


def run_keeps_its_tags(hub: Hub) -> None:
    run = hub.ask(200, "GET", "/v2/apps/runs/{}", hub.run()["id"])
    check_equal("tags", run["tags"], [hub.run_tag(), "schlüssel=wert/1"])


def run_is_found_by_its_tag(hub: Hub) -> None:
    run_id = hub.run()["id"]

    def found() -> bool:
        run = hub.find_run(run_id)
        return run is not None and hub.run_tag() in (run["tags"] or [])

    hub.eventually(TAG_FOUND, found)


def listed_run_has_its_batch(hub: Hub) -> None:
    run_id = hub.run()["id"]
    run = hub.eventually("a run is in the list", lambda: hub.find_run(run_id))
    check_equal("batch_id", run["batch_id"], hub.run_batch)


def _check_filter(hub: Hub, run: dict[str, Any], inside: dict[str, Any], *outside: dict[str, Any]) -> None:
    hub.eventually(f"a run is in the list by {', '.join(inside)}", lambda: hub.find_run(run["id"], **inside))
    for asked in outside:
        check_that(f"runs by {asked}", hub.find_run(run["id"], **asked) is None, run["id"], "not in the list")


def _window(hub: Hub, from_s: int | None, to_s: int | None) -> dict[str, int]:
    """Return a window of the list, in seconds after the start of the shared run."""
    ends = {"from_timestamp": from_s, "to_timestamp": to_s}
    started_s = hub.run()["start_timestamp"] // 10**9
    return {key: started_s + end_s for key, end_s in ends.items() if end_s is not None}


def from_timestamp_is_heeded(hub: Hub) -> None:
    later = (_window(hub, 600, 1200), _window(hub, 3600, None))
    _check_filter(hub, hub.run(), _window(hub, -600, None), *later)


def to_timestamp_is_heeded(hub: Hub) -> None:
    _check_filter(hub, hub.run(), _window(hub, -600, 600), _window(hub, -1200, -600))


def runs_are_listed_by_id(hub: Hub) -> None:
    run_id = hub.run()["id"]

    def listed() -> list[str]:
        runs = hub.ask(200, "GET", "/v2/apps/runs", params={"run_id": run_id})["runs"]
        return [run["id"] for run in runs]

    check_equal("runs", hub.eventually("a run is in the list by its id", listed), [run_id])


def runs_are_listed_by_app(hub: Hub) -> None:
    _check_filter(hub, hub.run(), {"app_name": hub.options.app_name}, {"app_name": f"certify-{hub.mark}"})


def runs_are_listed_by_status(hub: Hub) -> None:
    inside, outside = {"status": ["FAILED", "COMPLETE"]}, {"status": ["FAILED", "CANCELLED"]}
    _check_filter(hub, hub.completed(), inside, outside)


def results_have_their_run(hub: Hub) -> None:
    run = hub.completed()
    page = next(hub.result_pages())
    start = run["start_timestamp"]
    check_has(page, id=run["id"], status="COMPLETE", batch_id=str(hub.run_batch), start_timestamp=start)


def results_answer_every_file(hub: Hub) -> None:
    check_equal("names", sorted(file["original_file_name"] for file in hub.results()), sorted(DOCUMENTS))


def results_have_more_until_the_last_page(hub: Hub) -> None:
    pages = [page["has_more"] for page in hub.result_pages()]
    check_equal("has_more of each page", pages, [True] * (len(pages) - 1) + [False])


def file_offset_counts_files(hub: Hub) -> None:
    every = [file["original_file_name"] for file in hub.results()]
    page = hub.ask(200, "GET", "/v2/apps/runs/{}/results", hub.run()["id"], params={"file_offset": 1})
    values = [file["original_file_name"] for file in page["files"]]
    check_equal("names from offset 1", values, every[1 : 1 + len(values)])
    check_that("files from offset 1", bool(values), values, "some")


def results_end(hub: Hub) -> None:
    run_id = hub.completed()["id"]
    page = hub.ask(200, "GET", "/v2/apps/runs/{}/results", run_id, params={"file_offset": len(DOCUMENTS)})
    check_has(page, files=[], has_more=False)


def _documents(hub: Hub, **flags: Any) -> list[dict[str, Any]]:
    documents = [document for file in hub.results(**flags) for document in file["documents"]]
    check_that("documents", bool(documents), documents, "some")
    return documents


def documents_have_fields(hub: Hub) -> None:
    for document in _documents(hub):
        pages = document["page_numbers"]
        check_that("page_numbers", all(type(page) is int for page in pages), pages, "whole numbers")
        for field in document["fields"]:
            values = [field[key] for key in ("field_name", "value", "type")]
            check_that("field", all(isinstance(text, str) for text in values), values, "three texts")


def field_names_are_identifiers(hub: Hub) -> None:
    names = {field["field_name"] for document in _documents(hub) for field in document["fields"]}
    wrong = [name for name in sorted(names) if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]
    check_equal("names that are not identifiers", wrong, [])


def _check_flag(hub: Hub, flag: str, *keys: str) -> None:
    plain, full = _documents(hub), _documents(hub, **{f"include_{flag}": "true"})
    for key in keys:
        check_that(f"{key} without {flag}", all(key not in one for one in plain), key, "not there")
        check_that(f"{key} with {flag}", any(key in one for one in full), key, "there")


def results_return_custom_keys(hub: Hub) -> None:
    hub.completed()
    check_equal("keys.custom", next(hub.result_pages())["keys"]["custom"], {"certify": hub.mark})


def runs_are_sorted_by_start(hub: Hub) -> None:
    ids = [hub.run(0)["id"], hub.run(1)["id"]]
    window = {"from_timestamp": hub.run(0)["start_timestamp"] // 10**9 - 1}
    hub.eventually("a run is in the list", lambda: all(hub.find_run(run_id) for run_id in ids))

    def order(way: str) -> list[str]:
        asked = window | {"sort_by": "start_timestamp", "order": way, "limit": 100}
        runs = hub.ask(200, "GET", "/v2/apps/runs", params=asked)["runs"]
        return [run["id"] for run in runs if run["id"] in ids]

    check_equal("ascending", order("ASCENDING"), ids)
    check_equal("descending", order("DESCENDING"), ids[::-1])


def runs_are_paged_by_limit_and_offset(hub: Hub) -> None:
    window = {"from_timestamp": hub.run(0)["start_timestamp"] // 10**9 - 1}
    ids = [hub.run(0)["id"], hub.run(1)["id"]]
    hub.eventually("a run is in the list", lambda: all(hub.find_run(run_id) for run_id in ids))

    def page(limit: int, offset: int) -> list[str]:
        asked = window | {"limit": limit, "offset": offset}
        return [run["id"] for run in hub.ask(200, "GET", "/v2/apps/runs", params=asked)["runs"]]

    # Others may be starting runs at the same time.
    hub.eventually("pages of runs fit together", lambda: page(2, 0) == page(1, 0) + page(1, 1) != [])


def deployment_is_run_with_202(hub: Hub) -> None:
    body = {"batch_id": hub.run_batch, "settings": {"tags": [hub.run_tag(2)]}, "version": None}
    path = "/v2/apps/deployments/{}/runs"
    answer = hub.start_run(path, hub.options.deployment, **body)
    check_equal("status", answer.status, 202)
    run = hub.ask(200, "GET", "/v2/apps/runs/{}", answer.json()["id"])
    check_has(run, deployment_id=hub.options.deployment, tags=[hub.run_tag(2)])


def folder_is_run(hub: Hub) -> None:
    folder = new_path(hub, "")
    write(hub, f"{folder}/a.txt", b"Invoice 4 of 2026-03-04")
    answer = hub.start_run(**(hub.app() | {"input_dir": folder}), settings={"tags": [hub.run_tag(3)]})
    check_equal("status", answer.status, 200)
    run = hub.ask(200, "GET", "/v2/apps/runs/{}", answer.json()["id"])
    check_equal("batch_id", run["batch_id"], None)
    check_equal("input_dir", run["input_dir"].strip("/"), folder.strip("/"))


def deleted_run_leaves_its_batch(hub: Hub) -> None:
    jobs = _delete(hub, hub.completed()["id"], delete_input="false")
    check_equal("delete_input_dir_job_id", jobs["delete_input_dir_job_id"], None)
    check_equal("files left", len(hub.files(hub.run_batch)), len(DOCUMENTS))


def deleted_run_takes_its_batch_along(hub: Hub) -> None:
    jobs = _delete(hub, hub.completed(1)["id"])
    check_that("jobs", isinstance(jobs["delete_input_dir_job_id"], str), jobs, "one for the input")
    hub.eventually(
        "a deleted batch is gone", lambda: hub.target.send("GET", "/v2/batches/{}", hub.run_batch).status == 404
    )
    hub.forget("batch", hub.run_batch)


def _delete(hub: Hub, run_id: str, **asked: str) -> dict[str, Any]:
    jobs: dict[str, Any] = hub.ask(202, "DELETE", "/v2/apps/runs/{}", run_id, params=asked)
    hub.forget("run", run_id)
    hub.eventually("a deleted run is gone", lambda: hub.target.send("GET", "/v2/apps/runs/{}", run_id).status == 404)
    for job in filter(None, jobs.values()):
        hub.job_ends(job)
    return jobs


CHECKS: dict[str, Check] = {
    "unknown-sorting-is-400": lambda hub: hub.refuses([400], "GET", "/v2/apps/runs", params={"sort_by": "certify"}),
    "run-without-input-is-refused": lambda hub: hub.refused(hub.start_run(**hub.app()), 400),
    "run-of-an-unknown-batch-is-404": lambda hub: hub.refused(hub.start_run(**hub.app(), batch_id=NO_BATCH), 404),
    "validations-come-when-asked-for": lambda hub: _check_flag(hub, "validation_results", "validations"),
    "sources-come-when-asked-for": lambda hub: _check_flag(hub, "source_info", "page_layouts"),
    "confidence-comes-when-asked-for": lambda hub: _check_flag(hub, "confidence_scores", "classification_confidence"),
    "review-comes-when-asked-for": lambda hub: _check_flag(
        hub, "review_results", "review_completed", "class_edit_history"
    ),
}
