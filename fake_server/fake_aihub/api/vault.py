"""The secrets of an organisation's vault. Their values are neither stored nor returned."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.auth import context_of, user_of
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import read_body
from fake_aihub.world.entities import ApiError, Secret

FACTS = ("alias", "description", "allowed_workspaces_type", "allowed_workspaces")


async def list_secrets(service: Service, request: Request) -> Response:
    """GET /v2/aihub/secrets"""
    context, asked = context_of(request), request.query_params
    found = [
        _render(secret)
        for secret in service.world.secrets.values()
        if secret.context == context
        and asked.get("alias", secret.alias) == secret.alias
        and ("workspace" not in asked or _is_allowed(secret, asked["workspace"]))
    ]
    return answer(200, {"secrets": found})


def _is_allowed(secret: Secret, workspace: str) -> bool:
    kind = secret.allowed_workspaces_type
    return kind == "ALL" or (kind == "SOME" and workspace in secret.allowed_workspaces)


def _render(secret: Secret) -> dict[str, Any]:
    return {
        "alias": secret.alias,
        "description": secret.description,
        "allowed_workspaces_type": secret.allowed_workspaces_type,
        "allowed_workspaces": secret.allowed_workspaces,
        "org": secret.context,
        "created_at": secret.created_ms,
        "created_by": secret.created_by,
        "updated_at": secret.updated_ms,
        "last_updated_by": secret.updated_by,
    }


async def create_secret(service: Service, request: Request) -> Response:
    """POST /v2/aihub/secrets"""
    given = await read_body(service, request)
    context = context_of(request)
    if (context, given["alias"]) in service.world.secrets:
        raise ApiError(409, "A secret with this alias exists.")
    return _set(service, request, given)


async def update_secret(service: Service, request: Request) -> Response:
    """PATCH /v2/aihub/secrets"""
    given = await read_body(service, request)
    old = service.world.get_secret(context_of(request), given["alias"])
    return _set(service, request, {"allowed_workspaces": old.allowed_workspaces} | given)


def _set(service: Service, request: Request, given: dict[str, Any]) -> Response:
    facts = {key: given[key] for key in FACTS if key in given}
    kind = given.get("allowed_workspaces_type")
    if kind == "SOME" and not facts.get("allowed_workspaces"):
        raise ApiError(400, "allowed_workspaces is required for the type SOME.")
    if kind in ("ALL", "NONE"):
        facts["allowed_workspaces"] = []
    service.world.set_secret(context_of(request), user_of(request), facts)
    request.scope["subject"] = facts["alias"]
    return Response(status_code=200)


async def delete_secret(service: Service, request: Request) -> Response:
    """DELETE /v2/aihub/secrets"""
    context, alias = context_of(request), (await read_body(service, request))["alias"]
    service.world.get_secret(context, alias)
    service.world.delete_secret(context, alias)
    request.scope["subject"] = alias
    return Response(status_code=200)
