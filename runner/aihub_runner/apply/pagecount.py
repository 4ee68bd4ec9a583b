"""Count the pages of files: skip those with more than the service takes, and sum up what a plan pays for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from threading import Event

from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.errors import Interrupted
from aihub_runner.model import Scan, SkippedFile
from aihub_runner.plan.planfile import list_paid
from aihub_runner.plan.planner import Plan
from aihub_runner.report.summary import Pages, sum_pages
from aihub_runner.sources.pages import MAX_PAGES, MAX_PAGES_POST_PROCESSED, count_pages
from aihub_runner.spec.urls import is_url
from aihub_runner.state.store import State


def skip_long(job: Job, state: State | None, scan: Scan, stop: Event) -> Scan:
    """Skip new PDF files with more pages than the service takes. Files that were run are not asked."""
    asked = [] if job.is_remote else [source for source in scan.sources if source.path[-4:].lower() == ".pdf"]
    if not asked:
        return scan
    shards = state.load_shards() if state else []
    ran = {(member.path, member.identity) for shard in shards if shard.is_closed for member in shard.members}
    most = MAX_PAGES_POST_PROCESSED if job.spec.run.generate_post_process_pdf else MAX_PAGES
    new = [source.path for source in asked if (source.path, source.identity) not in ran]
    _ask(job, scan, new, stop)
    long = {path for path in new if scan.pages[path] > most}
    if not long:
        return scan
    items = [SkippedFile(path, "too many pages", f"{scan.pages[path]} pages, at most {most}") for path in long]
    kept = tuple(source for source in scan.sources if source.path not in long)
    return replace(scan, sources=kept, skipped=tuple(sorted([*scan.skipped, *items], key=lambda item: item.path)))


def _ask(job: Job, scan: Scan, paths: Iterable[str], stop: Event) -> None:
    """Add the pages of files to a scan, where they are not known yet."""
    elsewhere = {source.path for source in scan.sources if source.is_listed or is_url(source.path)}
    for path in paths:
        if stop.is_set():
            raise Interrupted("interrupted while reading files")
        if path not in scan.pages and path not in elsewhere:
            scan.pages[path] = count_pages(job.folder / path)


def count_plan(job: Job, scan: Scan, plan: Plan) -> Pages:
    """Return the pages that a plan pays for."""
    paths, _ = list_paid(plan)
    _ask(job, scan, paths, Event())
    return sum_pages(scan, paths, job.spec.limits.unit_price)


def count_started(job: Job, state: State, scan: Scan, started: Collection[int]) -> str:
    """Return the pages and the cost of the runs (rows) that this apply started, in words; empty without a price."""
    price = job.spec.limits.unit_price
    if price is None:
        return ""
    shards = [shard for shard in state.load_shards() if any(run.id in started for run in shard.runs)]
    paths = [member.path for shard in shards for member in shard.members]
    _ask(job, scan, paths, Event())
    return sum_pages(scan, paths, price).render() if paths else ""
