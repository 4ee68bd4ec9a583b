"""What a test holds of a fake: its world, its clock, its faults, and what was sent."""

from __future__ import annotations

from typing import Any

from fake_aihub.api.batches import render_batch
from fake_aihub.api.controls import render_ledger
from fake_aihub.api.lifecycle import change_run, check_script, render_run
from fake_aihub.api.service import Service
from fake_aihub.controls.faults import Faults
from fake_aihub.world.entities import ApiError, Run


class Handle:
    """One fake, looked at and told what to do without requests."""

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
        """Every request and answer so far."""
        return [exchange.as_dict() for exchange in list(self.service.journal.exchanges)]

    def clear_journal(self) -> None:
        """Forget the requests so far."""
        self.service.journal.clear()

    def checkpoint(self, name: str = "") -> str:
        """Keep everything as it is now under a name, and give that."""
        return self.service.take_checkpoint(name)

    def rewind(self, name: str = "") -> None:
        """Take everything back that happened since a checkpoint, the last if none is named."""
        self.service.rewind(name)

    @property
    def ledger(self) -> dict[str, Any]:
        """How often each side effect took place."""
        return render_ledger(self.service)

    def unused(self) -> list[dict[str, Any]]:
        """List what was said and never came about: fault scripts, and how runs go."""
        return [*self.faults.unused(), *({"next_run": script} for script in self.world.unused_scripts)]

    def next_run(self, **script: Any) -> None:
        """Say how the next run goes: status, message; after_s, after_polls or hold; `times` for more than one.

        With `times` 0 it is said of all runs to come;
        of an `app` or with a `file` (a pattern of its name) only, if given. Raises ApiError for what cannot be done.
        """
        check_script(script)
        self.world.add_script(script)

    def set_run(self, run_id: str, status: str, message: str = "") -> None:
        """Say how a run is from now on."""
        change_run(self.service, self._find_run(run_id), {"status": status, "message": message})

    def release(self, run_id: str) -> None:
        """Let a run that is held or waits for review go on. Raises ApiError where it does neither."""
        change_run(self.service, self._find_run(run_id), {"action": "release"})

    def refuse(self, run_id: str, message: str = "") -> None:
        """Refuse the review that a run waits for. Raises ApiError where it does not wait."""
        change_run(self.service, self._find_run(run_id), {"action": "refuse", "message": message})

    def _find_run(self, run_id: str) -> Run:
        if run_id not in self.world.runs:
            raise ApiError(404, f"Run {run_id!r} does not exist.")
        return self.world.runs[run_id]

    def batches(self) -> list[dict[str, Any]]:
        """List all batches of all contexts."""
        return [render_batch(batch) for batch in list(self.world.batches.values())]

    def runs(self) -> list[dict[str, Any]]:
        """List all runs of all contexts, the oldest first."""
        return [render_run(self.service, run) for run in list(self.world.runs.values())]

    def files(self, batch_id: int) -> dict[str, str]:
        """Return the names and SHA-256 of what lies in a batch."""
        return {file.name: file.digest for file in list(self.world.batches[batch_id].files.values())}
