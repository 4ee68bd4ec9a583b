"""What every step and every outcome is, and the outcomes that several kinds of steps have.

Steps and outcomes are values that can travel to another process. `tasks/` has them, with the functions from
(client, step) to an outcome. Every step may be repeated, except `CreateBatch` and `StartRun`.
"""

from __future__ import annotations

from dataclasses import dataclass

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.errors import RunnerError, ServiceError


@dataclass(frozen=True, slots=True)
class Step:
    """What a worker does once for a shard."""

    shard: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step."""


@dataclass(frozen=True, slots=True)
class Declined(Outcome):
    """A request that must not be repeated was refused, perhaps by a gateway that delivered it."""

    error: ServiceError


@dataclass(frozen=True, slots=True)
class Lost(Outcome):
    """A request that must not be repeated was sent at `at_s` (for display), and its response was lost."""

    at_s: float
    error: RunnerError


@dataclass(frozen=True, slots=True)
class NotThere(Outcome):
    """Checked, and confirmed absent."""


@dataclass(frozen=True, slots=True)
class Unsure(Outcome):
    """Not found, but the check cannot be trusted."""

    why: str


@dataclass(frozen=True, slots=True)
class Gone(Outcome):
    """The batch or run does not exist on the service any more."""


@dataclass(frozen=True, slots=True)
class RunSeen(Outcome):
    """What the service reports about a run; `twins` are the ids of other runs with the same tag."""

    info: RunInfo
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed(Outcome):
    """The step was not done."""

    error: RunnerError


@dataclass(frozen=True, slots=True)
class Stopped(Outcome):
    """The step was cancelled because the job is stopping."""
