"""The HTTP client against a mocked API: what is repeated, what is not, and what is reported."""

from __future__ import annotations

import httpx
import pytest
import requests
import respx
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.reasons import read_date, read_retry_after
from aihub_runner.aihub.session import open_session
from aihub_runner.errors import AnswerLost, Interrupted, Refused, ServiceError
from aihub_runner.model import Secret

ROOT = "https://hub.example/api"
BATCH = {"id": 7, "name": "b"}
RUN = {"id": "r", "status": "RUNNING"}
CONNECTION = Connection(ROOT, Secret("t0ken"), "acme", retry_wait_s=0.0)


def test_each_request_carries_token_and_context(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.get("/v2/batches").respond(json={"batches": []})
    hub.list_batches("")
    headers = route.calls.last.request.headers
    assert (headers["Authorization"], headers["IB-Context"]) == ("Bearer t0ken", "acme")


def test_file_is_sent_with_the_headers_that_requests_prepares(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.put(url__regex=r".*/v2/batches/7/files/.*").respond(200)
    for body in (b"one", b"three"):
        hub.put_file(7, "a ü/%.txt", body)
        sent = route.calls.last.request
        session = open_session(CONNECTION)
        asked = requests.Request("PUT", str(sent.url), {"Content-Type": "application/octet-stream"}, data=body)
        expected = session.prepare_request(asked)
        assert sent.url.raw_path == b"/api/v2/batches/7/files/a%20%C3%BC%2F%25.txt"
        assert sent.content == body
        assert {k.lower(): v for k, v in expected.headers.items()}.items() <= dict(sent.headers).items()


def test_netrc_and_proxies_of_the_environment_do_not_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert open_session(CONNECTION).proxies["https"] == "http://proxy.example:3128"
    local = Connection("http://127.0.0.1:1/api", Secret("t"), "")
    assert open_session(local).proxies == {}
    assert not open_session(local).trust_env


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 520, 529, 599])
def test_reading_is_repeated_while_the_trouble_may_pass(hub: AIHub, router: respx.MockRouter, status: int) -> None:
    route = router.get("/v2/apps/runs/r")
    route.side_effect = [httpx.Response(status), httpx.ReadTimeout("slow"), httpx.Response(200, json=RUN)]
    assert hub.get_run("r").id == "r"
    assert route.call_count == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 302, 501, 505, 511, 600])
def test_reading_is_not_repeated_after_a_refusal(hub: AIHub, router: respx.MockRouter, status: int) -> None:
    route = router.get("/v2/apps/runs/r").respond(status, json={"message": "no\x1b[31m way"})
    with pytest.raises(ServiceError) as caught:
        hub.get_run("r")
    assert (route.call_count, caught.value.status, caught.value.transient) == (1, status, False)
    assert "\x1b" not in caught.value.message


