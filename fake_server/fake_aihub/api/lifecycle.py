"""The life cycle of runs and jobs: pure functions of time, polls and scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from annotated_types import Interval

from fake_aihub.api.service import Service
from fake_aihub.contract.shapes import Count, Shape
from fake_aihub.world.clock import END_S
from fake_aihub.world.entities import ApiError, Job, Run

MAX_FILES = 1000
JOB_SECONDS = 0.1
FINAL = ("COMPLETE", "FAILED", "CANCELLED")
WAITING = ("STOPPED_AT_CHECKPOINT", "PAUSED")
Status = Literal["RUNNING", "STOPPED_AT_CHECKPOINT", "PAUSED", "COMPLETE", "FAILED", "CANCELLED"]
STATUSES = get_args(Status)
CHANGE = Shape({"status": Status, "message": str, "action": Literal["release", "refuse"]})
SCRIPT = Shape(
    {
        "status": Status,
        "message": str,
        "after_s": Annotated[int | float, Interval(ge=0, lt=END_S), "a number of seconds from 0"],
        "after_polls": Count,
        "hold": bool,
        "times": Count,
        "app": str,
        "file": str,
    }
)


@dataclass(frozen=True, slots=True)
class Phase:
    """The status of a run at a point in time. `finished_ns` is None until the run ends."""

    status: str
    message: str
    finished_ns: int | None


def check_script(script: Mapping[str, Any]) -> None:
    """Check a script for runs. Raises ApiError 400 if it is invalid."""
    for mistake in SCRIPT.mistakes(script):
        raise ApiError(400, mistake.show())
    if sum(key in script for key in ("after_s", "after_polls", "hold")) > 1:
        raise ApiError(400, "Only one of after_s, after_polls and hold is allowed.")


def run_phase(run: Run, now_ns: int, run_seconds: float) -> Phase:
    """Return the phase of a run: as its script says, else COMPLETE after the configured duration."""
    end_ns = _end_ns(run, now_ns, run_seconds)
    if end_ns is None:
        return Phase("RUNNING", "", None)
    if len(run.files) > MAX_FILES and "set_ns" not in run.script:
        return Phase("FAILED", f"{len(run.files)} files exceed the limit of {MAX_FILES} per run", end_ns)
    status = run.script.get("status", "COMPLETE")
    return Phase(status, run.script.get("message", ""), end_ns if status in FINAL else None)


def _end_ns(run: Run, now_ns: int, run_seconds: float) -> int | None:
    script = run.script
    for key in ("set_ns", "end_ns"):
        if key in script:
            return int(script[key])
    if script.get("hold"):
        return None
    if "after_polls" in script:
        return run.polled_ns if run.polls > script["after_polls"] else None
    end_ns = run.started_ns + int(script.get("after_s", run_seconds) * 1e9)
    return end_ns if now_ns >= end_ns else None


def render_run(service: Service, run: Run) -> dict[str, Any]:
    """Return a run in the format of the API."""
    phase = run_phase(run, service.clock.now_ns(), service.run_seconds)
    return {
        "id": run.id,
        "status": phase.status,
        "start_timestamp": run.started_ns,
        "finish_timestamp": phase.finished_ns,
        "msg": phase.message or None,
        "batch_id": run.batch_id,
        "input_dir": run.request.get("input_dir"),
        "app_id": run.request.get("app_id"),
        "deployment_id": run.request.get("deployment_id"),
        "tags": (run.request.get("settings") or {}).get("tags") or [],
    }


def change_run(service: Service, run: Run, given: dict[str, Any]) -> None:
    """Set a run's status, release it, or reject its review. Raises ApiError 400, or 409 in the wrong status."""
    status = run_phase(run, service.clock.now_ns(), service.run_seconds).status
    action, message = given.get("action"), given.get("message", "")
    for mistake in CHANGE.mistakes(given):
        raise ApiError(400, mistake.show())
    if ("status" in given) == (action is not None):
        raise ApiError(400, "Expected either status or action.")
    if action is None:
        service.world.set_run(run.id, {"status": given["status"], "message": message})
    elif status in FINAL or (action == "refuse" and status != "STOPPED_AT_CHECKPOINT"):
        raise ApiError(409, f"The run is {status}.")
    else:
        _go_on(service, run, status, action, message)


def _go_on(service: Service, run: Run, status: str, action: str, message: str) -> None:
    if status not in WAITING:
        service.world.release_run(run.id)
    elif action == "release":
        service.world.set_run(run.id, {"status": "COMPLETE", "message": message, "reviewed": True})
    else:
        service.world.set_run(run.id, {"status": "CANCELLED", "message": message or "The review was rejected."})


def job_state(job: Job, now_s: float) -> str:
    """Return the state of a deletion job."""
    return "COMPLETE" if now_s >= job.started_s + JOB_SECONDS else "RUNNING"
