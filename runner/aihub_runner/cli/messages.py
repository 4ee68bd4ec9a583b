"""The words for what happens during an apply."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import astuple

from aihub_runner.apply import events as e
from aihub_runner.report.summary import Drift
from aihub_runner.text.shown import are, count, render_size

QUIET_S = 10.0  # between lines about trouble, which may concern thousands of requests


class Talk:
    """Turns events into lines: all but repeated ones about the same trouble."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[type[e.Event], float] = {}

    def render(self, event: e.Event) -> str:
        """Return the line for an event; empty if there is nothing to say."""
        if isinstance(event, e.Retry | e.RateLimited):
            now = self._clock()
            if now - self._told.get(type(event), -QUIET_S) < QUIET_S:
                return ""
            self._told[type(event)] = now
        return render_event(event)


def render_event(event: e.Event) -> str:
    """Render an event as one line; empty for those that only move the display."""
    words = _WORDS.get(type(event))
    return words(event) if words else ""


def render_scan(event: e.ScanProgress) -> str:
    """Render how many local files are read."""
    size = f"{render_size(event.bytes)} of {render_size(event.bytes_total)}"
    return f"read {event.files} of {count(event.files_total, 'file')} ({size})"


def render_counts(counts: e.Counts) -> str:
    """Render the progress as one line."""
    parts = []
    if counts.files_to_send:
        size = f"{render_size(counts.bytes_sent)} of {render_size(counts.bytes_to_send)}"
        parts.append(f"uploaded {counts.files_sent} of {count(counts.files_to_send, 'file')} ({size})")
    runs = ", ".join(f"{number} {status or 'started'}" for status, number in sorted(counts.runs.items()) if number)
    if runs:
        parts.append(f"runs: {runs}")
    if counts.runs_fetched:
        parts.append(f"results of {count(counts.runs_fetched, 'run')} fetched")
    return "; ".join(parts) or "working"


# No words for those that only move the display
SILENT = (e.Tick, e.ScanProgress, e.UploadPlanned, e.FileUploaded, e.RunStarted)

_WORDS: dict[type[e.Event], Callable[[Any], str]] = {
    e.Stopping: lambda _: "finishing requests in flight; press Ctrl-C again to quit now",
    e.Problem: lambda it: it.message,
    e.ContextUnset: lambda it: (
        "warning: no context: runs spend the units of the community account; "
        f'set context in the spec{"" if it.target else " or AIHUB_CONTEXT"}, or context = "" to confirm'
    ),
    e.StateOnNetwork: lambda it: (
        f"warning: {it.state} is on a network file system ({it.file_system}); "
        "apply this spec from one machine only, or use --state with a local path"
    ),
    e.UploadsLowered: lambda it: (
        f"parallel_uploads: {it.now} instead of {it.wanted}, because `ulimit -n` is {it.limit}"
    ),
    e.WorkersJoined: lambda it: (
        f"{it.cluster}: {count(it.workers, 'worker')} with {count(it.threads, 'thread')} for uploads"
    ),
    e.WorkerCannotRead: lambda it: (
        f"{it.path}: sent from here; the worker {it.worker} cannot send it, {it.why} (said once for each worker)"
    ),
    e.AgainResumed: lambda _: "finishing the interrupted --again",
    e.CheckStarted: lambda _: "checking the service for earlier work of this spec",
    e.CheckRepeated: lambda it: f"a batch for this work exists already; checking again in {it.wait_s:g} s",
    e.ImportStarted: lambda it: f"importing {count(it.runs, 'run')} paid before, from {it.lock_file}",
    e.RunImported: lambda it: (
        f"run {it.run} on batch {it.batch} of another clone was imported"
        if it.is_clones
        else f"run {it.run} on batch {it.batch} matches this work; imported"
    ),
    e.TwinFound: lambda it: f"warning: run {it.run} on batch {it.batch} has the same tag as an imported run",
    e.ForeignBatch: lambda it: f"batch {it.batch}, {it.name}, holds other files; skipped",
    e.RunsUnlisted: lambda _: "warning: none of the recorded runs is listed any more; they may have been deleted",
    e.OlderBatch: lambda it: f"batch {it.batch} of the same name is older; waiting for its run",
    e.OlderClaim: lambda it: f"batch {it.claim} is an older claim on batch {it.batch}; waiting for its run",
    e.TurnAwaited: lambda it: f"checking whether another client changes batch {it.batch}, for {it.wait_s:g} s",
    e.CloneAwaited: lambda it: f"checking whether another client runs batch {it.batch}, for {it.wait_s:g} s",
    e.BatchTakenOver: lambda it: f"batch {it.batch} has no run; started because of --adopt",
    e.BatchCreated: lambda it: f"batch {it.batch} {'found and imported' if it.is_found else 'created'}",
    e.BatchFollowed: lambda it: (
        f"batch {it.batch} follows: {it.added} added, {it.replaced} replaced, {len(it.deleted)} deleted"
    ),
    e.BatchGone: lambda it: f"batch {it.batch} does not exist on the service any more; sending its files again",
    e.BatchSpoilt: lambda it: (
        f"batch {it.batch}: a lost worker may still send a file that changed; sending its files to another batch"
    ),
    e.LateWorkersAwaited: lambda it: (
        f"batch {it.batch}: a lost worker may still send to it; waiting {it.wait_s:.0f} s before its run"
    ),
    e.FilesMissing: lambda it: f"batch {it.batch}: {count(it.files, 'file')} {are(it.files)} sent again",
    e.FileChanged: lambda it: f"{it.path}: changed since the scan; the new content was sent",
    e.FileSkipped: lambda it: f"{it.path}: skipped, {it.reason}: {it.detail}",
    e.Retry: lambda it: f"{it.message}; trying again in {it.wait_s:.1f} s",
    e.RateLimited: lambda it: f"the service asks to slow down, {it.message}; waiting {it.wait_s:.1f} s",
    e.ResponseLost: lambda it: f"response lost: {it.message}",
    e.RefusedForNow: lambda it: f"refused for now: {it.message}; checking whether it exists before the next attempt",
    e.ExistenceChecked: lambda it: (
        f"checking whether {it.what} exists" + f" (up to {it.wait_s:.0f} s)" * (it.wait_s >= 1)
    ),
    e.RunStatus: lambda it: f"run {it.run}: {it.status}" + (f", {it.message}" if it.message else ""),
    e.RunPaidTwice: lambda it: (
        f"warning: run {it.run} was imported; {', '.join(it.twins)} carry the same tag, so it was paid twice"
    ),
    e.RunGone: lambda it: f"run {it.run} does not exist on the service any more",
    e.RunDropped: lambda it: (
        f"shard {it.shard}: no run was started, and "
        + ("another run has paid for its files" if it.is_paid else "its files changed; apply again")
    ),
    e.RunUnrecorded: lambda it: f"run {it.run} was started but is not recorded",
    e.RunUnconfirmed: lambda it: (
        f"a run on batch {it.batch} with tag {it.tag} may have been started; the next apply checks"
    ),
    e.DeletionStarted: lambda it: f"deleting {count(it.batches, 'batch')} and {count(it.runs, 'run')} from the service",
    e.RefreshStarted: lambda _: "comparing the recorded batches and runs with the service",
    e.Drifted: lambda it: Drift(*astuple(it)).render(),
    e.PdfsFetched: lambda it: f"{count(it.pdfs, 'PDF')} fetched",
    e.ResultsFetched: lambda it: f"run {it.run}: results of {count(it.files, 'file')} fetched",
}
