"""Promises about secrets and the audit log. They are skipped if the token may not use them."""

from __future__ import annotations

from typing import Any

from fake_aihub.certify.http import Answer
from fake_aihub.certify.promise import Check, Skipped, check_equal, check_has, check_that
from fake_aihub.certify.promises.access import check_unit, service_time
from fake_aihub.certify.session import Hub

SECRETS = "/v2/aihub/secrets"
AUDIT = "/v1/auditlogs"


def create(hub: Hub, **body: Any) -> Answer:
    """Create a secret that no workspace may use, or as the body says. Raises Skipped if that is not allowed."""
    value = f"certify-value-{hub.mark}"
    hub.hidden["value"] = value
    whole = {"alias": hub.new_name(), "value": value, "allowed_workspaces_type": "NONE"} | body
    is_new = ("secret", whole["alias"]) not in hub.made
    if is_new:  # Before the response, which may be lost.
        hub.note("secret", whole["alias"])
    answer = hub.target.send("POST", SECRETS, json=whole)
    if is_new and 400 <= answer.status < 500:
        hub.forget("secret", whole["alias"])
    if answer.status in (401, 403):
        raise Skipped("this token may not create secrets")
    return answer


def new_secret(hub: Hub, **body: Any) -> str:
    """Create a secret and return its alias."""
    alias = hub.new_name()
    check_equal("status", create(hub, alias=alias, **body).status, 200)
    return alias


def listed(hub: Hub, alias: str) -> list[dict[str, Any]]:
    """List the secrets with an alias."""
    found: list[dict[str, Any]] = hub.ask(200, "GET", SECRETS, params={"alias": alias})["secrets"]
    return found


def find(hub: Hub, alias: str) -> dict[str, Any]:
    """Poll until a secret appears."""
    found: dict[str, Any] = hub.eventually("a secret is in the list", lambda: next(iter(listed(hub, alias)), None))
    return found


def secret_is_found_by_its_alias(hub: Hub) -> None:
    alias = new_secret(hub, description="A secret")
    check_has(find(hub, alias), alias=alias, description="A secret", allowed_workspaces_type="NONE")


def secret_values_are_never_returned(hub: Hub) -> None:
    alias = hub.new_name()
    answers = [create(hub, alias=alias)]
    find(hub, alias)
    answers.append(hub.target.send("PATCH", SECRETS, json={"alias": alias, "value": hub.hidden["value"]}))
    answers.append(hub.target.send("GET", SECRETS, params={"alias": alias}))
    leaks = [hub.hidden["value"].encode() in answer.body for answer in answers]
    check_equal("responses that contain the value", leaks, [False, False, False])


def secret_times_are_milliseconds(hub: Hub) -> None:
    secret = find(hub, new_secret(hub))
    check_unit(hub, "created_at", int(secret["created_at"]), 1000)
    check_unit(hub, "updated_at", int(secret["updated_at"]), 1000)


def changed_secret_keeps_the_rest(hub: Hub) -> None:
    alias = new_secret(hub, description="before")
    hub.ask(200, "PATCH", SECRETS, json={"alias": alias, "description": "after", "value": None})
    secret = hub.eventually(
        "a secret shows its change",
        lambda: next((one for one in listed(hub, alias) if one["description"] == "after"), None),
    )
    check_equal("allowed_workspaces_type", secret["allowed_workspaces_type"], "NONE")


def deleted_secret_is_gone(hub: Hub) -> None:
    alias = new_secret(hub)
    find(hub, alias)
    hub.ask(200, "DELETE", SECRETS, json={"alias": alias})
    hub.forget("secret", alias)
    hub.eventually("a deleted secret is in no list", lambda: not listed(hub, alias))


def entries(hub: Hub, **body: Any) -> list[dict[str, Any]]:
    """List entries of the audit log. Raises Skipped if that is not allowed."""
    answer = hub.target.send("POST", AUDIT, json=body)
    if answer.status in (401, 403, 404):
        raise Skipped("this token may not read the audit log, or the log does not exist")
    check_equal("status", answer.status, 200)
    check_equal("status in the response", answer.json()["status"], "OK")
    found: list[dict[str, Any]] = answer.json()["data"]["results"]
    return found


def audit_log_has_who_and_when(hub: Hub) -> None:
    for entry in entries(hub, start=0, size=3, log_type=None, email=None):
        values = [entry[key] for key in ("timestamp_millis", "email", "user_ip", "log_type")]
        check_that("entry", all(isinstance(value, str) for value in values), list(entry), "four texts")
        check_unit_of_log(entry["timestamp_millis"])


def check_unit_of_log(text: str) -> None:
    """Check that a time is in milliseconds: no other unit gives a date in this century."""
    is_milliseconds = text.isascii() and text.isdigit() and 946_684_800_000 <= int(text) < 4_102_444_800_000
    check_that("timestamp_millis", is_milliseconds, text, "milliseconds since 1970, as a string")


def audit_log_is_limited_by_size(hub: Hub) -> None:
    found = entries(hub, size=2)
    check_that("entries", len(found) <= 2, len(found), "at most 2")


def audit_log_is_paged_by_start(hub: Hub) -> None:
    until = {"end_time": str(int(service_time(hub) * 1000))}

    def is_cut() -> bool:
        return entries(hub, start=0, size=1, **until) + entries(hub, start=1, size=2, **until) == entries(
            hub, start=0, size=3, **until
        )

    # Entries may be added to the log late.
    hub.eventually("pages of the audit log fit together", is_cut)


def audit_log_is_filtered_by_type(hub: Hub) -> None:
    types = {entry["log_type"] for entry in entries(hub, log_type="org_secrets_v2", size=50)}
    check_that("log_type", types <= {"org_secrets_v2"}, sorted(types), "org_secrets_v2 only")


CHECKS: dict[str, Check] = {
    "secret-without-a-value-is-400": lambda hub: hub.refused(create(hub, value=None), 400),
    "unknown-kind-of-workspaces-is-400": lambda hub: hub.refused(create(hub, allowed_workspaces_type="CERTIFY"), 400),
    "some-workspaces-are-named": lambda hub: hub.refused(create(hub, allowed_workspaces_type="SOME"), 400),
    "second-secret-of-an-alias-is-refused": lambda hub: hub.refused(create(hub, alias=new_secret(hub))),
    "changing-an-unknown-secret-is-refused": lambda hub: hub.refuses([], "PATCH", SECRETS, json={"alias": hub.mark}),
    "deleting-an-unknown-secret-is-refused": lambda hub: hub.refuses([], "DELETE", SECRETS, json={"alias": hub.mark}),
    "audit-log-is-filtered-by-time": lambda hub: check_equal(
        "entries of 2001", entries(hub, start_time="978307200000", end_time="978307260000"), []
    ),
}
