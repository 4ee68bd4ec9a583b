"""How long to wait for the workers of a cluster."""

from __future__ import annotations

from msgspec import Struct


class Patience(Struct, frozen=True):
    """How long to wait, in seconds.

    A task may be begun `life_s` after it was handed out, and what was begun may arrive `late_s` later: the worker's own
    time limits for a connection and for data that nobody acknowledges. A worker that is silent for `silent_s` gets no
    new tasks, and others do those that it has. Without any worker for `nobody_s`, or any word from the scheduler, the
    cluster is lost. Once the job stops, tasks have `stop_s` to end.
    """

    life_s: float = 30.0
    late_s: float = 30.0
    silent_s: float = 10.0
    nobody_s: float = 60.0
    stop_s: float = 10.0
