"""Compute how long each phase of each batch took, from recorded facts. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.model import Batch, Run, Shard

PHASES = ("upload", "wait", "run", "fetch")
NS = 1e9


class Bar(Struct, frozen=True):
    """A run of a batch, and the end of each phase; None for a phase that is not over, or whose end is unknown.

    `begun_s` is the start in Unix seconds of the server's clock, 0 if unknown. `ends_s` are the ends of the upload,
    of the wait for the run's start, of the run, and of the fetch. `paused_s` is how long no apply worked in each phase;
    the service runs meanwhile, so it is 0 for the run.
    """

    batch: int | None
    run: str
    status: str
    message: str
    files: int
    attempt: int
    begun_s: float
    ends_s: tuple[float | None, ...]
    paused_s: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)

    def durations_s(self) -> list[float | None]:
        """Return the duration of each phase in seconds, without pauses; None if unknown."""
        return [
            None if lasted is None else lasted - pause
            for lasted, pause in zip(self.spans_s(), self.paused_s, strict=True)
        ]

    def spans_s(self) -> list[float | None]:
        """Return the time from the end of each phase to that of the next, in seconds; None if unknown."""
        moments = [self.begun_s or None, *self.ends_s]
        return [None if a is None or b is None else max(0.0, b - a) for a, b in pairwise(moments)]


def make_timeline(
    shards: Iterable[Shard], run_key: str, include: str, pauses: Sequence[tuple[float, float]] = ()
) -> list[Bar]:
    """Return the runs of a key as bars, ordered by start.

    Some of the service's times have whole seconds only, so a phase never ends before it starts. A run on files that
    were uploaded for an earlier run has no upload. For results that were fetched several times, with another
    `include`, the first fetch counts. `pauses` are when no apply worked, each with its begin and end.
    """
    bars = []
    for shard in shards:
        first = min((run.id for run in shard.runs), default=0)
        for run in shard.runs_of(run_key):
            batch = next((batch for batch in shard.batches if batch.id == run.batch), None)
            bars.append(_with_pauses(_lay_out(shard, batch, run, include, uploads=run.id == first), pauses))
    return sorted(bars, key=lambda bar: (bar.begun_s, bar.run))


def _with_pauses(bar: Bar, pauses: Sequence[tuple[float, float]]) -> Bar:
    moments = [bar.begun_s or None, *bar.ends_s]
    paused = [
        0.0 if phase == "run" else _overlap_s(begin, end, pauses)
        for phase, (begin, end) in zip(PHASES, pairwise(moments), strict=True)
    ]
    return replace(bar, paused_s=tuple(paused))


def _overlap_s(begin: float | None, end: float | None, pauses: Sequence[tuple[float, float]]) -> float:
    """Return how much of a span the pauses take. They are in order, and there may be thousands of spans and pauses."""
    if begin is None or end is None:
        return 0.0
    found_s = 0.0
    for first, last in pauses[bisect_left(pauses, begin, key=itemgetter(1)) :]:
        if first >= end:
            break
        found_s += max(0.0, min(end, last) - max(begin, first))
    return min(found_s, max(0.0, end - begin))


def _lay_out(shard: Shard, batch: Batch | None, run: Run, include: str, *, uploads: bool) -> Bar:
    sent_s = batch.sent_s if batch and uploads else 0.0
    begun_s = batch.intent_s if batch and sent_s else run.intent_s or run.started_ns / NS
    fetched_s = min((at for at in run.fetched.values() if at), default=0.0) if run.fetched.get(include) else 0.0
    known = [sent_s or begun_s, run.started_ns / NS, run.finished_ns / NS, fetched_s]
    ends: list[float | None] = []
    latest = begun_s
    for moment in known:
        latest = max(latest, moment)
        ends.append(latest if moment else None)
    remote_id = batch.remote_id if batch else None
    return Bar(
        remote_id,
        run.remote_id or "",
        run.status or "unknown",
        run.message,
        len(shard.members),
        run.attempt,
        begun_s,
        tuple(ends),
    )


def total_s(bars: Iterable[Bar]) -> dict[str, float]:
    """Return the sum of the known durations of each phase, in seconds, over all batches."""
    totals = dict.fromkeys(PHASES, 0.0)
    for bar in bars:
        for phase, duration in zip(PHASES, bar.durations_s(), strict=True):
            totals[phase] += duration or 0.0
    return totals


def total_pause_s(bars: Iterable[Bar]) -> float:
    """Return the sum of all pauses, in seconds, over all batches."""
    return sum(sum(bar.paused_s) for bar in bars)
