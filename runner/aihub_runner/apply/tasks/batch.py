"""The batch of a shard: create or find it, verify that it is ours, and check what it holds."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import wait
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import BatchInfo
from aihub_runner.apply import events
from aihub_runner.apply.background import begin, do_both
from aihub_runner.apply.steps import Declined, Gone, Lost, NotThere, Outcome, Step, Unsure
from aihub_runner.apply.tasks import late
from aihub_runner.apply.tasks.clones import Checked, note_checked
from aihub_runner.apply.tasks.rivals import Own, Rival, describe_own, find_rival
from aihub_runner.apply.tasks.settle import is_settled
from aihub_runner.errors import ListingCut, Refused, ServiceError, UnknownOutcome
from aihub_runner.model import Shard
from aihub_runner.plan.identity import batch_name, claim_stem, fingerprint_of, stem_of_claim
from aihub_runner.plan.planner import Action
from aihub_runner.system.moment import is_to_come
from aihub_runner.text.escape import clean_text
from aihub_runner.text.shown import are, count

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context
    from aihub_runner.apply.tasks.upload import SendFile

MAX_BATCHES = 2  # per shard and apply: if new batches never show in the listing, more of them do not help
MAX_CHECKS = 3
# For how long a list of batches shows what other clones do: this part of `settle_s`, and at least so many seconds
FRESH, FRESH_S = 0.1, 1.0
LISTED_EVERY_S = 0.5
_FOR_NOW = frozenset({425, 429})

T = TypeVar("T")


class CreateBatch(Step, frozen=True):
    """Create the batch of a shard. Row `batch` records the intent."""

    batch: int
    name: str
    workspace: str


class FindBatch(Step, frozen=True):
    """Check whether a batch exists after its creation was unconfirmed.

    `known` are ids that it cannot have: those in the state, and those of its name from before the intent. A listing
    shows the batch by `settled_at_s` (monotonic clock of this process).
    """

    batch: int
    name: str
    workspace: str
    known: frozenset[int]
    settled_at_s: float


class BatchCreated(Outcome, frozen=True):
    """The batch exists, created or found."""

    remote_id: int


def create(context: Context, shard: Shard) -> None:
    """Record the intent of a batch, and create it."""
    if context.goal.kept and shard.members:
        what = f"{context.job.shown}: the batch that is kept is gone, or holds other files"
        context.park(shard.id, ServiceError(what, "apply again"))
        return
    progress = context.shards[shard.id]
    progress.batches_created += 1
    if progress.batches_created > MAX_BATCHES:
        what = f"shard {shard.id}: created {MAX_BATCHES} batches, and none of them is usable"
        context.park(shard.id, ServiceError(what, "check the context, and whether the account can see its batches"))
        return
    progress.has_asked_batch = True
    earlier = shard.batch_in(context.goal.target)
    name = batch_name(context.job.spec.name, fingerprint_of(shard))
    name = earlier.name if earlier and earlier.name else name
    before = context.ground.batches.get(name, frozenset()) | (earlier.before if earlier else frozenset())
    context.names.add(name)
    context.state.record_batch_intent(shard.id, context.goal.target, name, context.now_s, before)
    batch = context.batch_of(context.load(shard.id))
    context.submit(CreateBatch(shard.id, batch.id, name, context.job.target.workspace))


def create_batch(client: AIHub, step: CreateBatch) -> Outcome:
    """Create a batch, once."""
    return BatchCreated(client.create_batch(step.name, step.workspace))


def find(context: Context, shard: Shard) -> Action | None:
    """Check whether a batch exists whose creation is unconfirmed; create it if it is confirmed absent."""
    batch, progress = context.batch_of(shard), context.shards[shard.id]
    if batch.id == progress.absent_batch:
        progress.absent_batch = 0
        return Action.CREATE_BATCH
    known = context.state.known_batches() | batch.before
    has_asked = progress.has_asked_batch
    settled_at_s = context.settled_at_s(shard.id, "a batch", batch.since, has_asked=has_asked)
    workspace = context.job.target.workspace
    context.submit(FindBatch(shard.id, batch.id, batch.name, workspace, known, settled_at_s))
    return None


def find_batch(client: AIHub, step: FindBatch) -> Outcome:
    """Find a batch by its exact name; the oldest, where there are several.

    A batch that holds files, or that has a run, belongs to somebody else: we have sent nothing to ours yet.
    """
    seen: dict[int, BatchInfo] = {}

    def read() -> Mapping[int, BatchInfo]:
        batches = client.list_batches(step.workspace)
        seen.clear()
        seen.update({b.id: b for b in batches if b.name == step.name and b.id not in step.known})
        return seen

    try:
        if not is_settled(client, read, step.settled_at_s, lambda: bool(seen)):
            return Unsure("the list of batches keeps changing")
        used = {run.batch_id for run in client.list_runs(1)} if seen else set()
    except ListingCut as error:
        return Unsure(error.message)
    found = (number for number in sorted(seen) if number not in used and not client.list_files(number))
    first = next(found, None)
    return NotThere() if first is None else BatchCreated(first)


def is_refused_for_now(error: ServiceError) -> bool:
    """Return whether the same request may succeed later, or with the token that is there now."""
    return error.status in _FOR_NOW or (isinstance(error, Refused) and error.may_pass)


def record_made(context: Context, step: CreateBatch | FindBatch, outcome: Outcome) -> None:
    """Record the id of a batch, or that it is unconfirmed or absent."""
    match step, outcome:
        case _, BatchCreated(remote_id):
            context.state.record_batch(step.batch, remote_id)
            if isinstance(step, FindBatch):
                context.shards[step.shard].found_batch = step.batch
                context.shards[step.shard].is_found = True
        case CreateBatch(), Declined(error):
            context.state.record_batch_lost(step.batch, context.now_s)
            context.shards[step.shard].refused += 1
            context.wait_or_leave(step, error, may_pass=is_refused_for_now(error))
        case CreateBatch(), Lost(at_s, error):
            context.state.record_batch_lost(step.batch, at_s)
            context.count_lost(step, error)
        case FindBatch(), NotThere():
            context.shards[step.shard].absent_batch = step.batch
        case FindBatch(), Unsure(why):
            what = f"shard {step.shard}: cannot check whether its batch exists, {why}"
            context.park(step.shard, ServiceError(what, "apply again"))
        case _, _:
            context.record_failed(step, outcome)


class VerifyBatch(Step, frozen=True):
    """Check, before the first upload, that a batch has our name and is empty. Until `young_until_s`, retry a 404."""

    batch: int
    remote_id: int
    name: str
    workspace: str
    young_until_s: float
    is_older: bool = False


class Verified(Outcome, frozen=True):
    """The batch is ours and empty. The service created it at `created_ms` (0 where it does not say)."""

    created_ms: int


class Foreign(Outcome, frozen=True):
    """The batch is not the one that we created."""

    why: str


def verify(context: Context, shard: Shard) -> None:
    """Check that a batch is the one that we created, before anything is sent to it."""
    batch, remote_id = context.remote_batch_of(shard)
    until_s, workspace = context.young_until_s(batch.since), context.job.target.workspace
    is_older = not context.shards[shard.id].batches_created
    context.submit(VerifyBatch(shard.id, batch.id, remote_id, batch.name, workspace, until_s, is_older))


def verify_batch(client: AIHub, step: VerifyBatch) -> Outcome:
    """Check that a batch is the one we created: a response may name another."""
    try:
        ask = _for_shard(client, step, lambda: client.list_files(step.remote_id))
        info, files = do_both(lambda: client.get_batch(step.remote_id), ask)
    except ServiceError as error:
        if error.status == 404 and is_gone(client, step):
            return Gone()
        raise
    if info.name != step.name:
        return Foreign("its name is different")
    if files and client.list_files(step.remote_id):  # one listing may be of another batch
        return Foreign(f"it already holds {count(len(files), 'file')}")
    created_ms = info.created_at_ms or 0
    return Verified(0 if is_to_come(created_ms / 1000) else created_ms)


def record_verified(context: Context, step: VerifyBatch, outcome: Outcome) -> None:
    """Record that a batch is ours; one that is another's counts as a lost response."""
    match outcome:
        case Verified(created_ms):
            context.state.record_batch_verified(step.batch, created_ms)
            is_found = context.shards[step.shard].found_batch == step.batch
            context.reporter.emit(events.BatchCreated(step.remote_id, is_found))
        case Foreign(why):
            batch = next(batch for batch in context.load(step.shard).batches if batch.id == step.batch)
            context.state.record_batch_foreign(batch, context.now_s)
            what = f"POST /v2/batches: the response names batch {step.remote_id}, which is not the one created, {why}"
            hint = "check whether a proxy or gateway answers instead of the service"
            context.count_lost(step, ServiceError(what, hint))
        case Gone():
            forget_batch(context, step)
        case _:
            context.record_failed(step, outcome)


