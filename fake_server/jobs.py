"""Asynchronous deletions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fake_server.lifecycle import job_state
from fake_server.service import Service, answer, context_of
from fake_server.world import ApiError


async def get_job(service: Service, request: Request) -> Response:
    """GET /v2/jobs/{job_id} and GET /v2/batches/jobs/{job_id}"""
    job = service.world.jobs.get(request.path_params["job_id"])
    if job is None or job.context != context_of(request):
        raise ApiError(404, "The job does not exist.")
    state = job_state(job, service.clock.now_s())
    return answer(200, {"state": state, "message": f"The deletion is {state.lower()}."})
