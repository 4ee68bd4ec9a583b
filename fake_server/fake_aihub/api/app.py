"""The ASGI application: routing, authorization, and responses to unknown routes."""

from __future__ import annotations

import asyncio
import traceback

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fake_aihub.api import audit, batches, controls, drives, jobs, live, observe, runs, uploads, vault, webhooks
from fake_aihub.api.auth import check_token
from fake_aihub.api.callers import check_caller
from fake_aihub.api.cors import allow_origin
from fake_aihub.api.limits import limit_bodies
from fake_aihub.api.nearest import describe_nearest
from fake_aihub.api.routes import Handler, Routes
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import check_query, check_text
from fake_aihub.contract.operations import OPERATIONS
from fake_aihub.controls.faults import date_of, knobs_of
from fake_aihub.world.entities import ApiError


class HeaderNames(dict[bytes, bytes]):
    """The names of headers as servers of this API write them: clients may look them up in a dictionary."""

    def __missing__(self, name: bytes) -> bytes:
        return self.setdefault(name, name.title())


# uvicorn looks for "connection" as it is.
WRITTEN = HeaderNames({name.lower(): name for name in (b"last-modified", b"connection", b"X-Fake-AIHub")})
HANDLERS: dict[str, Handler] = {
    "createBatch": batches.create_batch,
    "listBatches": batches.list_batches,
    "createMultipartUploadSession": uploads.open_session,
    "uploadMultipartPart": uploads.put_part,
    "commitMultipartUploadSession": uploads.end_session,
    "pollBatchesJob": jobs.get_job,
    "getBatch": batches.get_batch,
    "deleteBatch": batches.delete_batch,
    "listFiles": batches.list_files,
    "addFileToBatch": batches.put_file,
    "deleteFileFromBatch": batches.delete_file,
    "runApp": runs.run_app,
    "listRuns": runs.list_runs,
    "runDeployment": runs.run_deployment,
    "getRunStatus": runs.get_run,
    "deleteRun": runs.delete_run,
    "getRunResults": runs.get_results,
    "jobStatus": jobs.get_job,
    "readFile": drives.read_file,
    "writeFile": drives.write_file,
    "getFileMetadata": drives.get_metadata,
    "deleteFileOrFolder": drives.delete_node,
    "listSecrets": vault.list_secrets,
    "createSecret": vault.create_secret,
    "updateSecret": vault.update_secret,
    "deleteSecret": vault.delete_secret,
    "getAuditLogs": audit.list_entries,
}
CONTROLS: list[tuple[list[str], str, Handler]] = [
    (["GET", "DELETE"], "/_fake/journal", observe.journal),
    (["POST"], "/_fake/verify", observe.verify),
    (["GET"], "/_fake/coverage", observe.coverage),
    (["GET"], "/_fake/ledger", controls.ledger),
    (["GET", "POST", "DELETE"], "/_fake/faults", controls.faults),
    (["GET", "POST"], "/_fake/clock", controls.clock),
    (["GET", "POST"], "/_fake/checkpoint", controls.checkpoint),
    (["POST"], "/_fake/rewind", controls.rewind),
    (["GET", "POST", "DELETE"], "/_fake/next-run", controls.next_run),
    (["POST"], "/_fake/runs/{run_id}", controls.set_run),
    (["POST"], "/_fake/units", controls.units),
    (["GET"], "/_fake/webhooks", controls.webhooks),
    (["GET"], "/_fake/", live.page),
    (["GET"], "/_fake/events", live.events),
    (["GET"], "/_fake/journal/{number}", live.exchange),
]
AROUND_PAGE: list[tuple[list[str], str, Handler]] = [
    (["GET"], "/", live.redirect),
    (["GET"], "/_fake", live.redirect),
    (["GET"], "/_fake/page.css", live.page),
    (["GET"], "/_fake/page.js", live.page),
]
CONTROL_QUERY = {"format"}  # of the journal


def create_app(service: Service) -> ASGIApp:
    """Return the application for a service: the API below `/api`, and the controls below `/_fake`."""
    routes = Routes()
    for operation in OPERATIONS:
        routes.add(operation.id, [operation.method], operation.path, HANDLERS[operation.id])
    for methods, path, handler in [*CONTROLS, *AROUND_PAGE]:
        routes.add("", methods, path, handler)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await _respond(service, routes, Request(scope, receive))
        await response(scope, receive, send)

    guarded = service.faults.guard(app, lambda scope: _route(routes, scope)[0])
    watched = service.journal.watch(limit_bodies(guarded), service.coverage.note, *service.watchers)
    return _signed(service, allow_origin(watched, service.cors) if service.cors else watched)


def _route(routes: Routes, scope: Scope) -> tuple[str, Handler | None]:
    methods, scope["path_params"] = routes.find(scope)
    scope["methods"] = sorted(methods)
    return methods.get(scope["method"], ("", None))


async def _respond(service: Service, routes: Routes, request: Request) -> Response:
    operation, handler = _route(routes, request.scope)
    request.scope["operation"] = operation
    try:
        if handler is None:
            return _refuse_route(request)
        if operation:
            check_token(request, service.any_token)
            service.check_rate()
            if service.latency_ms:
                await asyncio.sleep(service.latency_ms / 1000)
            check_text(request)
            check_query(service, request)
        elif request.scope["path"].startswith("/_fake"):
            check_caller(request.scope, service.allowed_hosts)
            if unknown := sorted(request.query_params.keys() - CONTROL_QUERY):
                raise ApiError(400, f"Unknown parameter {unknown[0][:100]}; allowed: {', '.join(CONTROL_QUERY)}.")
        for fault in knobs_of(request.scope, "expire"):
            service.world.expire(fault.name, service.clock.now_s() - fault.seconds)
        webhooks.watch(service)  # for runs that started before a restart
        answered = await handler(service, request)
        audit.note_request(service, request)
        return answered
    except ApiError as error:
        refused = answer(error.status, {"message": error.message})
        refused.headers.update(error.headers)
        return refused
    except ClientDisconnect:
        request.scope["faulted"] = True  # nobody sees this response
        return Response(status_code=499)


def _refuse_route(request: Request) -> Response:
    if methods := request.scope["methods"]:
        refused = answer(405, {"message": f"{request.scope['path']} does not support {request.method}."})
        refused.headers["Allow"] = ", ".join(methods)
        return refused
    return answer(501, {"message": describe_nearest(request.method, request.scope["path"])})


def _signed(service: Service, app: ASGIApp) -> ASGIApp:
    """Add the fake's headers to each response: `Date` and `X-Fake-AIHub`. Answer 500 if the fake has a bug."""

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def send_signed(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = [*message.get("headers", []), (b"x-fake-aihub", b"1")]
                date = date_of(scope, service.clock.now_s())
                if date is not None and not any(name == b"date" for name, _ in headers):
                    headers.append((b"date", date))
                message["headers"] = [(WRITTEN[name], value) for name, value in headers]
            await send(message)

        try:
            await app(scope, receive, send_signed)
        except Exception:
            traceback.print_exc()
            if has_begun:
                raise
            await answer(500, {"message": "The fake has a bug. See its output for details."})(
                scope, receive, send_signed
            )

    return signed