class CheckBatch(Step, frozen=True):
    """Compare a batch with the sizes (by NFC name) that it should hold, and delete this job's surplus files.

    A listing shows changes within `settle_s`. `sent` are the names that this state ever sent to the batch: nothing
    else is ever deleted. `modified` are times (Unix seconds) listed after earlier uploads. `name` is the batch's name,
    empty if it is not known; `known` are the known batches of that name. `minds_elders` says that older ones matter.
    `claim` is how the names of claims on the run begin. With `is_kept`, nothing is deleted or sent again.
    """

    batch: int
    remote_id: int
    workspace: str
    sizes: Mapping[str, int]
    settle_s: float
    young_until_s: float
    sent: frozenset[str] = frozenset()
    modified: Mapping[str, int] = {}
    name: str = ""
    known: frozenset[int] = frozenset()
    is_older: bool = False
    minds_elders: bool = True
    claim: str = ""
    is_kept: bool = False
    own: Own | None = None


class _File(Struct, frozen=True):
    """A file as a batch's listing has it: name, size in bytes, and time (Unix seconds)."""

    name: str
    size: int | None
    modified_s: int | None


Listed = dict[str, _File]  # by names in NFC


def check(context: Context, shard: Shard) -> Action | None:
    """Compare a batch with what the shard holds, directly before it is run."""
    batch, remote_id = context.remote_batch_of(shard)
    if late.is_spoilt(context, shard, batch):
        return Action.CREATE_BATCH
    context.submit(
        CheckBatch(
            shard.id,
            batch.id,
            remote_id,
            context.job.target.workspace,
            {member.name: member.size for member in shard.sendable},
            context.settle_s,
            context.young_until_s(batch.since),
            frozenset(batch.uploads),
            batch.modified,
            batch.name,
            context.state.known_batches(batch.name) | context.ground.dismissed_batches,
            not context.shards[shard.id].batches_created,
            not context.job.options.again,
            claim_stem(context.tag_of(shard), remote_id),
            bool(batch.kept),
            describe_own(context, shard, batch),
        ),
        late.wait_s(context, batch),
    )
    return None


