"""Apply a spec: work out what is missing, do it, and never pay for it twice."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event

from msgspec import Struct
from msgspec.structs import astuple, replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import RunInfo
from aihub_runner.aihub.transport import PRESSED
from aihub_runner.apply.ahead import Borrowed, has_unhashed, is_unhashed, recall_files
from aihub_runner.apply.assess import check_asked, describe_job, look_for_damage, plan_job, scan_files, with_pruned
from aihub_runner.apply.background import begin
from aihub_runner.apply.cleanup import clean_up, describe_kept
from aihub_runner.apply.context import Context, Ground
from aihub_runner.apply.delivery import deliver
from aihub_runner.apply.events import AgainResumed, Counts, RateLimited, Reporter, Retry, Stopping, UploadsLowered
from aihub_runner.apply.executors.join import join_cluster
from aihub_runner.apply.finder import recognise_stale
from aihub_runner.apply.job import Confirm, Held, Job, OpenJob
from aihub_runner.apply.kept import change_batch, leave_out_blocked, look_at_batch, record_places
from aihub_runner.apply.lapsed import exclude_lapsed, find_lapsed, record_matched
from aihub_runner.apply.limits import check_day, check_limits, check_unapplied
from aihub_runner.apply.matching import find_held
from aihub_runner.apply.pagecount import count_started
from aihub_runner.apply.pdfs import fetch_pdfs
from aihub_runner.apply.places import (
    is_on_network,
    try_places,
)
from aihub_runner.apply.pool import Engine
from aihub_runner.apply.reclaim import reclaim_results
from aihub_runner.apply.recovery import ask_for_gone, import_paid, record_moved, unverified_error
from aihub_runner.apply.refresh import refresh
from aihub_runner.apply.scheduler import Scheduler
from aihub_runner.apply.settled import record_settled
from aihub_runner.apply.survey import look_before_paying, raise_attempts
from aihub_runner.apply.tasks import late
from aihub_runner.apply.tasks.fetch import AHEAD
from aihub_runner.apply.tasks.turn import end_turns
from aihub_runner.apply.tasks.upload import PARTS_AT_ONCE
from aihub_runner.errors import (
    InputError,
    RunnerError,
    ServiceError,
    Shortage,
    StateError,
    UnknownOutcome,
)
from aihub_runner.model import MB, Changes, Scan
from aihub_runner.plan.planner import PAYS, Plan, Work
from aihub_runner.report.summary import Drift, Problem, Report, describe_error
from aihub_runner.results.reader import carry_pages
from aihub_runner.sources.scan import Selection
from aihub_runner.sources.stores import StoreError
from aihub_runner.state.lock import new_lease
from aihub_runner.state.outputs import DOCUMENTS
from aihub_runner.state.store import State
from aihub_runner.system.interrupt import ended_in_order
from aihub_runner.system.shortage import descriptor_limit, fit_parallel, spare_descriptors
from aihub_runner.version import VERSION


def do_missing(held: Held, confirm: Confirm, executor: Executor | None = None) -> Report:
    """Scan the files, import paid work, plan what is missing, do it, and return a report.

    `confirm` receives the plan before anything is paid. Raises RunnerError if the work cannot start; later problems
    are in the report.
    """
    job, state, stop, counts = held.job, held.state, held.stop, Counts()
    reporter = Reporter(held.reporter.emit, counts.take)
    with closing(_open_client(job, reporter, stop)) as client:
        take_over(job, state)
        _follow_results(job, state)
        job = _with_again(job, state, reporter)
        job, blind = _look(job, state, client)
        scan, problems = _scan_what_is_there(job, state, reporter, stop, held.files)
        problems += blind
        job = look_for_damage(job, state)
        check_asked(job, state, scan)
        scan = _keep_digests(state, scan)
        job = with_pruned(job, state, scan)
        opened = OpenJob(job, state, client, scan, reporter)
        opened, prepared = _prepare_with_digests(opened, confirm, problems)
        with ended_in_order(lambda: reporter.emit(Stopping())):
            opened, prepared = _send_ahead(opened, prepared, executor, confirm)
            job, scan = opened.job, opened.scan
            record_matched(job, state, scan)
            work = _record_plan(state, prepared.plan, client.server_now_s())
            done = _work(opened, work, executor, prepared)
            _record_again(job, state, work, is_begun=False)
            others = _OtherRuns(state, client, done, stop)  # found while the results are written
            job = look_for_damage(job, state, among=job.damaged)
            scan = _as_sent(scan, done)
            report, late = _finish(replace(opened, job=job, scan=scan), others, prepared.plan.left)
            met = map(describe_error, [*prepared.problems, *done.errors, *late])
            report = replace(
                report,
                files_sent=counts.files_sent,
                bytes_sent=counts.bytes_sent,
                runs_started=counts.runs_started,
                pages=count_started(job, state, scan, done.started),
                retries=counts.retries,
                rate_limited=counts.rate_limited,
                problems=_each_once([*met, *report.problems]),
                nothing_to_do=prepared.plan.is_empty and not (prepared.problems or counts.files_sent),
                interrupted=stop.is_set(),
                next=job.command("apply") if stop.is_set() else "",
                drift=tuple(Drift(*astuple(one)) for one in counts.drift),
                upload_seconds=round(prepared.ahead_s + done.engine.upload_s, 1),
            )
            record_settled(job, state, scan, report)
    return report


def _open_client(job: Job, reporter: Reporter, stop: Event) -> AIHub:
    """Open a client that reports its retries, logs its requests, and goes on at the pace of the last one."""
    client = AIHub(job.connection, stop)
    client.on_retry = partial(_report_retry, reporter)
    client.log = job.options.log or client.log
    client.share_pace(job.options.paces)
    return client


def _report_retry(reporter: Reporter, error: ServiceError | Shortage, wait_s: float) -> None:
    is_limit = isinstance(error, ServiceError) and error.status in PRESSED
    reporter.emit((RateLimited if is_limit else Retry)(error.message, wait_s))


def _scan_what_is_there(
    job: Job, state: State, reporter: Reporter, stop: Event, selection: Selection | None
) -> tuple[Scan, list[RunnerError]]:
    """Scan the files. Where there are none, or a store fails, finish what was paid and not fetched yet all the same."""
    try:
        return scan_files(job, state, reporter, stop, selection=selection), []
    except (InputError, StoreError) as error:
        fails = isinstance(error, StoreError)
        scan = recall_files(state) if fails else scan_files(job, state, reporter, stop, may_be_empty=True)
        if not _only_free(plan_job(look_for_damage(job, state), state, scan)).work:
            raise
        return scan, [error]


def _keep_digests(state: State, scan: Scan) -> Scan:
    """Record the stat cache, and return the scan without it. If that fails, it is tried again at the end."""
    try:
        state.record_cache(scan.cache, scan.outdated)
    except StateError:
        return scan
    return replace(scan, cache={}, outdated=())


def _look(job: Job, state: State, client: AIHub) -> tuple[Job, list[RunnerError]]:
    """Look at the batch that is kept. Where that fails, still finish the runs that were paid and not fetched yet."""
    try:
        return look_at_batch(job, state, client), []
    except ServiceError as error:
        return job, [error]


def _send_ahead(
    opened: OpenJob, prepared: Prepared, executor: Executor | None, confirm: Confirm
) -> tuple[OpenJob, Prepared]:
    """Send the new files that lie elsewhere, which are hashed on the way, and plan again with their digests.

    Nothing is paid meanwhile: only digests say what was paid before. A shard with a file that could not be sent waits.
    """
    plan, state, stop = prepared.plan, opened.state, opened.client.stop
    ahead = replace(plan, work=tuple(item for item in plan.work if is_unhashed(item)))
    if not ahead.work or not prepared.may_pay:
        return opened, prepared
    asks_once = executor and Borrowed(executor)
    done = _work(opened, _record_plan(state, ahead, opened.client.server_now_s()), asks_once, prepared, sends_only=True)
    job = opened.job
    opened = replace(opened, scan=_as_sent(opened.scan, done))
    problems, ahead_s = [*prepared.problems, *done.errors], done.engine.upload_s
    if stop.is_set() or done.halted or done.stopped_paying:
        free = replace(prepared, plan=_only_free(plan), may_pay=False)
        return opened, replace(free, problems=problems, ahead_s=ahead_s)

    def confirm_more(again: Plan, scan: Scan) -> bool:
        return again.runs_to_confirm <= plan.runs_to_confirm or confirm(again, scan)

    once = replace(opened, job=replace(job, options=replace(job.options, refresh=False)))
    found = _prepare(once, confirm_more, [])
    rest = tuple(item for item in found.plan.work if not is_unhashed(item))
    found = replace(found, plan=replace(found.plan, work=rest), problems=[*problems, *found.problems])
    return opened, replace(found, ahead_s=ahead_s)


def _work(
    opened: OpenJob,
    work: Sequence[Work],
    executor: Executor | None,
    prepared: Prepared,
    *,
    sends_only: bool = False,
) -> Context:
    """Do all work that can be done now, and return what came of it. With `sends_only`, only create batches and send."""
    job, state, client, reporter = opened.job, opened.state, opened.client, opened.reporter
    uploads, requests = _fit_limits(job, work, reporter)
    starts = job.spec.limits.parallel_runs  # each has a thread of its own, so that none waits after its intent
    with closing(Engine(client, uploads, requests, executor, parallel_starts=starts)) as engine:
        context = Context(job, state, engine, reporter, prepared.ground)
        context.stopped_paying = not prepared.may_pay
        _record_again(job, state, work, is_begun=True)
        try:
            work = join_cluster(context, work)
            opened, work = change_batch(context, opened, prepared.plan.changes, work)
            record_places(opened, work)
            Scheduler(context, sends_only=sends_only).run(work)
            late.release(context)
        except StateError:
            client.may_create = False  # requests that wait for their turn must not be sent
            context.report_open()
            raise
        return context


def _fit_limits(job: Job, work: Sequence[Work], reporter: Reporter) -> tuple[int, int]:
    """Return how many uploads and requests about runs fit the descriptors of this process. Raises Shortage."""
    limits = job.spec.limits
    in_parts = any(member.size > limits.part_threshold_mb * MB for item in work for member in item.shard.members)
    sides = 2 if job.is_fake else 1  # the embedded fake holds the other end of each connection in this process
    upload = (1 + sides) * (PARTS_AT_ONCE if in_parts else 1)
    wanted = limits.parallel_uploads
    uploads, requests = fit_parallel(
        wanted, limits.parallel_runs, spare_descriptors(), upload=upload, request=1 + (1 + AHEAD) * sides
    )
    if uploads < wanted:
        reporter.emit(UploadsLowered(uploads, wanted, descriptor_limit()))
    return uploads, requests


class _OtherRuns:
    """Runs on our batches that this state does not know: they may have been paid twice. Listed from now on, aside."""

    def __init__(self, state: State, client: AIHub, done: Context, stop: Event) -> None:
        self._state = state
        self._listed: Future[list[RunInfo]] | None = None
        if done.started and not stop.is_set():
            bound_s = state.bound_of(done.started)
            self._listed = begin(lambda: client.list_runs(bound_s))

    def notes(self) -> list[str]:
        """Return a note for each."""
        try:
            runs = self._listed.result() if self._listed else []
        except RunnerError as error:
            return [f"cannot check for double payments: {error.message}"]
        state = self._state
        known, ours = state.known_runs() | state.load_dismissed(), state.known_batches()
        others = [run for run in runs if run.batch_id in ours and run.id not in known]
        return [
            f"run {run.id} on batch {run.batch_id} is not recorded here and was paid for too: "
            "another client started it, or a gateway delivered a request twice"
            for run in others
        ]


# The next --again finishes one that was interrupted


def _with_again(job: Job, state: State, reporter: Reporter) -> Job:
    """Return the job with the newest run that --again must pay for again; an interrupted --again keeps its own."""
    if not job.options.again:
        return job
    goal = job.goal
    after = state.find_again(goal.target, goal.run_key)
    if after is None:
        after = state.newest_run_row()
    else:
        reporter.emit(AgainResumed())
    return replace(job, options=replace(job.options, again_after=after))


def _with_imported(job: Job, state: State) -> Job:
    """Return the job whose --again pays again for what was just imported, too, unless it goes on with earlier work."""
    goal = job.goal
    if not job.options.again or state.find_again(goal.target, goal.run_key) is not None:
        return job
    return replace(job, options=replace(job.options, again_after=state.newest_run_row()))


def _record_again(job: Job, state: State, work: Sequence[Work], *, is_begun: bool) -> None:
    """Record --again before it pays, and forget it once every shard has a new run."""
    after = job.options.again_after
    if not job.options.again or after is None:
        return
    target, run_key = job.goal.target, job.goal.run_key
    if is_begun:
        state.record_again(target, run_key, after)
        return
    shards = [shard for item in work for shard in state.load_shards(item.shard.id)]
    if all(any(run.id > after and not run.is_open for run in shard.runs_of(run_key)) for shard in shards):
        state.forget_again(target, run_key)


def take_over(job: Job, state: State) -> None:
    """Record that this process works on a held state, under a new lease."""
    state.record_lease(new_lease(), job.target.root, VERSION)


def _follow_results(job: Job, state: State) -> None:
    """Copy fetched pages to a new results folder; whatever is missing there is fetched again."""
    place = Path(os.path.relpath(job.results_path, job.folder)).as_posix()
    if state.results not in ("", place):
        carry_pages(state, job.folder / state.results, job.results_path)
        state.forget_all_outputs()
    if state.results != place:
        state.record_results_folder(place)


class Prepared(Struct, frozen=True):
    """The plan, the problems found so far, what is known of the service, and whether the job may pay.

    `again_after` is the newest run that --again pays for again: what was imported for this plan is older than it.
    `ahead_s` is the time spent on files that were sent ahead.
    """

    plan: Plan
    problems: Sequence[RunnerError]
    ground: Ground
    may_pay: bool
    again_after: int | None = None
    ahead_s: float = 0.0


def _only_free(plan: Plan) -> Plan:
    """Keep only the free work of a plan: waiting for paid runs, and fetching their results."""
    work = tuple(work for work in plan.work if work.action not in PAYS)
    return replace(plan, work=work, changes=Changes(0))


def _prepare(opened: OpenJob, confirm: Confirm, problems: list[RunnerError]) -> Prepared:
    """Import paid work, and plan the rest.

    A problem that forbids paying does not stop free work: paid runs are still finished and fetched.
    """
    job, state, scan = opened.job, opened.state, opened.scan
    if job.options.retry_failed:
        state.forget_refused()
    if job.options.refetch:
        state.record_made_from(DOCUMENTS, "")
    held: frozenset[str] = frozenset()
    moves = record_moved(opened)
    try:
        ask_for_gone(job, state, opened.client)
        if job.options.refresh:
            refresh(opened)
        left = import_paid(opened)
        job = _with_imported(job, state)
        opened = replace(opened, job=job)
        if left:
            held = find_held(left, scan.sources)
            problems = [*problems, unverified_error(job, left, held)]
        reclaim_results(job, state)
        recognise_stale(state, scan.sources, by_folder=job.goal.by_folder)
        plan = plan_job(job, state, scan, held)
        if problems and not left:  # without files nothing can be paid
            raise problems[0]
        plan, ground, doubts = _allow_paying(opened, plan, held)
        plan = replace(plan, moves=(*moves, *plan.moves))
        plan, lapsed = exclude_lapsed(job, plan, state.load_shards(), find_lapsed(job, state, scan))
        plan, obstacles = leave_out_blocked(opened, plan)
        problems = [*problems, *doubts, *lapsed, *obstacles]
        if (plan.runs_to_confirm or plan.changes.loses) and not confirm(plan, scan):
            raise InputError(f"{job.shown}: apply cancelled, nothing was paid")
    except (InputError, ServiceError, UnknownOutcome) as error:
        free = _only_free(plan_job(job, state, scan, held))
        if not free.work and not problems:
            raise
        known = [problem for problem in problems if problem is not error]
        return Prepared(free, [*known, error], Ground(held=held), False, job.options.again_after)
    return Prepared(plan, problems, ground, True, job.options.again_after)


def _prepare_with_digests(opened: OpenJob, confirm: Confirm, problems: list[RunnerError]) -> tuple[OpenJob, Prepared]:
    """Prepare; again with the digests of all files elsewhere, if they may say what was paid before."""
    try:
        prepared = _prepare(opened, confirm, problems)
        is_unsure = any(isinstance(problem, UnknownOutcome) for problem in prepared.problems)
    except UnknownOutcome:
        if not has_unhashed(opened.scan):
            raise
        is_unsure = True
    if is_unsure and has_unhashed(opened.scan):
        scan = scan_files(opened.job, opened.state, opened.reporter, opened.client.stop, hashes_all=True)
        opened = replace(opened, scan=_keep_digests(opened.state, scan))
        prepared = _prepare(opened, confirm, problems)
    options = replace(opened.job.options, again_after=prepared.again_after)
    return replace(opened, job=replace(opened.job, options=options)), prepared


def _allow_paying(opened: OpenJob, plan: Plan, held: frozenset[str]) -> tuple[Plan, Ground, Sequence[UnknownOutcome]]:
    """Check whether the job may pay, and plan again where earlier work was imported or is in doubt."""
    job, state = opened.job, opened.state
    check_limits(opened, plan)
    ground = Ground(held=held, is_lock_weak=is_on_network(job) or not state.is_exclusive)
    if not plan.runs_to_pay:
        check_day(opened, plan, None)
        return plan, ground, ()
    try_places(job)
    found = look_before_paying(opened, plan, held)
    check_unapplied(job, plan, found.runs)
    held |= found.doubts.paths
    if found.has_imported or found.doubts.paths:
        plan = plan_job(job, state, opened.scan, held)
        check_limits(opened, plan)  # with --limit, it may turn to other files
    check_day(opened, plan, found)
    if job.options.again:
        plan = raise_attempts(plan, job, found.runs)
    dismissed = state.load_dismissed()
    dismissed_batches = frozenset(run.batch_id for run in found.runs if run.id in dismissed and run.batch_id)
    ground = replace(
        ground,
        held=held,
        batches=found.batches,
        dismissed_batches=dismissed_batches,
        blind_since_ns=found.blind_since_ns,
        run_batches=found.compared(job.goal.run_key),
    )
    return plan, ground, found.doubts.errors


def _record_plan(state: State, plan: Plan, now_s: float) -> list[Work]:
    """Record moves and groups, and return the work with the ids of the new shards."""
    work = []
    with state.transaction():
        if plan.work:
            state.record_pause(now_s)
        state.record_moves(plan.moves)
        for shard_id in plan.dissolved:
            state.forget_shard(shard_id)
        for shard_id, members in plan.members.items():
            state.record_members(shard_id, members)
        for item in plan.work:
            shard_id = item.shard.id or state.record_shard(item.shard.members, item.shard.fingerprint)
            work.append(replace(item, shard=replace(item.shard, id=shard_id)))
    return work


def _as_sent(scan: Scan, done: Context) -> Scan:
    """Return the scan, corrected by what was found while the files were sent."""
    if not (done.hashed or done.skipped or done.changed):
        return scan
    sources = {source.path: source for source in scan.sources}
    for path, digest in done.hashed.items():
        sources[path] = replace(sources[path], digest=digest)
    for path in done.skipped:
        sources.pop(path, None)
    for path in done.changed.keys() & sources.keys():  # a changed file may have been skipped later
        size, digest = done.changed[path]
        sources[path] = replace(sources[path], size=size, digest=digest)
    skipped = {item.path: item for item in scan.skipped} | done.skipped
    ordered = tuple(sorted(skipped.values(), key=lambda item: item.path))
    identity = "" if done.skipped or done.changed else scan.identity
    return replace(scan, sources=tuple(sources.values()), skipped=ordered, identity=identity)


def _reclaim(job: Job, state: State) -> list[RunnerError]:
    """Find results on disk. An error must not stop what was paid from being delivered."""
    try:
        reclaim_results(job, state)
    except RunnerError as error:
        return [error]
    return []


def _each_once(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return the problems without duplicates, in order."""
    first: dict[str, Problem] = {}
    for problem in problems:
        first.setdefault(problem.message, problem)
    return tuple(first.values())


def _finish(opened: OpenJob, others: _OtherRuns, left: Collection[str]) -> tuple[Report, list[RunnerError]]:
    """Write results, lock file and cache, fetch PDFs, and clean up. Return the report and what failed."""
    job, state, scan = opened.job, opened.state, opened.scan
    failed = _reclaim(job, state)  # results of runs that are gone, as was found just now
    delivered = deliver(job, state, scan)
    notes, errors = [*others.notes(), *delivered.notes], [*failed, *delivered.errors]  # before a clean-up deletes runs
    errors += end_turns(opened)
    of_pdfs, failed = fetch_pdfs(opened)
    errors += failed
    if not errors and not opened.client.stop.is_set():
        errors = clean_up(opened)
    notes += [*of_pdfs, *describe_kept(job, state)]
    return describe_job(job, state, scan, notes, left, delivered.find_tally), errors
