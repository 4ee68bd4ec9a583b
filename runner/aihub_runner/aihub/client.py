"""The endpoints of the AI Hub API, a few lines each. `transport` sends the requests."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from aihub_runner.aihub import schemas
from aihub_runner.aihub.bodies import FileBytes, FileSlice
from aihub_runner.aihub.listing import MAX_IDLE_PAGES, PAGE, read_batches, read_runs
from aihub_runner.aihub.sharing import Sharing
from aihub_runner.aihub.transport import FAILURES, Transport, accept
from aihub_runner.errors import ServiceError
from aihub_runner.plan.identity import parse_run_tag
from aihub_runner.text.escape import clean_text

GLANCE_S = 0.5

T = TypeVar("T", bound=BaseModel)
R = TypeVar("R")
# The end of a list of runs, in Unix seconds. By default it is the service's own time, which is no proof either: a run
# whose start was recorded by another clock would be missing, and paid for again.
LATEST_S = 4_102_444_800  # the year 2100


def or_none(ask: Callable[[], R]) -> R | None:
    """Return a response, or None for a 404."""
    try:
        return ask()
    except ServiceError as error:
        if error.status != 404:
            raise
        return None


class AIHub(Transport):
    """A client for one root, token and context; see `Transport`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._glancing = threading.Lock()
        self._seen: Mapping[str, str] = {}
        self._next_glance_s = 0.0
        self._batches = Sharing[schemas.BatchInfo]()
        self._runs = Sharing[schemas.RunInfo]()

    def _compared(self, answer: R, what: str, differs: str) -> R:
        """Return a response that matches its request. Raises schemas.Unreadable for any other."""
        if not differs:
            return answer
        raise schemas.Unreadable(
            f"{what}: the response is about something else, {clean_text(schemas.hide_secrets(differs, self.secrets))}",
            "check whether a proxy or gateway mixes up responses, then apply again",
            transient=True,
        )

    # Batches

    def create_batch(self, name: str, workspace: str) -> int:
        """Create a batch and return its id; see `create`."""
        body = {"name": name} | ({"workspace": workspace} if workspace else {})
        return self.create(_reader(schemas.CreatedBatch, "POST /v2/batches"), "/v2/batches", body).id

    def get_batch(self, batch_id: int) -> schemas.BatchInfo:
        """Return a batch: its name, its workspace, and its creation time, as far as the service reports them."""
        what = f"GET /v2/batches/{batch_id}"

        def read(body: bytes) -> schemas.BatchInfo:
            batch = schemas.parse_answer(schemas.BatchInfo, body, what)
            return self._compared(batch, what, _differ("batch", batch_id, batch.id))

        return self.ask(read, f"/v2/batches/{batch_id}")

    def list_batches(self, workspace: str) -> list[schemas.BatchInfo]:
        """List all batches that the account can see, in one workspace if named; see `read_batches`."""
        params = {"workspace": workspace} if workspace else {}

        def ask(offset: int) -> Sequence[schemas.BatchInfo]:
            return self.get(schemas.BatchList, "/v2/batches", params | {"limit": PAGE, "offset": offset}).batches

        return self._batches.read(workspace, lambda: read_batches(ask))

    def list_files(self, batch_id: int) -> dict[str, schemas.FileMetadata]:
        """List all files in a batch by name, with their metadata. Raises ServiceError if the list never ends."""
        files: dict[str, schemas.FileMetadata] = {}
        token: str | None = None
        seen: set[str | None] = set()
        idle = 0  # pages in a row without a new name
        path = f"/v2/batches/{batch_id}/files"
        while token not in seen and idle < MAX_IDLE_PAGES:
            seen.add(token)
            known = len(files)
            page = self._get_files(path, token)
            files.update({node.name: node.metadata for node in page.nodes})
            token, idle = page.next_page_token, idle + 1 if len(files) == known else 0
            if page.has_more and not token:
                raise ServiceError(f"GET {path}: reports more files, but no link to them", "apply again")
            if page.has_more is False or not token:
                return files
        what = "returned a page twice" if token in seen else f"returned {idle} pages without a new file"
        raise ServiceError(f"GET {path}: {what}", "apply again", transient=True)

    def _get_files(self, path: str, token: str | None) -> schemas.FileList:
        """Return a page of files. A later one that returns 404 is no proof that the batch is gone."""
        try:
            return self.get(
                schemas.FileList, path, {"page_size": PAGE * 10} | ({"start_token": token} if token else {})
            )
        except ServiceError as error:
            if not token or error.status != 404:
                raise
            raise ServiceError(f"GET {path}: the list ends early, a page returned 404", "apply again") from error

    def put_file(self, batch_id: int, name: str, body: bytes | FileBytes | FileSlice) -> None:
        """Put a file into a batch, and replace one of the same name."""
        path = f"/v2/batches/{batch_id}/files/{_segment(name)}"
        self.write("PUT", path, body, _read_nothing(f"PUT {path}"))

    def delete_file(self, batch_id: int, name: str) -> None:
        """Request the deletion of a file from a batch. The service deletes it later."""
        path = f"/v2/batches/{batch_id}/files/{_segment(name)}"
        self.write("DELETE", path, None, _read_nothing(f"DELETE {path}"))

    def open_upload(self, batch_id: int, name: str, size: int) -> schemas.UploadSession:
        """Start a multipart upload. Abandoning one does no harm."""
        body = json.dumps({"batch_id": batch_id, "filename": name, "file_size": size}).encode()
        path = "/v2/batches/multipart-upload"
        read = _reader(schemas.UploadSession, f"POST {path}")
        return self.write("POST", path, body, read, content_type="application/json")

    def put_part(self, session_id: str, number: int, body: bytes | memoryview) -> schemas.UploadPart:
        """Send a part, numbered from 1."""
        path = f"/v2/batches/multipart-upload/sessions/{_segment(session_id)}/parts/{number}"

        def read(answer: bytes) -> schemas.UploadPart:
            part = schemas.parse_answer(schemas.UploadPart, answer, f"PUT {path}")
            return self._compared(part, f"PUT {path}", _differ("part", number, part.part_num))

        return self.write("PUT", path, body, read)

    def close_upload(self, session_id: str, parts: list[schemas.UploadPart] | None) -> None:
        """Commit an upload with its parts in order, or abort it where `parts` is None."""
        action: dict[str, Any] = {"action": "abort"}
        if parts is not None:
            action = {"action": "commit", "parts": [part.model_dump() for part in parts]}
        path = f"/v2/batches/multipart-upload/sessions/{_segment(session_id)}"
        read = _read_nothing(f"POST {path}")
        self.write("POST", path, json.dumps(action).encode(), read, content_type="application/json")

    # Deletions

    def delete_batch(self, batch_id: int) -> tuple[str | None, ...]:
        """Request the deletion of a batch with its files, and return the jobs that do it."""
        path = f"/v2/batches/{batch_id}"
        read = _reader(schemas.BatchDeletion, f"DELETE {path}")
        return (self.write("DELETE", path, None, read).job_id,)

    def delete_run(self, run_id: str, parts: Collection[str]) -> tuple[str | None, ...]:
        """Request the deletion of parts of a run, and return the jobs that do it; None for a part without a job.

        All parts are named in the request, since the service deletes those that are not. It never includes the input.
        """
        path = f"/v2/apps/runs/{_segment_of_id(run_id)}"
        flags = {f"delete_{part}": str(part in parts).lower() for part in ("db_data", "output", "logs")}
        params = {"delete_input": "false", **flags}
        jobs = self.write("DELETE", path, None, _reader(schemas.RunDeletion, f"DELETE {path}"), params=params)
        found = {"output": jobs.delete_output_dir_job_id, "logs": jobs.delete_log_dir_job_id}
        return tuple(found.get(part) for part in sorted(parts) if part in found)

    def get_job(self, job_id: str) -> schemas.JobInfo:
        """Return the state of a deletion."""
        return self.get(schemas.JobInfo, f"/v2/jobs/{_segment_of_id(job_id)}")

    # Runs

    def _without_secrets(self, run: schemas.RunInfo) -> schemas.RunInfo:
        return run.model_copy(update={"msg": schemas.hide_secrets(run.msg, self.secrets)}) if run.msg else run

    def start_run(self, deployment_id: str, body: Mapping[str, Any]) -> schemas.RunInfo:
        """Start a run, which costs money; see `create`. Raises AnswerLost for a response about another run."""
        path = f"/v2/apps/deployments/{_segment(deployment_id)}/runs" if deployment_id else "/v2/apps/runs"
        tags = (body.get("settings") or {}).get("tags") or ()
        tag = next((tag for tag in tags if parse_run_tag(tag)), "")

        def read(answer: bytes) -> schemas.RunInfo:
            run = schemas.parse_answer(schemas.RunInfo, answer, f"POST {path}")
            return self._compared(run, f"POST {path}", _differ_run(run, body.get("batch_id"), tag))

        return self._without_secrets(self.create(read, path, body))

    def get_run(self, run_id: str, *, batch_id: int | None = None, tag: str = "") -> schemas.RunInfo:
        """Return a run. The response must have this batch and this tag, if given."""
        path = f"/v2/apps/runs/{_segment_of_id(run_id)}"

        def read(answer: bytes) -> schemas.RunInfo:
            run = schemas.parse_answer(schemas.RunInfo, answer, f"GET {path}")
            differs = _differ("run", run_id, run.id) or _differ_run(run, batch_id, tag)
            return self._compared(run, f"GET {path}", differs)

        return self._without_secrets(self.ask(read, path))

    def list_runs(self, from_s: float) -> list[schemas.RunInfo]:
        """List all runs since a time in Unix seconds, oldest first; see `read_runs`."""

        def ask(since: int, order: str, offset: int) -> Sequence[schemas.RunInfo]:
            params = {
                "from_timestamp": since,
                "to_timestamp": LATEST_S,
                "sort_by": "start_timestamp",
                "order": order,
                "limit": PAGE,
                "offset": offset,
            }
            return self.get(schemas.RunList, "/v2/apps/runs", params).runs

        return self._runs.read(from_s, lambda: [self._without_secrets(run) for run in read_runs(ask, from_s)])

    def glance(self, run_id: str, from_s: float) -> str:
        """Return a run's status in a list of the newest runs, at most `GLANCE_S` old. It proves nothing.

        Return nothing where the run is not among them, or the list cannot be had.
        """
        with self._glancing:
            if time.monotonic() >= self._next_glance_s:
                self._seen = self._list_newest(from_s)
                self._next_glance_s = time.monotonic() + GLANCE_S
            return self._seen.get(run_id, "")

    def _list_newest(self, from_s: float) -> Mapping[str, str]:
        path = "/v2/apps/runs"
        params = {"from_timestamp": int(from_s), "sort_by": "start_timestamp", "order": "DESCENDING", "limit": PAGE}
        try:
            listed = accept(self.send("GET", path, params=params), path).read(_reader(schemas.RunList, path))
        except (ServiceError, *FAILURES):
            return {}
        return {run.id: run.status for run in listed.runs}

    def get_results(
        self, run_id: str, include: Mapping[str, str], offset: int, *, batch_id: int | None = None
    ) -> tuple[bytes, schemas.ResultPage]:
        """Return one page of results, unchanged and parsed. Raises schemas.Unreadable for any other answer."""
        path = f"/v2/apps/runs/{_segment_of_id(run_id)}/results"

        def read(answer: bytes) -> tuple[bytes, schemas.ResultPage]:
            page = schemas.parse_results(answer, f"GET {path}")
            differs = _differ("run", run_id, page.id or run_id)
            differs = differs or _differ("batch", batch_id, page.batch_id or batch_id) * bool(batch_id)
            return self._compared((answer, page), f"GET {path}", differs)

        return self.ask(read, path, {"file_offset": offset, **include})

    # Files in drives

    def stat_file(self, path: str) -> tuple[int, str]:
        """Return the size of a file in a drive, and when it was changed, as the service writes it."""
        what = f"HEAD /v2/files{path}"
        headers = self.head(_file_path(path))
        size = headers.get("content-length", "")
        if not (size.isascii() and size.isdecimal()):
            raise schemas.Unreadable(f"{what}: the response has no size", "apply again", transient=True)
        return int(size), headers.get("last-modified", "")

    def read_file(self, path: str, start: int, end: int, size: int) -> bytes:
        """Return the bytes of a file in a drive from `start` to before `end`, or to its end; it has `size` bytes."""
        return self.read_span(_file_path(path), {"expect-node-type": "file"}, start, end, size)


