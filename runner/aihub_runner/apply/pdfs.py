"""Fetch the PDFs that the service generated of documents, after everything else. May be repeated, and costs nothing.

A PDF arrives in parts in a hidden file beside its place, from which the next apply goes on. It moves to its place once
it has the size that the service states.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import Unreadable
from aihub_runner.apply.events import PdfsFetched
from aihub_runner.apply.job import Job, OpenJob
from aihub_runner.errors import Interrupted, ResultsError, RunnerError, ServiceError, StateError
from aihub_runner.files import digest_file, explain_late, make_folder, safe_segment
from aihub_runner.model import MB, Scan
from aihub_runner.plan.batching import MAX_NAME
from aihub_runner.results.documents import without_damage
from aihub_runner.results.kept import KeptFiles
from aihub_runner.results.reader import Found, find_results
from aihub_runner.state.outputs import PDF_FOLDER, PDFS
from aihub_runner.state.store import State
from aihub_runner.text.shown import count

PART_BYTES = 4 * MB


def fetch_pdfs(opened: OpenJob) -> tuple[list[str], list[RunnerError]]:
    """Fetch each PDF that is missing. Return notes on PDFs that were edited, and what could not be fetched."""
    if not opened.job.spec.results.pdf or opened.client.stop.is_set():
        return [], []
    try:
        with explain_late():
            return _fetch_missing(opened)
    except (ResultsError, StateError) as error:
        return [], [error]


def are_fetched(job: Job, state: State, scan: Scan) -> bool:
    """Whether all PDFs that the job asks for were fetched, and are on disk, edited or not."""
    if not job.spec.results.pdf:
        return True
    found = find_results(state, state.load_shards(), scan, job.goal, job.results_path)
    pdfs = (job.results_path / path for path in state.load_outputs() if path.startswith(PDF_FOLDER))
    return state.find_made_from(PDFS) == found.identify() and all(path.is_file() for path in pdfs)


def _fetch_missing(opened: OpenJob) -> tuple[list[str], list[RunnerError]]:
    job, state, folder = opened.job, opened.state, opened.job.results_path
    found = find_results(state, state.load_shards(), opened.scan, job.goal, folder)
    known, kept = state.load_outputs(), KeptFiles(state, folder)
    have = {path: output.digest for path, output in known.items() if path.startswith(PDF_FOLDER)}
    if state.find_made_from(PDFS) == found.identify() and all(kept.holds(*pdf) for pdf in have.items()):
        return [], []
    wanted = dict(_list_pdfs(without_damage(found, job.damaged)))
    missing = {path for path in wanted if not (have.get(path) and kept.holds(path, have[path]))}
    changed = set() if job.options.refetch else {path for path in missing if _is_edited(folder / path, have.get(path))}
    state.record_made_from(PDFS, "")
    state.forget_outputs(have.keys() - wanted.keys())
    state.record_announced(dict.fromkeys(missing - changed, ""))  # so that `status` knows of them
    errors = _fetch_all(opened, {path: wanted[path] for path in sorted(missing - changed)})
    if not errors and not opened.client.stop.is_set():
        state.record_made_from(PDFS, found.identify())
    return [f"{path} was edited by hand and is not overwritten; see --refetch" for path in sorted(changed)], errors


def _is_edited(path: Path, digest: str | None) -> bool:
    return digest_file(path) not in ("", digest)


def _list_pdfs(found: Found) -> Iterator[tuple[str, str]]:
    """Yield the place of each PDF in the results folder, and its path on the service."""
    for document in found.documents():
        path = document.get("post_processed_pdf_path")
        if isinstance(path, str) and path:
            run, name = safe_segment(document["run_id"]), _safe_name(document["file_name"])
            yield f"{PDF_FOLDER}{run}/{name}/{document['document_index']}.pdf", path


def _safe_name(name: str) -> str:
    """Return the name of a file in a batch as that of a folder: itself, except where it may come from elsewhere."""
    is_plain = name.strip(".") and len(os.fsencode(name)) <= MAX_NAME and not {"/", "\0"} & {*name}
    return name if is_plain else safe_segment(name)


def _fetch_all(opened: OpenJob, pdfs: dict[str, str]) -> list[RunnerError]:
    """Fetch PDFs, several at once; this thread records them. Return one error for all that failed alike."""
    job, client = opened.job, opened.client
    failed: dict[type[RunnerError], list[RunnerError]] = {}
    fetched = 0
    with ThreadPoolExecutor(job.spec.limits.parallel_runs, "pdf") as pool:
        futures = {pool.submit(partial(_fetch, client, pdfs[path], job.results_path / path)): path for path in pdfs}
        for future in as_completed(futures):
            try:
                digest, size, mtime_ns = future.result()
            except Interrupted:
                pool.shutdown(wait=False, cancel_futures=True)
                break
            except RunnerError as error:
                failed.setdefault(type(error), []).append(error)
            else:
                opened.state.record_output(futures[future], digest, size, mtime_ns)
                fetched += 1
    if fetched:
        opened.reporter.emit(PdfsFetched(fetched))
    return [_summarize(errors) for errors in failed.values()]


def _summarize(errors: list[RunnerError]) -> RunnerError:
    first = errors[0]
    if len(errors) > 1:
        first.message = f"{first.message}; {count(len(errors) - 1, 'more PDF')} cannot be fetched either"
    return first


@explain_late()
def _fetch(client: AIHub, remote: str, place: Path) -> tuple[str, int, int]:
    """Fetch a PDF, and return its digest, size and time. Raises ResultsError if the service does not have it."""
    try:
        try:
            return _fetch_parts(client, remote, place)
        except Unreadable:  # perhaps something else stated the size
            return _fetch_parts(client, remote, place)
    except ServiceError as error:
        if error.status != 404:
            raise
        what = f"{place.parent.name}/{place.name}: {error.message}"
        raise ResultsError(what, "the service has no such PDF any more") from None


def _fetch_parts(client: AIHub, remote: str, place: Path) -> tuple[str, int, int]:
    size, modified = client.stat_file(remote)
    make_folder(place.parent)
    mark = hashlib.sha256(f"{remote} {size} {modified}".encode()).hexdigest()[:16]  # the parts of one and the same file
    part = place.with_name(f".{place.name}.{mark}.part")
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
        while (have := file.seek(0, os.SEEK_END)) < size:
            file.write(client.read_file(remote, have, min(size, have + PART_BYTES), size))
        file.flush()
        os.fsync(file.fileno())
    digest = digest_file(part)
    found = part.stat()
    if found.st_size != size:
        part.unlink()
        raise ServiceError(
            f"{place.name} of {place.parent.name}: has {found.st_size} bytes instead of {size}", "apply again"
        )
    part.replace(place)
    for left in place.parent.glob(f".{place.name}.*.part"):
        left.unlink(missing_ok=True)
    return digest, size, found.st_mtime_ns
