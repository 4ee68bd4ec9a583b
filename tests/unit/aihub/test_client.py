"""A response counts only if it is about the request and contains what we need."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx

from aihub_runner.aihub.bodies import FileSlice
from aihub_runner.aihub.client import AIHub
from aihub_runner.errors import AnswerLost, ServiceError

KEY = "0123456789abcdef"
TAG = f"aihub-runner:{'a' * 64}:{KEY}:1"
OTHER = f"aihub-runner:{'b' * 64}:{KEY}:1"
BODY: dict[str, Any] = {"batch_id": 7, "settings": {"tags": [TAG, "invoices"]}}
RUN = {"id": "r", "status": "RUNNING"}
GATEWAY = {"message": "please wait"}

SAME = [
    {},
    {"batch_id": 7, "tags": [TAG, "invoices"]},
    {"batch_id": "7"},
    {"batch_id": None, "tags": None},
    {"batch_id": 0, "tags": []},
    {"tags": ["invoices", TAG]},
    {"batch_id": 7, "tags": ["invoices"]},
    {"batch_id": 7, "tags": [TAG[:64]]},
    {"batch_id": 7, "tags": [f"{TAG},invoices"]},
    {"batch_id": 7, "tags": [OTHER, TAG]},
]
DIFFERENT = [
    {"batch_id": 8},
    {"batch_id": 8, "tags": [TAG]},
    {"batch_id": 7, "tags": [OTHER]},
    {"tags": [OTHER, "invoices"]},
    {"tags": ["invoices"]},
    {"tags": [TAG[:-1] + "2"]},
    {"batch_id": None, "tags": [TAG.replace(":", "-")]},
]


@pytest.mark.parametrize("told", SAME)
def test_started_run_is_ours_where_nothing_that_is_told_differs(
    hub: AIHub, router: respx.MockRouter, told: dict[str, Any]
) -> None:
    router.post("/v2/apps/runs").respond(json=RUN | told)
    assert hub.start_run("", BODY).id == "r"
    router.get("/v2/apps/runs/r").respond(json=RUN | told)
    assert hub.get_run("r", batch_id=7, tag=TAG).id == "r"


@pytest.mark.parametrize(
    "answer", [RUN | told for told in DIFFERENT] + [RUN | {"id": ""}, {"id": "r"}, RUN | {"status": ""}, GATEWAY, {}]
)
@pytest.mark.parametrize("deployment", ["", "d"])
def test_started_run_is_lost_where_the_answer_is_about_something_else(
    hub: AIHub, router: respx.MockRouter, answer: dict[str, Any], deployment: str
) -> None:
    route = router.post(f"/v2/apps/deployments/{deployment}/runs" if deployment else "/v2/apps/runs")
    route.respond(json=answer)
    with pytest.raises(AnswerLost):
        hub.start_run(deployment, BODY)
    assert route.call_count == 1


@pytest.mark.parametrize("answer", [{"id": 0}, {"id": -3}, {"id": True}, {"id": None}, {"id": 2**63}, {}, GATEWAY, []])
def test_created_batch_is_lost_where_its_id_is_none(hub: AIHub, router: respx.MockRouter, answer: object) -> None:
    route = router.post("/v2/batches").respond(json=answer)
    with pytest.raises(AnswerLost):
        hub.create_batch("b", "")
    assert route.call_count == 1


@pytest.mark.parametrize("answer", [RUN | told for told in DIFFERENT] + [RUN | {"id": "s"}, {"id": "r"}, GATEWAY])
def test_answer_about_another_run_is_asked_for_again(
    hub: AIHub, router: respx.MockRouter, answer: dict[str, Any]
) -> None:
    route = router.get("/v2/apps/runs/r")
    route.side_effect = [httpx.Response(200, json=answer), httpx.Response(200, json=RUN | {"batch_id": 7})]
    assert hub.get_run("r", batch_id=7, tag=TAG).batch_id == 7
    assert route.call_count == 2


def test_answers_about_another_run_for_ever_are_an_error_that_names_both(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.get("/v2/apps/runs/r").respond(json=RUN | {"id": "s"})
    with pytest.raises(ServiceError, match=r"runs/r: .*'s' instead of 'r'") as caught:
        hub.get_run("r")
    assert caught.value.exit_code == 4
    assert 1 < route.call_count < 10


def test_batch_is_told_of_with_its_name_and_time(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.get("/v2/batches/7")
    answers = [{"id": 8, "name": "c"}, {"id": 7}, {"id": 7, "name": "b", "created_at_ms": 1_700_000_000_123}]
    route.side_effect = [httpx.Response(200, json=answer) for answer in answers]
    batch = hub.get_batch(7)
    assert (batch.id, batch.name, batch.created_at_ms) == (7, "b", 1_700_000_000_123)
    assert route.call_count == 3


@pytest.mark.parametrize("time", [None, "yesterday", 1.5, True, -1, 2**64])
def test_time_that_is_none_counts_as_not_given(hub: AIHub, router: respx.MockRouter, time: object) -> None:
    router.get("/v2/batches/7").respond(json={"id": 7, "name": "b", "created_at_ms": time})
    assert hub.get_batch(7).created_at_ms is None
    router.get("/v2/apps/runs/r").respond(json=RUN | {"start_timestamp": time})
    assert hub.get_run("r").start_timestamp is None


def test_listed_files_come_with_sizes_and_times(hub: AIHub, router: respx.MockRouter) -> None:
    nodes = [{"name": "a", "metadata": {"size": 5, "modified_timestamp": 1_700_000_000}}, {"name": "b"}]
    router.get("/v2/batches/7/files").respond(json={"nodes": nodes, "has_more": False})
    files = hub.list_files(7)
    assert (files["a"].size, files["a"].modified_timestamp) == (5, 1_700_000_000)
    assert (files["b"].size, files["b"].modified_timestamp) == (None, None)


def test_list_of_files_that_says_not_where_it_goes_on_is_an_error(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/batches/7/files").respond(json={"nodes": [{"name": "a"}], "has_more": True})
    with pytest.raises(ServiceError, match="more files"):
        hub.list_files(7)


def test_list_of_files_goes_on_where_only_a_token_says_so(hub: AIHub, router: respx.MockRouter) -> None:
    pages = [{"nodes": [{"name": "a"}], "next_page_token": "1"}, {"nodes": [{"name": "b"}]}]
    router.get("/v2/batches/7/files").side_effect = [httpx.Response(200, json=page) for page in pages]
    assert list(hub.list_files(7)) == ["a", "b"]


def test_part_that_is_answered_under_another_number_is_sent_again(
    hub: AIHub, router: respx.MockRouter, tmp_path: Any
) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    route = router.put("/v2/batches/multipart-upload/sessions/s/parts/2")
    parts = [{"part_id": "p", "part_num": 1}, {"part_id": "q", "part_num": 2}]
    route.side_effect = [httpx.Response(200, json=part) for part in parts]
    with FileSlice(tmp_path / "f", 0, 3) as body:
        assert hub.put_part("s", 2, body).part_id == "q"
    assert [call.request.content for call in route.calls] == [b"abc", b"abc"]


def test_upload_session_that_cannot_be_read_is_asked_for_again(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.post("/v2/batches/multipart-upload")
    answers = [GATEWAY, {"session_id": "", "part_size": 5}, {"session_id": "s", "part_size": 5}]
    route.side_effect = [httpx.Response(200, json=answer) for answer in answers]
    assert hub.open_upload(7, "a", 9).session_id == "s"


PAGE = {"files": [], "has_more": False}


@pytest.mark.parametrize(
    "page",
    [
        GATEWAY,
        {"files": []},
        {"has_more": False},
        {"files": None, "has_more": False},
        {"files": [], "has_more": None},
        {"files": {}, "has_more": False},
        {"files": [], "has_more": "false"},
        {"files": [], "has_more": 0},
        PAGE | {"id": "s"},
        PAGE | {"id": "r", "batch_id": "8"},
        [],
    ],
)
def test_page_of_results_that_is_none_or_of_another_run_is_asked_for_again(
    hub: AIHub, router: respx.MockRouter, page: object
) -> None:
    route = router.get("/v2/apps/runs/r/results")
    route.side_effect = [httpx.Response(200, json=page), httpx.Response(200, json=PAGE | {"id": "r", "batch_id": "7"})]
    assert b'"7"' in hub.get_results("r", {}, 0, batch_id=7)[0]
    assert route.call_count == 2


@pytest.mark.parametrize("told", [{}, {"id": None, "batch_id": None}, {"id": "", "batch_id": ""}, {"batch_id": 7}])
def test_page_of_results_need_not_say_whose_it_is(hub: AIHub, router: respx.MockRouter, told: dict[str, Any]) -> None:
    route = router.get("/v2/apps/runs/r/results").respond(json=PAGE | told)
    hub.get_results("r", {}, 0, batch_id=7)
    assert route.call_count == 1


@pytest.mark.parametrize("path", ["/v2/batches", "/v2/apps/runs", "/v2/batches/7/files"])
def test_gateway_that_answers_in_place_of_a_list_does_not_make_it_empty(
    hub: AIHub, router: respx.MockRouter, path: str
) -> None:
    route = router.get(path).respond(json=GATEWAY)
    ask = {
        "/v2/batches": lambda: hub.list_batches(""),
        "/v2/apps/runs": lambda: hub.list_runs(0),
        "/v2/batches/7/files": lambda: hub.list_files(7),
    }[path]
    with pytest.raises(ServiceError, match="unreadable response"):
        ask()
    assert route.call_count > 1


@pytest.mark.parametrize("body", [b'{"message": "please wait"}', b"<html>please wait</html>", b"please wait"])
def test_gateway_that_answers_in_place_of_the_service_has_not_taken_a_file(
    hub: AIHub, router: respx.MockRouter, body: bytes
) -> None:
    route = router.put("/v2/batches/7/files/a")
    route.side_effect = [httpx.Response(200, content=body), httpx.Response(204)]
    hub.put_file(7, "a", b"abc")
    assert route.call_count == 2


@pytest.mark.parametrize("body", [b"", b" ", b"{}", b"null", b'{"job_id": "j"}'])
def test_answer_that_says_nothing_or_more_than_we_ask_is_taken(
    hub: AIHub, router: respx.MockRouter, body: bytes
) -> None:
    route = router.delete("/v2/batches/7/files/a").respond(202, content=body)
    hub.delete_file(7, "a")
    assert route.call_count == 1


def test_answer_about_something_else_shows_no_secret(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs/r").respond(json=RUN | {"id": "t0ken"})
    with pytest.raises(ServiceError) as caught:
        hub.get_run("r")
    assert "t0ken" not in caught.value.message