def _segment(name: str, status: int = 0) -> str:
    """Return a name or an id as one segment of a path. Raises ServiceError, with a status, for one of dots.

    However dots are written, HTTP libraries resolve them: a request for file `..` of a batch is one for the batch.
    """
    if name in (".", ".."):
        what = f"the service has something named {name!r}, which no request can name"
        raise ServiceError(what, "rename or remove it in AI Hub", status=status)
    return quote(name, safe="")


def _segment_of_id(given: str) -> str:
    """Return an id from the service as a segment. Nothing can be there under one of dots."""
    return _segment(given, 404)


def _file_path(path: str) -> str:
    return f"/v2/files/{quote(path.removeprefix('/'))}"


def _reader(model: type[T], what: str) -> Callable[[bytes], T]:
    return lambda body: schemas.parse_answer(model, body, what)


def _read_nothing(what: str) -> Callable[[bytes], None]:
    return lambda body: schemas.parse_nothing(body, what)


def _differ(kind: str, asked: object, came: object) -> str:
    return "" if asked == came else f"{kind} {came!r} instead of {asked!r}"


def _differ_run(run: schemas.RunInfo, batch_id: int | None, tag: str) -> str:
    """Return how a run differs from the request, or empty. A missing value is no difference."""
    if batch_id and run.batch_id and run.batch_id != batch_id:
        return f"a run on batch {run.batch_id} instead of {batch_id}"
    tags = run.tags or ()
    if not tag or not tags or tag in tags:
        return ""
    if any(map(parse_run_tag, tags)) or not run.batch_id:
        return f"a run with tags {', '.join(map(repr, tags[:3]))} instead of {tag!r}"
    return ""
