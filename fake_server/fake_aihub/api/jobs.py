"""Asynchronous deletions."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fake_aihub.api.auth import context_of
from fake_aihub.api.lifecycle import job_state
from fake_aihub.api.service import Service, answer
from fake_aihub.world.entities import ApiError, Job


async def get_job(service: Service, request: Request) -> Response:
    """GET /v2/jobs/{job_id} and GET /v2/batches/jobs/{job_id}"""
    job = service.world.jobs.get(request.path_params["job_id"])
    if job is None or job.context != context_of(request):
        raise ApiError(404, "The job does not exist.")
    state = job_state(job, service.clock.now_s())
    return answer(200, {"state": state, "message": f"The deletion is {state.lower()}."})


def job_url(request: Request, job: Job) -> str:
    """Return the URL of a job's state."""
    root = str(request.url).partition("/v2/")[0]
    return f"{root}/v2/jobs/{job.id}"
