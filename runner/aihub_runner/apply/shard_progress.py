"""What this apply knows of each shard beyond the recorded facts. It ends with the process."""

from __future__ import annotations

from msgspec import Struct


class ShardProgress(Struct):
    """Progress of one shard, which works on one attempt.

    `outstanding` counts its steps in flight. A shard that `is_parked` is skipped for the rest of this apply. `is_stale`
    says that some of its files changed, `is_checked` that its batch was just found right. `found_batch` is the row of
    the batch that was found after a lost response. `absent_batch` and `absent_run` are rows that are confirmed absent.
    `has_asked_batch` and `has_asked_run` say what this process itself requested. `polled` is the run that was polled,
    first at `polled_s` (by the engine's clock), `polls` times. `fetched` is the attempt whose results were fetched.
    """

    attempt: int = 1
    outstanding: int = 0
    is_stale: bool = False
    is_parked: bool = False
    is_checked: bool = False
    has_asked_batch: bool = False
    has_asked_run: bool = False
    found_batch: int = 0
    absent_batch: int = 0
    absent_run: int = 0
    polled: int = 0
    polled_s: float = 0.0
    polls: int = 0
    fetched: int = 0

    # How often something happened. `first_refused_s` is when a request was first refused, `not_before_s` when to ask
    # again (by the monotonic clock).
    batches_created: int = 0
    checks: int = 0
    lost: int = 0
    refused: int = 0
    first_refused_s: float = 0.0
    not_before_s: float = 0.0

    # Other clones: `elder` is another's older batch of the same name, `others` are those that were run with other
    # content. `is_found` says that the batch was found after a lost response, so that it may be another's, `is_claimed`
    # that another claims the run. `claim` is a claim older than ours, 0 if ours is the oldest, None before we claim it.
    # `is_settled` says that we pay.
    # `has_turn` says that no other client may change our kept batch meanwhile.
    elder: int = 0
    others: frozenset[int] = frozenset()
    is_found: bool = False
    is_claimed: bool = False
    claim: int | None = None
    is_settled: bool = False
    has_turn: bool = False
