"""The audit log: who did what."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.auth import context_of, user_of
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import read_body
from fake_aihub.world.entities import AuditEntry

PAGE_ENTRIES = 100
WHOLE_TIME = {"start_time": "0", "end_time": "9" * 18}
READS = ("GET", "HEAD")
LOG_TYPES = {
    "runApp": "app_v2",
    "deleteRun": "app_v2",
    "runDeployment": "app_deployment_run_v2",
    "createSecret": "org_secrets_v2",
    "updateSecret": "org_secrets_v2",
    "deleteSecret": "org_secrets_v2",
}


def email_of(user: str) -> str:
    """Return the e-mail address of a user."""
    return f"{user}@aihub.example"


def note_request(service: Service, request: Request) -> None:
    """Log a successful request that may have changed something."""
    operation = request.scope["operation"]
    if not operation or operation == "getAuditLogs" or request.method in READS:
        return
    service.world.note(
        context=context_of(request),
        user=user_of(request),
        address=request.client.host if request.client else "",
        log_type=LOG_TYPES.get(operation, "api_v2"),
        operation=operation,
        subject=request.scope.get("subject", request.scope["path"]),
    )


async def list_entries(service: Service, request: Request) -> Response:
    """POST /v1/auditlogs"""
    given = await read_body(service, request)
    start, size = given.get("start", 0), given.get("size", PAGE_ENTRIES)
    from_ms, to_ms = (int(given.get(key, default)[:18]) for key, default in WHOLE_TIME.items())
    context = context_of(request)
    found = [
        entry
        for entry in reversed(service.world.audit)
        if entry.context == context
        and given.get("log_type", entry.log_type) == entry.log_type
        and given.get("email", email_of(entry.user)) == email_of(entry.user)
        and from_ms <= entry.now_ms <= to_ms
    ]
    return answer(200, {"status": "OK", "data": {"results": [_render(one) for one in found[start : start + size]]}})


def _render(entry: AuditEntry) -> dict[str, Any]:
    return {
        "timestamp_millis": str(entry.now_ms),
        "email": email_of(entry.user),
        "user_ip": entry.address,
        "log_type": entry.log_type,
        "operation": entry.operation,
        "subject": entry.subject,
    }
