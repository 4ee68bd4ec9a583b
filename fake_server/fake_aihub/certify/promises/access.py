"""Promises about tokens, contexts, errors and headers."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from fake_aihub.certify.promise import NO_BATCH, NO_UUID, Check, check_equal, check_that
from fake_aihub.certify.session import Hub

FILE = "/v2/batches/{}/files/{}"


def service_time(hub: Hub) -> float:
    """Return the service's time, in Unix seconds."""
    date = hub.target.send("GET", "/v2/batches", params={"limit": 1}).headers["Date"]
    return parsedate_to_datetime(date).timestamp()


def check_unit(hub: Hub, what: str, value: Any, per_second: int) -> None:
    """Check that a timestamp is a whole number in the given unit, within a day of the service's time."""
    check_that(f"type of {what}", type(value) is int, value, "a whole number")
    distance_s = abs(value / per_second - service_time(hub))
    check_that(what, distance_s < 86_400, value, f"the current time, {per_second} per second")


def creating_without_a_token_is_401(hub: Hub) -> None:
    answer = hub.target.send("POST", "/v2/batches", token="", json={"name": hub.new_name()})
    check_equal("status", hub.remember("batch", answer, "id").status, 401)


def unknown_context_shows_nothing(hub: Hub) -> None:
    answer = hub.target.send("GET", "/v2/batches/{}", hub.batch, context=f"certify-{hub.mark}")
    check_that("status", answer.status in (401, 403, 404), answer.status, "401, 403 or 404")


def unknown_context_lists_nothing(hub: Hub) -> None:
    batch = hub.batch
    answer = hub.target.send("GET", "/v2/batches", context=f"certify-{hub.mark}")
    if answer.status == 200:
        check_that("batches", all(item["id"] != batch for item in answer.json()["batches"]), batch, "not in the list")
    else:
        check_that("status", answer.status in (401, 403, 404), answer.status, "200, 401, 403 or 404")


def answers_have_a_date(hub: Hub) -> None:
    date = hub.target.send("GET", "/v2/batches", params={"limit": 1}).headers.get("Date", "")
    check_that("Date", date.endswith("GMT"), date, "a date in GMT")
    hub.measured["the service's clock differs by s"] = [
        round(parsedate_to_datetime(date).timestamp() - datetime.now(UTC).timestamp())
    ]


def errors_have_a_date(hub: Hub) -> None:
    date = hub.target.send("GET", "/v2/batches/{}", NO_BATCH).headers.get("Date", "")
    check_that("Date", date.endswith("GMT"), date, "a date in GMT")


def answers_say_that_they_are_json(hub: Hub) -> None:
    answer = hub.target.send("GET", "/v2/batches", params={"limit": 1})
    content_type = answer.headers.get("Content-Type", "")
    check_that("Content-Type", content_type.startswith("application/json"), content_type, "application/json")
    check_that("body", isinstance(answer.json(), dict), answer.json(), "an object")


def body_that_is_not_json_is_400(hub: Hub) -> None:
    json_type = {"Content-Type": "application/json"}
    answer = hub.target.send("POST", "/v2/batches", data=b'{"name": ', headers=json_type)
    hub.refused(hub.remember("batch", answer, "id"), 400)


CHECKS: dict[str, Check] = {
    "wrong-token-is-401": lambda hub: hub.ask(401, "GET", "/v2/batches", token="Bearer certify-no-such-token"),
    "missing-token-is-401": lambda hub: hub.ask(401, "GET", "/v2/batches", token=""),
    "basic-authorization-is-401": lambda hub: hub.ask(401, "GET", "/v2/batches", token="Basic Y2VydGlmeTp4"),
    "unknown-batch-is-404": lambda hub: hub.refuses([404], "GET", "/v2/batches/{}", NO_BATCH),
    "files-of-an-unknown-batch-are-404": lambda hub: hub.refuses([404], "GET", "/v2/batches/{}/files", NO_BATCH),
    "deleting-an-unknown-batch-is-404": lambda hub: hub.refuses([404], "DELETE", "/v2/batches/{}", NO_BATCH),
    "unknown-run-is-404": lambda hub: hub.refuses([404], "GET", "/v2/apps/runs/{}", NO_UUID),
    "results-of-an-unknown-run-are-404": lambda hub: hub.refuses([404], "GET", "/v2/apps/runs/{}/results", NO_UUID),
    "deleting-an-unknown-run-is-404": lambda hub: hub.refuses([404], "DELETE", "/v2/apps/runs/{}", NO_UUID),
    "unknown-job-is-404": lambda hub: hub.refuses([404], "GET", "/v2/jobs/{}", NO_UUID),
    "unknown-batches-job-is-404": lambda hub: hub.refuses([404], "GET", "/v2/batches/jobs/{}", NO_UUID),
    "batch-id-that-is-no-number-is-refused": lambda hub: hub.refuses([400, 404], "GET", "/v2/batches/{}", "certify"),
    "file-for-an-unknown-batch-is-404": lambda hub: hub.refuses([404], "PUT", FILE, NO_BATCH, "a.txt", data=b"x"),
}
