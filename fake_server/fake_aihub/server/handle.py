"""The handle that a test has on a fake: its world, clock, faults and journal."""

from __future__ import annotations

from typing import Any

from fake_aihub.api.batches import render_batch
from fake_aihub.api.controls import render_ledger
from fake_aihub.api.lifecycle import change_run, check_script, render_run
from fake_aihub.api.service import Service
from fake_aihub.controls.faults import Faults
from fake_aihub.world.entities import ApiError, Run


class Handle:
    """One fake. Inspect and control it without sending requests."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.clock = service.clock
        self.world = service.world

    @property
    def faults(self) -> Faults:
        """The fault scripts."""
        return self.service.faults

    @property
    def journal(self) -> list[dict[str, Any]]:
        """Every request and response so far."""
        return [exchange.as_dict() for exchange in list(self.service.journal.exchanges)]

    def clear_journal(self) -> None:
        """Clear the journal."""
        self.service.journal.clear()

    def checkpoint(self, name: str = "") -> str:
        """Save a checkpoint of the current state and return its name."""
        return self.service.take_checkpoint(name)

    def rewind(self, name: str = "") -> None:
        """Rewind to a checkpoint, by default to the last one."""
        self.service.rewind(name)

    @property
    def ledger(self) -> dict[str, Any]:
        """The number of times each side effect happened."""
        return render_ledger(self.service)

    def unused(self) -> list[dict[str, Any]]:
        """List unused fault scripts and unused run scripts."""
        return [*self.faults.unused(), *({"next_run": script} for script in self.world.unused_scripts)]

    def next_run(self, **script: Any) -> None:
        """Script the next run: status, message; after_s, after_polls or hold; `times` for more than one run.

        `times` 0 applies to all future runs. `app` and `file` (a file name pattern) restrict the script to matching
        runs. Raises ApiError for an invalid script.
        """
        check_script(script)
        self.world.add_script(script)

    def set_run(self, run_id: str, status: str, message: str = "") -> None:
        """Set the status of a run."""
        change_run(self.service, self._find_run(run_id), {"status": status, "message": message})

    def release(self, run_id: str) -> None:
        """Release a run that is held or waits for review. Raises ApiError if it does neither."""
        change_run(self.service, self._find_run(run_id), {"action": "release"})

    def refuse(self, run_id: str, message: str = "") -> None:
        """Reject the review that a run waits for. Raises ApiError if it does not wait for one."""
        change_run(self.service, self._find_run(run_id), {"action": "refuse", "message": message})

    def _find_run(self, run_id: str) -> Run:
        if run_id not in self.world.runs:
            raise ApiError(404, f"Run {run_id!r} does not exist.")
        return self.world.runs[run_id]

    def batches(self) -> list[dict[str, Any]]:
        """List the batches of all contexts."""
        return [render_batch(batch) for batch in list(self.world.batches.values())]

    def runs(self) -> list[dict[str, Any]]:
        """List the runs of all contexts, oldest first."""
        return [render_run(self.service, run) for run in list(self.world.runs.values())]

    def files(self, batch_id: int) -> dict[str, str]:
        """Return the names and SHA-256 digests of the files in a batch."""
        return {file.name: file.digest for file in list(self.world.batches[batch_id].files.values())}
