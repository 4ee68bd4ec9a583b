"""Batches and their files."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.auth import context_of, user_of
from fake_aihub.api.mixups import meant_batch
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import check_name, read_body, read_count
from fake_aihub.contract.shapes import is_digits
from fake_aihub.controls.faults import hidden_since, page_of
from fake_aihub.world.entities import ApiError, Batch, File

PAGE_BATCHES = 100
PAGE_FILES = 100
MAX_PAGE_FILES = 1000


def render_batch(batch: Batch) -> dict[str, Any]:
    """Return a batch in the format of the API."""
    return {
        "id": batch.id,
        "name": batch.name,
        "workspace": batch.workspace,
        "mount_point": "Instabase Drive",
        "repo_owner": batch.owner,
        "batch_owner": batch.owner,
        "created_at_ms": batch.created_ms,
        "updated_at_ms": batch.updated_ms,
        "path_suffix": f"batches/{batch.id}",
    }


def find_batch(service: Service, request: Request) -> Batch:
    """Return the batch in the path of a request. Raises ApiError 404."""
    text = request.path_params["batch_id"]
    if not is_digits(text):
        raise ApiError(404, f"Batch with ID {text[:50]} does not exist.")
    return service.world.get_batch(context_of(request), int(text[:18]))


async def create_batch(service: Service, request: Request) -> Response:
    """POST /v2/batches"""
    given = await read_body(service, request)
    user = user_of(request)
    if user == "service" and not given.get("workspace"):
        raise ApiError(400, "A service account must name a workspace.")
    workspace = given.get("workspace", "My Workspace")
    batch = service.world.create_batch(context_of(request), given["name"], workspace, user)
    return answer(200, {"id": meant_batch(service, request, batch).id})


async def list_batches(service: Service, request: Request) -> Response:
    """GET /v2/batches"""
    limit = read_count(request, "limit", PAGE_BATCHES, 1000)
    offset = read_count(request, "offset", 0)
    asked, context = request.query_params, context_of(request)
    found = [
        batch
        for batch in service.world.batches.values()
        if batch.context == context
        and asked.get("workspace", batch.workspace) == batch.workspace
        and asked.get("username", batch.owner) == batch.owner
    ]
    since_ms = hidden_since(request.scope, service.clock.now_s()) * 1000
    found = [batch for batch in found if batch.created_ms < since_ms]
    page = page_of(request.scope, found, offset, limit)
    return answer(200, {"batches": [render_batch(batch) for batch in page.entries]})


async def get_batch(service: Service, request: Request) -> Response:
    """GET /v2/batches/{batch_id}"""
    return answer(200, render_batch(meant_batch(service, request, find_batch(service, request))))


async def delete_batch(service: Service, request: Request) -> Response:
    """DELETE /v2/batches/{batch_id}"""
    return answer(202, {"job_id": service.world.delete_batch(find_batch(service, request)).id})


async def list_files(service: Service, request: Request) -> Response:
    """GET /v2/batches/{batch_id}/files"""
    batch = meant_batch(service, request, find_batch(service, request))
    size = max(1, read_count(request, "page_size", PAGE_FILES, MAX_PAGE_FILES))
    start = _read_token(request.query_params.get("start_token"))
    since_s = hidden_since(request.scope, service.clock.now_s())
    files = sorted((file for file in batch.files.values() if file.modified_s < since_s), key=lambda file: file.name)
    page = page_of(request.scope, files, start, size)
    body: dict[str, Any] = {"nodes": [_render_file(batch, file) for file in page.entries], "has_more": page.has_more}
    if page.has_more:
        body["next_page_token"] = make_token(page.next_offset)
    return answer(200, body)


def make_token(offset: int) -> str:
    """Return the token of the page of files that starts at an offset."""
    return urlsafe_b64encode(f"files from {offset}".encode()).decode()


def _read_token(token: str | None) -> int:
    if token is None:
        return 0
    try:
        offset = int(urlsafe_b64decode(token).removeprefix(b"files from ")[:18])
    except ValueError:
        offset = -1
    if offset < 0 or make_token(offset) != token:
        raise ApiError(400, "start_token must be the next_page_token of a page.")
    return offset


def _render_file(batch: Batch, file: File) -> dict[str, Any]:
    return {
        "full_path": f"/fake/batches/{batch.id}/{file.name}",
        "metadata": {"node_type": "file", "size": file.size, "modified_timestamp": file.modified_s},
        "perms": {"can_read": True, "can_write": True, "can_delete": True},
        "name": file.name,
    }


async def put_file(service: Service, request: Request) -> Response:
    """PUT /v2/batches/{batch_id}/files/{filename}"""
    batch, name = find_batch(service, request), check_name(request.path_params["filename"])
    digest, size = await service.world.blobs.store(request.stream())
    find_batch(service, request)  # it may have been deleted while the body arrived
    service.world.put_file(batch.id, name, digest, size)
    return Response(status_code=204)


async def delete_file(service: Service, request: Request) -> Response:
    """DELETE /v2/batches/{batch_id}/files/{filename}"""
    batch = find_batch(service, request)
    service.world.delete_file(batch, check_name(request.path_params["filename"]))
    return Response(status_code=202)
