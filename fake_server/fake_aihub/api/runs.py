"""Runs of apps and deployments, and their results."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.auth import context_of, user_of
from fake_aihub.api.drives import check_drive, normalise
from fake_aihub.api.lifecycle import render_run, run_phase
from fake_aihub.api.mixups import meant_run
from fake_aihub.api.service import Service, answer
from fake_aihub.api.validation import read_body, read_count, read_flag
from fake_aihub.api.webhooks import check_webhook, watch
from fake_aihub.controls.faults import hidden_since, knobs_of, page_of
from fake_aihub.world.entities import ApiError, File, Run

INCLUDES = {
    "include_review_results": "review",
    "include_confidence_scores": "confidence",
    "include_validation_results": "validation",
    "include_source_info": "source",
}
MAX_TAGS = 500
DAY_S = 86_400
PERSONAL = "My Workspace"


async def run_app(service: Service, request: Request) -> Response:
    """POST /v2/apps/runs"""
    given = await read_body(service, request)
    if bool(given.get("app_name")) == bool(given.get("app_id")):
        raise ApiError(400, "Exactly one of app_name and app_id is required.")
    if user_of(request) == "service" and not (given.get("output_workspace") or given.get("output_dir")):
        raise ApiError(400, "A service account must name output_workspace or output_dir.")
    return answer(200, _start(service, request, given))


async def run_deployment(service: Service, request: Request) -> Response:
    """POST /v2/apps/deployments/{deployment-id}/runs"""
    given = await read_body(service, request)
    if given.get("manual_upstream_integration"):
        raise ApiError(400, "The deployment has no upstream integration.")
    return answer(202, _start(service, request, given | {"deployment_id": request.path_params["deployment_id"]}))


def _start(service: Service, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    settings = given.get("settings") or {}
    if sum(map(len, settings.get("tags") or [])) > MAX_TAGS:
        raise ApiError(400, f"The tags have more than {MAX_TAGS} characters in total.")
    check_webhook(settings.get("webhook_config"))
    given = _check_input(service, context_of(request), given)
    run = service.world.start_run(context_of(request), given.get("batch_id"), given, user_of(request))
    request.scope["subject"] = run.id
    watch(service)
    return render_run(service, meant_run(service, request, run))


def _check_input(service: Service, context: str, given: dict[str, Any]) -> dict[str, Any]:
    if ("batch_id" in given) == ("input_dir" in given):
        raise ApiError(400, "Exactly one of batch_id and input_dir is required.")
    if "input_dir" in given:
        folder = check_drive(normalise(given["input_dir"]))
        if service.world.get_node(context, folder) is not None:
            raise ApiError(400, "input_dir is a file.")
        return given | {"input_dir": folder}
    named = given["batch_id"]
    batch_id = int(named[:18]) if isinstance(named, str) else named
    if not service.world.get_batch(context, batch_id).files:
        raise ApiError(400, f"Batch {batch_id} has no files.")
    return given | {"batch_id": batch_id}


async def get_run(service: Service, request: Request) -> Response:
    """GET /v2/apps/runs/{run_id}"""
    run = service.world.get_run(context_of(request), request.path_params["run_id"])
    service.world.poll_run(run)
    return answer(200, render_run(service, meant_run(service, request, run)))


async def list_runs(service: Service, request: Request) -> Response:
    """GET /v2/apps/runs. The window starts 24 hours ago by default."""
    asked = request.query_params
    from_ns = read_count(request, "from_timestamp", int(service.clock.now_s()) - DAY_S) * 1_000_000_000
    to_ns = read_count(request, "to_timestamp", int(service.clock.now_s()) + 1) * 1_000_000_000
    limit, offset = read_count(request, "limit", 100, 1000), read_count(request, "offset", 0)
    since_ns = hidden_since(request.scope, service.clock.now_s()) * 1e9
    context = context_of(request)
    runs = [
        render_run(service, run)
        for run in service.world.runs.values()
        if run.context == context and from_ns <= run.started_ns <= min(to_ns, since_ns) and _matches(run, request)
    ]
    statuses = asked.getlist("status")
    chosen = [run for run in runs if not statuses or run["status"] in statuses]
    sort_by = asked.get("sort_by", "start_timestamp")
    chosen.sort(key=lambda run: run[sort_by], reverse=asked.get("order", "DESCENDING") == "DESCENDING")
    return answer(200, {"runs": page_of(request.scope, chosen, offset, limit).entries})


def _matches(run: Run, request: Request) -> bool:
    asked = request.query_params
    workspaces = asked.getlist("output_workspaces")
    given = {"output_workspace": PERSONAL, **run.request, "run_id": run.id, "username": run.user}
    if workspaces and given["output_workspace"] not in workspaces:
        return False
    filters = ("app_id", "app_name", "deployment_id", "run_id", "username")
    return all(given.get(key) == asked[key] for key in filters if key in asked)


async def delete_run(service: Service, request: Request) -> Response:
    """DELETE /v2/apps/runs/{run_id}"""
    context, world = context_of(request), service.world
    run = world.get_run(context, request.path_params["run_id"])
    wanted = {part: read_flag(request, f"delete_{part}", True) for part in ("db_data", "input", "output", "logs")}
    jobs = {
        f"delete_{name}_dir_job_id": world.start_job(context).id if wanted[part] else None
        for part, name in (("input", "input"), ("output", "output"), ("logs", "log"))
    }
    if wanted["input"]:
        _delete_input(service, run)
    if wanted["db_data"] or wanted["output"]:
        world.delete_run(run, with_record=wanted["db_data"])
    return answer(202, jobs)


def _delete_input(service: Service, run: Run) -> None:
    if run.batch_id is None:
        service.world.delete_node(run.context, run.request["input_dir"])
    elif run.batch_id in service.world.batches:
        service.world.delete_batch(service.world.batches[run.batch_id])


async def get_results(service: Service, request: Request) -> Response:
    """GET /v2/apps/runs/{run_id}/results: one page of files, sorted by name."""
    run = meant_run(service, request, service.world.get_run(context_of(request), request.path_params["run_id"]))
    phase = run_phase(run, service.clock.now_ns(), service.run_seconds)
    if phase.status != "COMPLETE":
        raise ApiError(400, f"Run {run.id} is {phase.status}; only a completed run has results.")
    if not run.has_output:
        raise ApiError(404, f"The output of run {run.id} was deleted.")
    offset = read_count(request, "file_offset", 0)
    include = frozenset(name for key, name in INCLUDES.items() if read_flag(request, key, False))
    files = sorted(run.files, key=lambda file: file.name)
    dropped = {fault.name for fault in knobs_of(request.scope, "drop_answer")}
    files = [file for file in files if file.name not in dropped]
    page = page_of(request.scope, files, offset, service.page_files)
    # In a thread, because reading the text of files can take a while.
    rendered, whole = await asyncio.to_thread(_extract, service, run, page.entries, include)
    settings = run.request.get("settings") or {}
    body: dict[str, Any] = {
        "id": run.id,
        "status": phase.status,
        "message": phase.message or None,
        "start_timestamp": run.started_ns,
        "finish_timestamp": phase.finished_ns,
        **({} if run.batch_id is None else {"batch_id": str(run.batch_id)}),
        "files": rendered,
        "keys": {"custom": (settings.get("keys") or {}).get("custom") or {}},
        "has_more": page.has_more,
    }
    return answer(200, body | whole)


def _extract(
    service: Service, run: Run, page: list[File], include: frozenset[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a page of files and the results of the run as a whole."""
    files = [service.extraction.render_file(run, file, include, service.world) for file in page]
    return files, service.extraction.render_whole(run, include, service.world)
