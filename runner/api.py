"""The endpoints of the AI Hub API, a few lines each; how requests travel is in `transport`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from runner import wire
from runner.bodies import FileSlice
from runner.errors import ServiceError
from runner.transport import Transport, accept

PAGE = 100
REPEATS = 10  # pages in a row without anything new: a list that moves while it is read has fewer

Model = TypeVar("Model", bound=BaseModel)


class AIHub(Transport):
    """A client of one root, token and context; see `Transport`."""

    def _pages(self, model: type[Model], path: str, key: str, params: dict[str, Any]) -> Iterator[Any]:
        """Read a list to its end: until a page is empty, since a server may give fewer than asked for."""
        offset, known, repeats = 0, set[Any](), 0
        while True:
            page = self.ask(model, path, params | {"limit": PAGE, "offset": offset})
            items = getattr(page, key)
            if not items:
                return
            repeats = repeats + 1 if known.issuperset(item.id for item in items) else 0
            if repeats > REPEATS:
                raise ServiceError(f"GET {path}: the same page comes again and again", "apply again in a while")
            known.update(item.id for item in items)
            yield from items
            offset += len(items)

    # Batches

    def create_batch(self, name: str, workspace: str) -> int:
        """Create a batch and give its id; see `create`."""
        body = {"name": name} | ({"workspace": workspace} if workspace else {})
        return self.create(wire.CreatedBatch, "/v2/batches", body).id

    def check_access(self) -> None:
        """Make sure, free of charge, that the service is there and takes our token."""
        self.ask(wire.BatchList, "/v2/batches", {"limit": 1, "offset": 0})

    def list_batches(self, workspace: str) -> list[wire.BatchInfo]:
        """List all batches that we may see, in one workspace if named."""
        params = {"workspace": workspace} if workspace else {}
        return list(self._pages(wire.BatchList, "/v2/batches", "batches", params))

    def list_files(self, batch_id: int) -> dict[str, int | None]:
        """List the names and sizes of all files in a batch; raises ServiceError where a page comes twice."""
        files: dict[str, int | None] = {}
        token: str | None = None
        seen: set[str | None] = set()
        while token not in seen:
            seen.add(token)
            params = {"page_size": PAGE * 10} | ({"start_token": token} if token else {})
            page = self.ask(wire.FileList, f"/v2/batches/{batch_id}/files", params)
            files.update({node.name: node.metadata.size for node in page.nodes})
            token = page.next_page_token
            if not page.has_more or not token:
                return files
        raise ServiceError(f"GET /v2/batches/{batch_id}/files: a page came twice", "apply again", transient=True)

    def put_file(self, batch_id: int, name: str, body: bytes | FileSlice) -> None:
        """Put a file into a batch, over one of that name."""
        self.write("PUT", f"/v2/batches/{batch_id}/files/{quote(name, safe='')}", body)

    def delete_file(self, batch_id: int, name: str) -> None:
        """Ask for a file of a batch to be deleted; it goes some time later."""
        self.write("DELETE", f"/v2/batches/{batch_id}/files/{quote(name, safe='')}", None)

    def open_upload(self, batch_id: int, name: str, size: int) -> wire.UploadSession:
        """Start a multipart upload; an abandoned one does no harm."""
        body = json.dumps({"batch_id": batch_id, "filename": name, "file_size": size}).encode()
        path = "/v2/batches/multipart-upload"
        answer = self.write("POST", path, body, content_type="application/json")
        return wire.parse_answer(wire.UploadSession, answer.body, f"POST {path}")

    def put_part(self, session_id: str, number: int, body: FileSlice) -> wire.UploadPart:
        """Send a part, numbered from 1."""
        path = f"/v2/batches/multipart-upload/sessions/{quote(session_id, safe='')}/parts/{number}"
        answer = self.write("PUT", path, body)
        return wire.parse_answer(wire.UploadPart, answer.body, f"PUT {path}")

    def close_upload(self, session_id: str, parts: list[wire.UploadPart] | None) -> None:
        """Commit an upload with its parts in order, or abort it where `parts` is None."""
        action: dict[str, Any] = {"action": "abort"}
        if parts is not None:
            action = {"action": "commit", "parts": [part.model_dump() for part in parts]}
        path = f"/v2/batches/multipart-upload/sessions/{quote(session_id, safe='')}"
        self.write("POST", path, json.dumps(action).encode(), content_type="application/json")

    # Runs

    def _without_secrets(self, run: wire.RunInfo) -> wire.RunInfo:
        return run.model_copy(update={"msg": wire.hide_secrets(run.msg, self.secrets)}) if run.msg else run

    def start_run(self, deployment_id: str, body: Mapping[str, Any]) -> wire.RunInfo:
        """Start a run, which is what costs money; see `create`."""
        path = f"/v2/apps/deployments/{quote(deployment_id, safe='')}/runs" if deployment_id else "/v2/apps/runs"
        return self._without_secrets(self.create(wire.RunInfo, path, body))

    def get_run(self, run_id: str) -> wire.RunInfo:
        """Ask for the state of a run."""
        return self._without_secrets(self.ask(wire.RunInfo, f"/v2/apps/runs/{quote(run_id, safe='')}"))

    def list_runs(self, from_s: float) -> list[wire.RunInfo]:
        """List all runs since a time in Unix seconds, the oldest first."""
        params = {
            "from_timestamp": max(1, int(from_s)),  # 0 might be taken for not given
            "sort_by": "start_timestamp",
            "order": "ASCENDING",
        }
        return [self._without_secrets(run) for run in self._pages(wire.RunList, "/v2/apps/runs", "runs", params)]

    def get_results(self, run_id: str, include: Mapping[str, str], offset: int) -> bytes:
        """Get one page of results as it came; raises wire.Unreadable where it is none."""
        path = f"/v2/apps/runs/{quote(run_id, safe='')}/results"

        def act() -> bytes:
            answer = accept(self.send("GET", path, params={"file_offset": offset, **include}), path)
            wire.parse_answer(wire.ResultPage, answer.body, f"GET {path}")
            return answer.body

        return self.repeat(f"GET {path}", act)
