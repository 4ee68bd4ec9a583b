"""Claim a run on a batch that other clones know, too: of two that start it at once, only one may pay.

A claim is an empty batch, since the service puts only the creation of batches in order. The oldest claim pays.
"""

from __future__ import annotations

import time

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo
from aihub_runner.apply.steps import Claimed, ClaimRun, Outcome
from aihub_runner.errors import AnswerLost, Refused, ServiceError
from aihub_runner.plan.identity import stem_of_claim
from aihub_runner.system.moment import DAY_S

LOOK_EVERY_S = 0.5
DAY_MS = DAY_S * 1000


def claim_run(client: AIHub, step: ClaimRun) -> Outcome:
    """Create the claim unless it exists, and return the oldest claim of another client. It may be repeated."""
    claims = _list_claims(client, step)
    if not _find_own(claims, step):
        try:
            client.create_batch(step.name, step.workspace)
        except AnswerLost:
            pass  # the list says whether it exists
        except Refused as error:
            raise ServiceError(error.message, error.hint, status=error.status) from None
        claims = _list_until_seen(client, step)
    own = _find_own(claims, step)
    if own is None:
        raise ServiceError(f"batch {step.name}: created, but not listed", "apply again in a while")
    elders = (claim for claim in claims if claim.name not in step.own and claim.id < own.id)
    return Claimed(next((claim.id for claim in elders if not _has_lapsed(claim, own)), 0))


def _list_claims(client: AIHub, step: ClaimRun) -> list[BatchInfo]:
    batches = client.list_batches(step.workspace)
    claims = (batch for batch in batches if stem_of_claim(batch.name) == stem_of_claim(step.name))
    return sorted(claims, key=lambda claim: claim.id)


def _list_until_seen(client: AIHub, step: ClaimRun) -> list[BatchInfo]:
    """List claims until a new one of our own shows, for at most `settle_s`."""
    until_s = time.monotonic() + step.settle_s
    while True:
        claims = _list_claims(client, step)
        if _find_own(claims, step) or time.monotonic() >= until_s:
            return claims
        client.pause(LOOK_EVERY_S)


def _find_own(claims: list[BatchInfo], step: ClaimRun) -> BatchInfo | None:
    return next((claim for claim in claims if claim.name == step.name), None)


def _has_lapsed(elder: BatchInfo, own: BatchInfo) -> bool:
    """Whether an older claim is a day older than ours by the service's own records: its owner has died."""
    return (own.created_at_ms or 0) - (elder.created_at_ms or own.created_at_ms or 0) > DAY_MS
