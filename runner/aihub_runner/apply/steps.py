"""What every step and every outcome is, and the outcomes that several kinds of steps have.

Steps and outcomes are values that can travel to another process. `tasks/` has them, with the functions from
(client, step) to an outcome. Every step may be repeated, except `CreateBatch` and `StartRun`.
"""

from __future__ import annotations

from msgspec import Struct

from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.errors import RunnerError, ServiceError


class Step(Struct, frozen=True):
    """What a worker does once for a shard."""

    shard: int


class Outcome(Struct, frozen=True):
    """What came of a step."""


class Declined(Outcome, frozen=True):
    """A request that must not be repeated was refused, perhaps by a gateway that delivered it."""

    error: ServiceError


class Lost(Outcome, frozen=True):
    """A request that must not be repeated was sent at `at_s` (for display), and its response was lost."""

    at_s: float
    error: RunnerError


class NotThere(Outcome, frozen=True):
    """Checked, and confirmed absent."""


class Unsure(Outcome, frozen=True):
    """Not found, but the check cannot be trusted."""

    why: str


class Gone(Outcome, frozen=True):
    """The batch or run does not exist on the service any more."""


class RunSeen(Outcome, frozen=True):
    """What the service reports about a run; `twins` are the ids of other runs with the same tag."""

    info: RunInfo
    twins: tuple[str, ...] = ()


class Failed(Outcome, frozen=True):
    """The step was not done."""

    error: RunnerError


class Stopped(Outcome, frozen=True):
    """The step was cancelled because the job is stopping."""


class Again(Outcome, frozen=True):
    """A worker elsewhere did not do the step, or nobody knows whether it did: do it again."""


class LeftHere(Outcome, frozen=True):
    """A worker elsewhere cannot read the file, or not as it was planned: do the step in this process."""

    why: str
