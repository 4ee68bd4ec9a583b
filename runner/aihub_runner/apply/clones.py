"""Which of several clones pays, if they apply at once: the one with the older batch, or the older claim on a batch."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable

from aihub_runner.apply.events import CloneAwaited, OlderBatch, OlderClaim, Reporter
from aihub_runner.apply.job import Job
from aihub_runner.apply.steps import AwaitTwin, ClaimRun, NotThere, Step, Unsure
from aihub_runner.errors import UnknownOutcome
from aihub_runner.model import Batch, Shard
from aihub_runner.plan.identity import claim_name, claim_stem
from aihub_runner.state.store import State

CLAIM_S = 3600.0  # how long to use a claim of an earlier apply


class Clones:
    """What this apply knows of other clones, by shard.

    `elders` are others' older batches of the same name. `found` are the shards whose batch was found after a lost
    response, so that it may be another clone's. `claimed` are the shards whose run somebody claims. `claims`
    are the shards whose run we claim, each with an older claim of another clone, or 0. `settled` are the shards that we
    pay for.
    """

    def __init__(self, job: Job, state: State, clock: Callable[[], float], reporter: Reporter) -> None:
        self.job, self.state, self.clock, self.reporter = job, state, clock, reporter
        self.elders: dict[int, int] = {}
        self.found: set[int] = set()
        self.claimed: set[int] = set()
        self.claims: dict[int, int] = {}
        self.settled: set[int] = set()

    def record_checked(self, shard: int, elders: Iterable[int], is_claimed: bool) -> None:
        """Record what a check of a batch found. Shards of the same names and bytes have one elder each."""
        if is_claimed:
            self.claimed.add(shard)
        taken = {elder for other, elder in self.elders.items() if other != shard}
        elder = next((elder for elder in elders if elder not in taken), None)
        if elder is not None:
            self.elders[shard] = elder

    def next_step(self, shard: Shard, batch: Batch, tag: str) -> tuple[Step, float] | None:
        """Return the step to take before a run is started, and its delay in seconds; None where we may pay."""
        if shard.id in self.settled or self.job.options.again:
            return None
        if elder := self.elders.get(shard.id):
            self.reporter.emit(OlderBatch(elder))
            return self._await(shard, batch, tag, elder), 0.0
        if shard.id in self.found and shard.id not in self.claimed:
            return self._await_owner(shard, batch, tag)
        if shard.id not in self.claimed and batch.name:
            return None  # the batch is ours, and nobody else knows it
        if shard.id not in self.claims:
            return self._claim(shard, batch, tag), 0.0
        return self._await_claims(shard, batch, tag)

    def _claim(self, shard: Shard, batch: Batch, tag: str) -> ClaimRun:
        assert batch.remote_id is not None
        target = f"claim {tag}"  # a claim is a batch, with a target of its own
        claim = shard.batch_in(target)
        if claim and not 0 < claim.since.left_s(CLAIM_S) < CLAIM_S:
            self.state.record_batch_gone(claim.id)
            claim = None
        if claim is None:
            name = claim_name(claim_stem(tag, batch.remote_id), secrets.token_hex(4))
            self.state.record_batch_intent(shard.id, target, name, 0.0, ())
            [shard] = self.state.load_shards(shard.id)
            claim = shard.batch_in(target)
        assert claim is not None
        own = frozenset(batch.name for batch in shard.batches)
        return ClaimRun(shard.id, claim.name, self.job.target.workspace, own, self.job.spec.limits.settle_s)

    def _await_claims(self, shard: Shard, batch: Batch, tag: str) -> tuple[Step, float]:
        """Wait for the run of an older claim, or else of a clone that has not seen our claim yet."""
        assert batch.remote_id is not None
        elder, settle_s = self.claims[shard.id], self.job.spec.limits.settle_s
        if elder:  # its owner waits, too, before it pays
            self.reporter.emit(OlderClaim(elder, batch.remote_id))
            return self._await(shard, batch, tag, batch.remote_id, 3 * settle_s), 0.0
        return self._await_owner(shard, batch, tag)

    def _await_owner(self, shard: Shard, batch: Batch, tag: str) -> tuple[Step, float]:
        """Wait for the run of a clone that takes our batch for its own; pay where none shows."""
        assert batch.remote_id is not None
        settle_s = self.job.spec.limits.settle_s
        self.reporter.emit(CloneAwaited(batch.remote_id, settle_s))
        return self._await(shard, batch, tag, batch.remote_id, settle_s, may_pay=True), settle_s

    def _await(
        self,
        shard: Shard,
        batch: Batch,
        tag: str,
        elder: int,
        wait_s: float = 0.0,
        *,
        may_pay: bool = False,
    ) -> AwaitTwin:
        until_s = self.clock() + (wait_s or self.job.spec.limits.settle_s)
        may_pay = may_pay or self.job.options.adopt
        return AwaitTwin(shard.id, batch.id, tag, elder, 1, until_s, may_pay, self.state.known_runs())

    def explain(self, step: AwaitTwin, outcome: NotThere | Unsure) -> UnknownOutcome:
        """Return the error for a shard that another clone should pay for, but whose run does not show."""
        why = f"batch {step.elder} of the same name is older than ours and has no run"
        if claim := self.claims.get(step.shard):
            why = f"another client claimed its run (batch {claim}), which does not show"
        message = f"shard {step.shard}: {why}{f', {outcome.why}' if isinstance(outcome, Unsure) else ''}"
        command = f"{self.job.command('apply')} --adopt"
        return UnknownOutcome(message, f"apply later; if no other client uses this spec, run `{command}`")
