"""Compute identities: fingerprints of shards, keys of runs, and the names made of them.

Everything here is pure, and must always return the same value for the same input: a changed value would pay for work
again. A better method gets another `VERSION`, which is recorded with each fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from typing import Any

from aihub_runner.model import Member, Shard, Target
from aihub_runner.spec.model import Spec

VERSION = 1
TAG_PREFIX = "aihub-runner"
PLAIN = "plain"  # the name of a fetch without includes
MEMBER_HEX = 16
_MEMBER = f'["member",{VERSION},'

_NONCE = re.compile("-[0-9a-f]{8}$")
_TAG = re.compile(rf"{TAG_PREFIX}:([0-9a-f]{{64}}):([0-9a-f]{{16}}):([1-9][0-9]{{0,8}})")


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode


def _digest(value: object) -> str:
    return hashlib.sha256(_encode(value).encode()).hexdigest()


def fingerprint_members(members: Iterable[Member]) -> str:
    """Return the fingerprint of a shard, 64 hex digits, from the names and identities of its members."""
    pairs = sorted((member.name, member.identity) for member in members)
    return _digest(["shard", VERSION, pairs])


def short_identity(identity: str) -> str:
    """Shorten an identity to 16 hex digits for the lock file: enough to recognise a file, too short to reveal it."""
    # As `_encode` renders it, which takes four times as long.
    text = f"{_MEMBER}{encode_basestring_ascii(identity)}]"
    return hashlib.sha256(text.encode()).hexdigest()[:MEMBER_HEX]


def target_key(target: Target) -> str:
    """Return 16 hex digits that identify a root, context and workspace."""
    return _digest(["target", VERSION, target.root, target.context, target.workspace])[:16]


def run_settings(spec: Spec, target: Target) -> dict[str, Any]:
    """Return everything that changes the outcome of a run. An absent value equals its default."""
    run = spec.run
    settings = {
        "root": target.root,
        "context": target.context,
        "workspace": target.workspace,
        "app_name": spec.app_name,
        "app_id": spec.app_id,
        "deployment_id": spec.deployment_id,
        "owner": spec.owner,
        "version": run.version,
        "keys.custom": dict(run.keys.custom),
        "keys.secret": dict(run.keys.secret),
        "generate_post_process_pdf": run.generate_post_process_pdf,
        "output_workspace": run.output_workspace,
        "output_dir": run.output_dir,
        "input_dir": spec.input_dir,
        "batch.id": spec.batch.id,
        "manual_upstream_integration": run.manual_upstream_integration,
        "from_timestamp": run.from_timestamp,
        "to_timestamp": run.to_timestamp,
    }
    return {name: value for name, value in settings.items() if value}


def run_key(settings: dict[str, Any]) -> str:
    """Return the identity of a run's settings, 16 hex digits."""
    return _digest(["run", VERSION, settings])[:16]


def batch_name(spec_name: str, fingerprint: str) -> str:
    """Return the name of a batch, by which it can be found again. It proves nothing about the content."""
    return f"{spec_name}-{fingerprint}"


def claim_stem(tag: str, batch_id: int) -> str:
    """Return how the names of all claims to start a run begin; see `apply.tasks.clones`."""
    return f"{TAG_PREFIX}-claim-{_digest(['claim', tag, batch_id])[:32]}"


def turn_name(batch_id: int, nonce: str) -> str:
    """Return the name of a turn to change a kept batch; see `apply.tasks.turn`."""
    return claim_name(f"{TAG_PREFIX}-turn-{_digest(['turn', batch_id])[:32]}", nonce)


def claim_name(stem: str, nonce: str) -> str:
    """Return the name of a claim. `nonce` (8 hex digits) distinguishes the claims of clients."""
    return f"{stem}-{nonce}"


def stem_of_claim(name: str) -> str:
    """Return the name of a claim, or of a turn, without its nonce."""
    return _NONCE.sub("", name)


def fingerprint_home(target: str) -> str:
    """Return the fingerprint of the shard that has the batch of a job, where that is kept."""
    return _digest(["home", VERSION, target])


def mark_place(name: str, size: int | None, modified_s: int | None) -> str:
    """Return a mark of a file in a kept batch, as it is listed: what replaces the file has another one."""
    return short_identity(f"{name}/{size}/{modified_s or None}")


def fingerprint_input(run_key: str) -> str:
    """Return the fingerprint of a shard whose files lie elsewhere: those of all runs of a run key."""
    return _digest(["input", VERSION, run_key])


def fingerprint_of(shard: Shard) -> str:
    """Return the fingerprint of a shard: of its members, while it is open."""
    return shard.fingerprint or fingerprint_members(shard.members)


def run_tag(fingerprint: str, key: str, attempt: int) -> str:
    """Return the tag by which a run can be found again, at most 110 characters."""
    return f"{TAG_PREFIX}:{fingerprint}:{key}:{attempt}"


def parse_run_tag(tag: str) -> tuple[str, str, int] | None:
    """Return fingerprint, run key and attempt of a tag, or None if it is not exactly one of ours.

    A shortened or partly hidden tag proves nothing: it must not pass for the tag of another run.
    """
    found = _TAG.fullmatch(tag)
    return (found[1], found[2], int(found[3])) if found else None


def name_include(include: tuple[str, ...], *, post_process_pdf: bool) -> str:
    """Return the name of a kind of fetch: its includes, sorted and joined by `+`. Only `source` lists the PDFs."""
    wanted = set(include) | ({"source"} if post_process_pdf else set())
    return "+".join(sorted(wanted)) or PLAIN