def test_all_repetitions_for_one_shard_have_a_limit_together(
    hub: AIHub, router: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aihub_runner.aihub.transport.RETRIES_PER_SHARD", 7)
    route = router.get("/v2/apps/runs/r").respond(503, headers={"Retry-After": "0"})

    def calls_for(shard: int) -> int:
        before = route.call_count
        with hub.working_for(shard), pytest.raises(ServiceError):
            hub.get_run("r")
        return route.call_count - before

    assert [calls_for(1), calls_for(1), calls_for(1), calls_for(2)] == [6, 3, 1, 6]


@pytest.mark.parametrize(
    "date", ["yesterday", "Mon, 01 Jan 0001 00:00:00 +9999", "Tue, 24 Nov 2026 00:00:00 +999999999"]
)
@pytest.mark.slow
def test_dates_that_are_none_are_passed_over(hub: AIHub, router: respx.MockRouter, date: str) -> None:
    wait = httpx.Response(503, headers={"Date": date, "Retry-After": date})
    router.get("/v2/apps/runs/r").side_effect = [wait, httpx.Response(200, json=RUN, headers={"Date": date})]
    assert hub.get_run("r").id == "r"


def test_what_creates_is_not_sent_where_it_could_not_be_recorded(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.post("/v2/apps/runs").respond(json=RUN)
    hub.may_create = False
    with pytest.raises(ServiceError, match="cannot be recorded"):
        hub.start_run("", {})
    assert not route.called


def test_reading_gives_up_in_the_end(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.get("/v2/apps/runs/r").respond(503, headers={"Retry-After": "0"})
    with pytest.raises(ServiceError) as caught:
        hub.get_run("r")
    assert route.call_count == 6
    assert caught.value.transient


def test_page_of_a_gateway_is_no_answer(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs/r").respond(200, html="<html>hello</html>")
    with pytest.raises(ServiceError, match="an HTML page instead of JSON"):
        hub.get_run("r")


@pytest.mark.parametrize("status", [300, 303, 304, 305, 399, 402, 405, 408, 410, 418, 451, 499, 500, 502, 503, 504])
def test_creating_is_lost_where_it_may_have_taken_effect(hub: AIHub, router: respx.MockRouter, status: int) -> None:
    route = router.post("/v2/batches").respond(status)
    with pytest.raises(AnswerLost):
        hub.create_batch("b", "")
    assert route.call_count == 1


@pytest.mark.parametrize(
    "answer", [httpx.Response(200, text="<html>"), httpx.Response(200, json={}), httpx.ReadTimeout("slow")]
)
def test_creating_is_lost_where_the_answer_cannot_be_read(
    hub: AIHub, router: respx.MockRouter, answer: httpx.Response | httpx.ReadTimeout
) -> None:
    route = router.post("/v2/apps/runs")
    route.side_effect = [answer]
    with pytest.raises(AnswerLost):
        hub.start_run("", {"batch_id": 1})
    assert route.call_count == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 409, 413, 415, 422, 425, 429])
def test_creating_is_sent_once_whatever_refuses_it(hub: AIHub, router: respx.MockRouter, status: int) -> None:
    route = router.post("/v2/apps/runs").respond(status, json={"message": "no"}, headers={"Retry-After": "7"})
    with pytest.raises(Refused) as caught:
        hub.start_run("", {"batch_id": 1})
    assert (route.call_count, caught.value.status, caught.value.retry_after_s) == (1, status, 7.0)
    assert not caught.value.transient


def test_creating_is_repeated_if_it_is_confirmed_as_not_sent(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.post("/v2/batches")
    route.side_effect = [httpx.ConnectError("refused"), httpx.ConnectError("refused"), httpx.Response(200, json=BATCH)]
    assert hub.create_batch("b", "w") == 7
    assert route.call_count == 3


def test_nothing_is_sent_once_we_are_asked_to_stop(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.get("/v2/batches").respond(json={"batches": []})
    hub.stop.set()
    with pytest.raises(Interrupted):
        hub.list_batches("")
    assert route.call_count == 0


def test_lists_are_read_until_a_page_is_empty(hub: AIHub, router: respx.MockRouter) -> None:
    route = router.get("/v2/batches")
    pages = [[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], [{"id": 3, "name": "c"}], []]
    route.side_effect = [httpx.Response(200, json={"batches": page}) for page in pages]
    assert [batch.id for batch in hub.list_batches("w")] == [1, 2, 3]
    assert [call.request.url.params["offset"] for call in route.calls] == ["0", "2", "3"]


def test_listed_files_that_come_in_a_circle_are_an_error(hub: AIHub, router: respx.MockRouter) -> None:
    page = {"nodes": [{"name": "a", "metadata": {"size": 1}}], "has_more": True, "next_page_token": "t"}
    router.get("/v2/batches/1/files").respond(json=page)
    with pytest.raises(ServiceError, match="returned a page twice"):
        hub.list_files(1)


def test_time_of_the_service_is_learnt_from_its_answers(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/batches").respond(json={"batches": []}, headers={"Date": "Thu, 01 Jan 2026 00:00:00 GMT"})
    hub.list_batches("")
    assert abs(hub.server_now_s() - 1_767_225_600) < 5


def test_error_shows_neither_token_nor_library_internals(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/batches").side_effect = httpx.ConnectError("refused")
    with pytest.raises(ServiceError) as caught:
        hub.list_batches("")
    text = repr(caught.value) + caught.value.message
    assert "t0ken" not in text
    assert "0x" not in text
    assert "t0ken" not in repr(CONNECTION)


@given(st.text() | st.sampled_from(["nan", "inf", "-1", "1e999", "Mon, 01 Jan 0001 00:00:00 -9999", "9" * 400]))
@pytest.mark.slow
def test_no_header_is_too_odd_for_the_clock(text: str) -> None:
    date, after_s = read_date(text), read_retry_after({"retry-after": text})
    assert date is None or date == date
    assert after_s is None or 0 <= after_s <= 3600


@pytest.mark.parametrize(
    ("retry_after", "date", "expected_s"),
    [
        ("Thu, 01 Jan 2026 00:00:07 GMT", "Thu, 01 Jan 2026 00:00:00 GMT", 7.0),
        ("Fri, 01 Jan 2066 00:00:07 GMT", "Fri, 01 Jan 2066 00:00:00 GMT", 7.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:07 GMT", 0.0),
        ("Thu, 01 Jan 2026 00:00:00 GMT", "yesterday", 0.0),
        ("inf", "", None),
        ("nan", "", None),
    ],
)
def test_date_to_wait_for_counts_from_the_clock_that_set_it(
    retry_after: str, date: str, expected_s: float | None
) -> None:
    assert read_retry_after({"Retry-After": retry_after, "Date": date}) == expected_s


def test_wait_that_is_shown_is_the_one_that_the_service_asked_all_for(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs/r").respond(429, headers={"Retry-After": "200"})
    shown: list[float] = []

    def end(_: object, wait_s: float) -> None:
        shown.append(wait_s)
        hub.stop.set()

    hub.on_retry = end
    with pytest.raises((ServiceError, Interrupted)):
        hub.get_run("r")
    assert shown == [200.0]


def test_list_that_a_cache_kept_is_asked_for_again(hub: AIHub, router: respx.MockRouter) -> None:
    answers = [("7", 8), ("86400", 8), ("1", 9), ("0", 10), ("odd", 11)]
    route = router.get("/v2/batches/1/files")
    route.side_effect = [
        httpx.Response(200, json={"nodes": [{"name": str(name)}], "has_more": False}, headers={"Age": age})
        for age, name in answers
    ]
    assert [list(hub.list_files(1)) for _ in range(3)] == [["9"], ["10"], ["11"]]
    assert {call.request.headers["Cache-Control"] for call in route.calls} == {"no-cache"}
