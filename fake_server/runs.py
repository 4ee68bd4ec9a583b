"""Runs of apps and deployments, and their results."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from fake_server.faults import hidden_since, knobs_of, shifted
from fake_server.lifecycle import run_phase
from fake_server.service import Service, answer, context_of, read_count, read_json, user_of
from fake_server.world import ApiError, File, Run

TYPES: dict[str, Any] = {
    "app_name": str,
    "app_id": str,
    "owner": str,
    "batch_id": int,
    "input_dir": str,
    "version": str,
    "output_workspace": str,
    "output_dir": str,
    "settings": dict,
    "manual_upstream_integration": bool,
}
INCLUDES = {
    "include_review_results": "review",
    "include_confidence_scores": "confidence",
    "include_validation_results": "validation",
    "include_source_info": "source",
}
MAX_TAGS = 500
DAY_S = 86_400


def render_run(service: Service, run: Run) -> dict[str, Any]:
    """Render a run as the API tells of it."""
    phase = run_phase(run, service.clock.now_ns(), service.run_seconds)
    return {
        "id": run.id,
        "status": phase.status,
        "start_timestamp": run.started_ns,
        "finish_timestamp": phase.finished_ns,
        "msg": phase.message or None,
        "batch_id": run.batch_id,
        "input_dir": None,
        "app_id": run.request.get("app_id"),
        "deployment_id": run.request.get("deployment_id"),
        "tags": (run.request.get("settings") or {}).get("tags") or [],
    }


async def run_app(service: Service, request: Request) -> Response:
    """POST /v2/apps/runs"""
    given = await read_json(request, TYPES)
    if ("app_name" in given) == ("app_id" in given):
        raise ApiError(400, "Exactly one of app_name and app_id is required.")
    if user_of(request) == "service" and not {"output_workspace", "output_dir"} & given.keys():
        raise ApiError(400, "A service account must name output_workspace or output_dir.")
    return answer(200, _start(service, request, given))


async def run_deployment(service: Service, request: Request) -> Response:
    """POST /v2/apps/deployments/{deployment-id}/runs"""
    given = await read_json(request, TYPES)
    return answer(202, _start(service, request, given | {"deployment_id": request.path_params["deployment_id"]}))


def _start(service: Service, request: Request, given: dict[str, Any]) -> dict[str, Any]:
    if "batch_id" not in given:
        raise ApiError(501 if "input_dir" in given else 400, "batch_id is required; input_dir is not imitated.")
    tags = (given.get("settings") or {}).get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ApiError(400, "settings.tags is not a list of strings.")
    if sum(map(len, tags)) > MAX_TAGS:
        raise ApiError(400, f"The tags together are longer than {MAX_TAGS} characters.")
    batch = service.world.get_batch(context_of(request), given["batch_id"])
    if not batch.files:
        raise ApiError(400, f"Batch {batch.id} holds no files.")
    return render_run(service, service.world.start_run(batch, given))


async def get_run(service: Service, request: Request) -> Response:
    """GET /v2/apps/runs/{run_id}"""
    return answer(200, render_run(service, service.world.get_run(context_of(request), request.path_params["run_id"])))


async def list_runs(service: Service, request: Request) -> Response:
    """GET /v2/apps/runs; the window begins 24 hours ago unless told."""
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
    if sort_by not in ("start_timestamp", "status"):
        raise ApiError(400, "sort_by is start_timestamp or status.")
    chosen.sort(key=lambda run: run[sort_by], reverse=asked.get("order", "DESCENDING") == "DESCENDING")
    start = shifted(request.scope, offset, limit)
    return answer(200, {"runs": chosen[start : start + limit]})


def _matches(run: Run, request: Request) -> bool:
    asked = request.query_params
    workspaces = asked.getlist("output_workspaces")
    given = {**run.request, "run_id": run.id, "username": "fake-user"}
    wanted = {key: asked[key] for key in ("app_id", "app_name", "deployment_id", "run_id", "username") if key in asked}
    if workspaces and run.request.get("output_workspace") not in workspaces:
        return False
    return all(given.get(key) == value for key, value in wanted.items())


async def delete_run(service: Service, request: Request) -> Response:
    """DELETE /v2/apps/runs/{run_id}; deleting its input deletes the batch."""
    context = context_of(request)
    run = service.world.get_run(context, request.path_params["run_id"])
    jobs: dict[str, str | None] = {}
    for part in ("input", "output", "logs"):
        wanted = request.query_params.get(f"delete_{part}", "true") == "true"
        name = "delete_log_dir_job_id" if part == "logs" else f"delete_{part}_dir_job_id"
        jobs[name] = service.world.start_job(context).id if wanted else None
    if jobs["delete_input_dir_job_id"] and run.batch_id in service.world.batches:
        service.world.delete_batch(service.world.batches[run.batch_id])
    service.world.delete_run(run)
    return answer(202, jobs)


async def get_results(service: Service, request: Request) -> Response:
    """GET /v2/apps/runs/{run_id}/results, a page of files at a time, by name."""
    run = service.world.get_run(context_of(request), request.path_params["run_id"])
    phase = run_phase(run, service.clock.now_ns(), service.run_seconds)
    if phase.status != "COMPLETE":
        raise ApiError(400, f"Run {run.id} is {phase.status}; only a completed run has results.")
    offset = read_count(request, "file_offset", 0)
    asked = request.query_params
    include = frozenset(name for key, name in INCLUDES.items() if asked.get(key, "false").lower() == "true")
    files = sorted(run.files, key=lambda file: file.name)
    dropped = {fault.name for fault in knobs_of(request.scope, "drop_answer")}
    files = [file for file in files if file.name not in dropped]
    offset = shifted(request.scope, offset, service.page_files)
    page = files[offset : offset + service.page_files]
    # In a thread, since reading what the files say can take a while.
    rendered, whole = await asyncio.to_thread(_extract, service, run, page, include)
    settings = run.request.get("settings") or {}
    body: dict[str, Any] = {
        "id": run.id,
        "status": phase.status,
        "message": phase.message or None,
        "start_timestamp": run.started_ns,
        "finish_timestamp": phase.finished_ns,
        "batch_id": str(run.batch_id),
        "files": rendered,
        "keys": {"custom": (settings.get("keys") or {}).get("custom") or {}},
        "has_more": offset + service.page_files < len(files),
    }
    return answer(200, body | whole)


def _extract(
    service: Service, run: Run, page: list[File], include: frozenset[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Render a page of files, and what is said of the run as a whole."""
    blobs = service.world.blobs
    files = [service.extraction.render_file(run, file, include, blobs) for file in page]
    return files, service.extraction.render_whole(run, include, blobs)
