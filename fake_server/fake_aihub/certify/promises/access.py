"""Promises about tokens, contexts, errors and headers."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from fake_aihub.certify.promise import check_equal, check_that
from fake_aihub.certify.session import Hub

NO_UUID = "00000000-0000-4000-8000-000000000000"


def service_time(hub: Hub) -> float:
    """Return the service's time, in Unix seconds."""
    date = hub.target.send("GET", "/v2/batches", params={"limit": 1}).headers["Date"]
    return parsedate_to_datetime(date).timestamp()


def check_unit(hub: Hub, what: str, value: Any, per_second: int) -> None:
    """Check that a timestamp is a whole number in the given unit, within a day of the service's time."""
    check_that(f"type of {what}", type(value) is int, value, "a whole number")
    distance_s = abs(value / per_second - service_time(hub))
    check_that(what, distance_s < 86_400, value, f"the current time, {per_second} per second")


def wrong_token_is_401(hub: Hub) -> None:
    check_equal("status", hub.target.send("GET", "/v2/batches", token="Bearer certify-no-such-token").status, 401)


def missing_token_is_401(hub: Hub) -> None:
    check_equal("status", hub.target.send("GET", "/v2/batches", token="").status, 401)


def basic_authorization_is_401(hub: Hub) -> None:
    check_equal("status", hub.target.send("GET", "/v2/batches", token="Basic Y2VydGlmeTp4").status, 401)


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
    date = hub.target.send("GET", "/v2/batches/{}", 999_999_999_999).headers.get("Date", "")
    check_that("Date", date.endswith("GMT"), date, "a date in GMT")


def answers_say_that_they_are_json(hub: Hub) -> None:
    answer = hub.target.send("GET", "/v2/batches", params={"limit": 1})
    content_type = answer.headers.get("Content-Type", "")
    check_that("Content-Type", content_type.startswith("application/json"), content_type, "application/json")
    check_that("body", isinstance(answer.json(), dict), answer.json(), "an object")


def unknown_batch_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/batches/{}", 999_999_999_999), 404)


def files_of_an_unknown_batch_are_404(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/batches/{}/files", 999_999_999_999), 404)


def file_for_an_unknown_batch_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("PUT", "/v2/batches/{}/files/{}", 999_999_999_999, "a.txt", data=b"x"), 404)


def deleting_an_unknown_batch_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("DELETE", "/v2/batches/{}", 999_999_999_999), 404)


def unknown_run_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/apps/runs/{}", NO_UUID), 404)


def results_of_an_unknown_run_are_404(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/apps/runs/{}/results", NO_UUID), 404)


def deleting_an_unknown_run_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("DELETE", "/v2/apps/runs/{}", NO_UUID), 404)


def unknown_job_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/jobs/{}", NO_UUID), 404)


def unknown_batches_job_is_404(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/batches/jobs/{}", NO_UUID), 404)


def batch_id_that_is_no_number_is_refused(hub: Hub) -> None:
    hub.refused(hub.target.send("GET", "/v2/batches/{}", "certify"), 400, 404)


def body_that_is_not_json_is_400(hub: Hub) -> None:
    json_type = {"Content-Type": "application/json"}
    answer = hub.target.send("POST", "/v2/batches", data=b'{"name": ', headers=json_type)
    hub.refused(hub.remember("batch", answer, "id"), 400)