def _for_shard(client: AIHub, step: Step, ask: Callable[[], T]) -> Callable[[], T]:
    """Return how to ask in another thread, where retries count for the step's shard all the same."""

    def act() -> T:
        with client.working_for(step.shard):
            return ask()

    return act


def check_batch(client: AIHub, step: CheckBatch) -> Outcome:
    """List a batch, delete surplus files that this job sent, and compare names and sizes.

    Also list the batches, for others that might be run first. A list without our own batch is an old one, which may
    lack older batches, too: all is listed again, for at most `settle_s`.
    """
    until_s = time.monotonic() + step.settle_s
    while True:
        found = _check_once(client, step)
        if not isinstance(found, Checked) or found.is_listed or time.monotonic() >= until_s:
            return found
        client.pause(LISTED_EVERY_S)


def _check_once(client: AIHub, step: CheckBatch) -> Outcome:
    """Check the files, and meanwhile list the batches, which takes as long.

    If they were listed a while before the files were found right, list them again: nothing but a moment may lie between
    that list and the run.
    """
    begun_s = time.monotonic()
    minds_others = bool(step.name) and step.minds_elders
    ahead = begin(_for_shard(client, step, lambda: client.list_batches(step.workspace))) if minds_others else None
    try:
        found = _check_files(client, step)
    finally:
        wait([ahead] if ahead else [])
    if ahead is None or not isinstance(found, Checked) or found.missing:
        return found
    is_fresh = time.monotonic() - begun_s < max(FRESH_S, FRESH * step.settle_s)
    batches = ahead.result() if is_fresh else client.list_batches(step.workspace)
    own = next((batch for batch in batches if batch.id == step.remote_id), None)
    if own and own.name != step.name:
        return Gone()
    if step.own and (rival := find_rival(client, step.own, batches, step.settle_s)):
        return rival
    is_claimed = any(stem_of_claim(batch.name) == step.claim for batch in batches)
    return replace(found, elders=_elders(batches, step), is_claimed=is_claimed, is_listed=own is not None)


def _check_files(client: AIHub, step: CheckBatch) -> Checked | Gone:
    try:
        listed = _list(client, step.remote_id)
        surplus = [] if step.is_kept else sorted(listed.keys() - step.sizes.keys())
        _check_foreign_files(step, surplus)
        if surplus and step.name and client.get_batch(step.remote_id).name != step.name:
            return Gone()  # its id is another's by now
        for name in surplus:
            client.delete_file(step.remote_id, listed[name].name)
        listed = _wait_until_right(client, step, listed)
    except ServiceError as error:
        if error.status == 404 and is_gone(client, step):
            return Gone()
        raise
    if step.is_kept:
        _check_unchanged(step, listed)
    if left := listed.keys() - step.sizes.keys():
        raise ServiceError(
            f"batch {step.remote_id}: holds {count(len(left), 'file')} that must not be run",
            "apply again in a while",
        )
    missing = tuple(_missing(step, listed))
    modified = {name: file.modified_s for name, file in listed.items() if file.modified_s and name not in missing}
    return Checked(missing, modified)


