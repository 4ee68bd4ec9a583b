"""The ASGI application: which request goes where, who may ask, and what an unknown route is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fake_server import batches, control, jobs, observe, runs, uploads
from fake_server.nearest import describe_nearest
from fake_server.service import Service, answer
from fake_server.world import ApiError

Handler = Callable[[Service, Request], Awaitable[Response]]

OPERATIONS: list[tuple[str, str, str, Handler]] = [
    ("createBatch", "POST", "/v2/batches", batches.create_batch),
    ("listBatches", "GET", "/v2/batches", batches.list_batches),
    ("createMultipartUploadSession", "POST", "/v2/batches/multipart-upload", uploads.open_session),
    (
        "uploadMultipartPart",
        "PUT",
        "/v2/batches/multipart-upload/sessions/{session_id}/parts/{part_num}",
        uploads.put_part,
    ),
    ("commitMultipartUploadSession", "POST", "/v2/batches/multipart-upload/sessions/{session_id}", uploads.end_session),
    ("pollBatchesJob", "GET", "/v2/batches/jobs/{job_id}", jobs.get_job),
    ("getBatch", "GET", "/v2/batches/{batch_id}", batches.get_batch),
    ("deleteBatch", "DELETE", "/v2/batches/{batch_id}", batches.delete_batch),
    ("listFiles", "GET", "/v2/batches/{batch_id}/files", batches.list_files),
    ("addFileToBatch", "PUT", "/v2/batches/{batch_id}/files/{filename:path}", batches.put_file),
    ("deleteFileFromBatch", "DELETE", "/v2/batches/{batch_id}/files/{filename:path}", batches.delete_file),
    ("runApp", "POST", "/v2/apps/runs", runs.run_app),
    ("listRuns", "GET", "/v2/apps/runs", runs.list_runs),
    ("runDeployment", "POST", "/v2/apps/deployments/{deployment_id}/runs", runs.run_deployment),
    ("getRunStatus", "GET", "/v2/apps/runs/{run_id}", runs.get_run),
    ("deleteRun", "DELETE", "/v2/apps/runs/{run_id}", runs.delete_run),
    ("getRunResults", "GET", "/v2/apps/runs/{run_id}/results", runs.get_results),
    ("jobStatus", "GET", "/v2/jobs/{job_id}", jobs.get_job),
]
CONTROLS: list[tuple[list[str], str, Handler]] = [
    (["GET", "DELETE"], "/_fake/journal", observe.journal),
    (["POST"], "/_fake/verify", observe.verify),
    (["GET"], "/_fake/coverage", observe.coverage),
    (["GET"], "/_fake/ledger", control.ledger),
    (["GET", "POST", "DELETE"], "/_fake/faults", control.faults),
    (["POST"], "/_fake/clock", control.clock),
    (["POST"], "/_fake/next-run", control.next_run),
    (["POST"], "/_fake/runs/{run_id}", control.set_run),
    (["POST"], "/_fake/units", control.units),
]


def create_app(service: Service) -> ASGIApp:
    """Make the application over a service. Both `/api/v2/…` and `/v2/…` are served."""
    routes = [
        Route(prefix + path, _endpoint(service, handler, operation), methods=[method], name=operation)
        for prefix in ("/api", "")
        for operation, method, path, handler in OPERATIONS
    ]
    routes += [Route(path, _endpoint(service, handler, ""), methods=methods) for methods, path, handler in CONTROLS]
    handlers: dict[Any, Any] = {ApiError: _refuse, HTTPException: _unknown}
    app: ASGIApp = Starlette(routes=routes, exception_handlers=handlers)
    guarded = service.faults.guard(app, lambda scope: _operation_of(routes, scope))
    return _signed(service, service.journal.watch(guarded, service.coverage.note))


def _endpoint(service: Service, handler: Handler, operation: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request.scope["operation"] = operation
        if operation:
            _check_token(request)
            service.check_rate()
            if service.latency_ms:
                await asyncio.sleep(service.latency_ms / 1000)
        try:
            return await handler(service, request)
        except ClientDisconnect:
            request.scope["faulted"] = True  # nobody sees this answer
            return Response(status_code=499)

    return endpoint


def _operation_of(routes: list[Route], scope: Scope) -> str:
    return next((route.name for route in routes if route.matches(scope)[0] is Match.FULL), "")


def _check_token(request: Request) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.startswith("fake-"):
        raise ApiError(401, "Unauthorized. The fake takes tokens that begin with fake-, and no others.")


async def _refuse(request: Request, error: ApiError) -> Response:
    refused = answer(error.status, {"message": error.message})
    if error.status == 429:
        refused.headers["Retry-After"] = "1"
    return refused


async def _unknown(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return answer(405, {"message": f"{request.method} is not for {request.url.path}."})
    return answer(501, {"message": describe_nearest(request.method, request.url.path)})


def _signed(service: Service, app: ASGIApp) -> ASGIApp:
    """Put the fake's own headers on each answer: its time, and that it is the fake."""

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(service.clock.now_s(), usegmt=True).encode()
                message["headers"] = [*message.get("headers", []), (b"date", date), (b"x-fake-aihub", b"1")]
            await send(message)

        await app(scope, receive, send_signed)

    return signed
