"""What becomes of runs and jobs: pure functions of time."""

from __future__ import annotations

from dataclasses import dataclass

from fake_server.world import Job, Run

MAX_FILES = 1000
JOB_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Phase:
    """How a run is at some time; `finished_ns` is None while it goes on."""

    status: str
    message: str
    finished_ns: int | None


def run_phase(run: Run, now_ns: int, run_seconds: float) -> Phase:
    """Tell how a run is: by its script if it has one, else complete after a while."""
    script = run.script
    if "set_ns" in script:
        return _ended(script.get("status", "COMPLETE"), script.get("message", ""), script["set_ns"])
    end_ns = run.started_ns + int(script.get("after_s", run_seconds) * 1e9)
    if script.get("hold") or now_ns < end_ns:
        return Phase("RUNNING", "", None)
    if len(run.files) > MAX_FILES:
        return Phase("FAILED", f"{len(run.files)} files are more than the {MAX_FILES} of one run", end_ns)
    return _ended(script.get("status", "COMPLETE"), script.get("message", ""), end_ns)


def _ended(status: str, message: str, at_ns: int) -> Phase:
    final = status in ("COMPLETE", "FAILED", "CANCELLED")
    return Phase(status, message, at_ns if final else None)


def job_state(job: Job, now_s: float) -> str:
    """Tell how a deletion is."""
    return "COMPLETE" if now_s >= job.started_s + JOB_SECONDS else "RUNNING"