def _check_unchanged(step: CheckBatch, listed: Listed) -> None:
    """Raise ServiceError if a kept batch does not hold what is about to be paid for."""
    if changed := sorted({*(listed.keys() - step.sizes.keys()), *_missing(step, listed)}):
        raise ServiceError(
            f"batch {step.remote_id}: changed since it was listed, {changed[0]!r}{' …' * (len(changed) > 1)}; "
            "its run was not started",
            "apply again",
        )


def _check_foreign_files(step: CheckBatch, names: list[str]) -> None:
    """Raise ServiceError if a batch holds files that this job did not send: never delete those."""
    foreign = [name for name in names if name not in step.sent]
    if foreign:
        raise ServiceError(
            f"batch {step.remote_id}: holds {len(foreign)} files that this job did not send, {foreign[0]!r}",
            "remove them from the batch if they do not belong there, then apply again",
        )


def _elders(batches: Iterable[BatchInfo], step: CheckBatch) -> tuple[int, ...]:
    """List older batches of the same name that are not ours: of two clones that start at once, only one pays."""
    elders = (b.id for b in batches if b.name == step.name and b.id < step.remote_id and b.id not in step.known)
    return tuple(sorted(elders))


def _wait_until_right(client: AIHub, step: CheckBatch, listed: Listed) -> Listed:
    """List again until the listing has caught up with the changes, for at most `settle_s`."""
    until_s, pause_s = time.monotonic() + step.settle_s, 0.2
    while (listed.keys() - step.sizes.keys() or _missing(step, listed)) and time.monotonic() < until_s:
        client.pause(pause_s)
        pause_s = min(5.0, 2 * pause_s)
        listed = _list(client, step.remote_id)
    return listed


def _missing(step: CheckBatch, listed: Listed) -> list[str]:
    """List the files that are not as they were sent: by size, and by time where an earlier one is known.

    A late duplicate of an older upload has the same name and perhaps the same size, but a later time.
    """
    return [
        name for name, size in step.sizes.items() if not _is_as_sent(listed.get(name), size, step.modified.get(name))
    ]


def _is_as_sent(file: _File | None, size: int, modified_s: int | None) -> bool:
    if file is None or file.size not in (size, None):
        return False
    return not modified_s or file.modified_s in (modified_s, None)


def _list(client: AIHub, remote_id: int) -> Listed:
    files = client.list_files(remote_id)
    return {
        unicodedata.normalize("NFC", name): _File(name, file.size, file.modified_timestamp)
        for name, file in files.items()
    }


def record_checked(context: Context, step: CheckBatch, outcome: Outcome) -> None:
    """Record what a batch holds; files that are missing are sent again."""
    progress = context.shards[step.shard]
    match outcome:
        case Checked(missing) if not (missing or outcome.is_listed or context.job.options.adopt):
            what = f"shard {step.shard}: batch {step.remote_id} is not in the list of batches"
            hint = f"apply later; if no other client uses this spec, run `{context.job.command('apply')} --adopt`"
            context.park(step.shard, UnknownOutcome(f"{what}, which may lack older ones, too", hint))
        case Checked(missing, modified) if not missing:
            progress.is_checked = True
            late.forget_handed(context, step.batch)
            context.state.record_modified(step.batch, modified)
            note_checked(context, step.shard, outcome)
        case Checked(missing):
            progress.checks += 1
            context.state.forget_uploads(step.batch, missing)
            if progress.checks >= MAX_CHECKS:
                what = f"batch {step.remote_id}: {count(len(missing), 'file')} {are(len(missing))} not listed as sent"
                context.park(step.shard, ServiceError(f"{what}, {missing[0]!r}", "apply again"))
            else:
                context.reporter.emit(events.FilesMissing(step.remote_id, len(missing)))
        case Gone():
            forget_batch(context, step)
        case Rival(remote_id, name):
            what = f"shard {step.shard}: batch {remote_id} of another client holds {clean_text(name)}, too"
            hint = f"apply again later; if no other client uses this spec, run `{context.job.command('apply')} --adopt`"
            context.park(step.shard, UnknownOutcome(f"{what}; its run was not started", hint))
        case _:
            context.record_failed(step, outcome)


def is_gone(client: AIHub, step: SendFile | CheckBatch | VerifyBatch) -> bool:
    """Whether batches can be listed, and this one is not among them any more (see `SendFile.is_older`)."""
    if time.monotonic() < step.young_until_s:
        return False
    batches = client.list_batches(step.workspace)
    return (bool(batches) or step.is_older) and all(batch.id != step.remote_id for batch in batches)


def forget_batch(context: Context, step: SendFile | CheckBatch | VerifyBatch) -> None:
    """Record that a batch is gone: its files are sent again, to another one."""
    context.reporter.emit(events.BatchGone(step.remote_id))
    context.drop_uploads(step.shard)
    late.leave_batch(context, step.shard, step.batch)
