"""The session that promises get: a target, the objects created on it, and polling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fake_aihub.certify.http import Answer, Target
from fake_aihub.certify.promise import Broken, Skipped, check_equal, check_that

FINAL = ("COMPLETE", "FAILED", "CANCELLED")
RUN_S = 3600.0
MAX_PAUSE_S = 5.0
MAX_PAGES = 1000
CLIENT_ERRORS = range(400, 500)
DOCUMENTS = {
    "invoice 1.txt": "Invoice 1 of 2026-03-01\nSupplier: Northwind\nTotal: 10.00\n",
    "50%-é & #2.txt": "Invoice 2 of 2026-03-02\nSupplier: Kestrel\nTotal: 20.00\n",
    "请求书.txt": "Invoice 3 of 2026-03-03\nSupplier: Juniper\nTotal: 30.00\n",
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a user. "" means not set."""

    max_runs: int = 0
    app_name: str = ""
    owner: str = ""
    deployment: str = ""
    workspace: str = ""
    folder: str = ""
    settle_s: float = 30.0


@dataclass(slots=True)
class Hub:
    """One target during certification. `mark` is part of the name of everything that is created, and nothing else.

    `made` lists what is still to be deleted, `everything` all that was created, `hidden` what reports must not show.
    """

    target: Target
    options: Options
    mark: str
    made: list[tuple[str, str]] = field(default_factory=list)
    everything: list[tuple[str, str]] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    runs_tried: int = 0
    refusal: str = ""
    endless: set[str] = field(default_factory=set)
    measured: dict[str, list[float]] = field(default_factory=dict)
    _batch: int | None = None
    _run_batch: int | None = None
    _count: int = 0

    def new_name(self, suffix: str = "") -> str:
        """Return a unique name."""
        self._count += 1
        return f"certify-{self.mark}-{self._count}{suffix}"

    def answer(self, status: int, method: str, path: str, *parts: object, **what: Any) -> Answer:
        """Send a request, check the status, and return the response."""
        answer = self.target.send(method, path, *parts, **what)
        check_equal(f"status of {method} {path}", answer.status, status)
        return answer

    def ask(self, status: int, method: str, path: str, *parts: object, **what: Any) -> Any:
        """Send a request, check the status, and return the JSON of the response, if it has a body."""
        answer = self.answer(status, method, path, *parts, **what)
        return answer.json() if answer.body and "json" in answer.headers.get("Content-Type", "json") else None

    def refuses(self, statuses: Sequence[int], method: str, path: str, *parts: object, **what: Any) -> None:
        """Send a request, and check that it is rejected with one of some statuses."""
        self.refused(self.target.send(method, path, *parts, **what), *statuses)

    def refused(self, answer: Answer, *statuses: int) -> None:
        """Check that a response is an error with a message. Its status is one of these, by default any 4xx."""
        check_that("status", answer.status in (statuses or CLIENT_ERRORS), answer.status, f"one of {statuses or '4xx'}")
        message = answer.json().get("message") if answer.body else None
        check_that("message of the error", isinstance(message, str) and message != "", message, "a text")

    def eventually(self, what: str, look: Callable[[], Any]) -> Any:
        """Poll until there is a result, and record how long it took. Raises Broken if there is none in time."""
        begun, pause = self.target.now(), 0.1
        while not (found := look()):
            if self.target.now() - begun > self.options.settle_s:
                raise Broken(what, found, f"within {self.options.settle_s:g} s")
            self.target.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
        self.measured.setdefault(what, []).append(round(self.target.now() - begun, 3))
        return found

    def remember(self, kind: str, answer: Answer, key: str) -> Answer:
        """Record what a response says was created, before any check, so that it is deleted later."""
        if 200 <= answer.status < 300:
            made = answer.json()
            if isinstance(made, dict) and key in made:
                self.note(kind, str(made[key]))
        return answer

    def note(self, kind: str, name: str) -> None:
        """Record that something was created."""
        self.made.append((kind, name))
        self.everything.append((kind, name))

    def forget(self, kind: str, name: object) -> None:
        """Record that something was deleted."""
        if (kind, str(name)) in self.made:
            self.made.remove((kind, str(name)))

    # Batches and files

    def create_batch(self, **body: Any) -> Answer:
        """Create a batch as the body says."""
        if self.options.workspace:
            body = {"workspace": self.options.workspace} | body
        return self.remember("batch", self.target.send("POST", "/v2/batches", json=body), "id")

    def new_batch(self, **body: Any) -> int:
        """Create a batch and return its id."""
        answer = self.create_batch(**({"name": self.new_name()} | body))
        check_equal("status of POST /v2/batches", answer.status, 200)
        return int(answer.json()["id"])

    @property
    def batch(self) -> int:
        """A batch that promises share. Use a unique name for each file in it."""
        if self._batch is None:
            self._batch = self.new_batch()
        return self._batch

    def put(self, batch: int, name: str, body: bytes = b"content") -> None:
        """Put a file into a batch."""
        self.ask(204, "PUT", "/v2/batches/{}/files/{}", batch, name, data=body)

    def pages(self, batch: int, page_size: int) -> Iterator[dict[str, Any]]:
        """Yield the pages of a batch's files. Raises Broken if they never end."""
        asked: dict[str, Any] = {"page_size": page_size}
        for _ in range(MAX_PAGES):
            page = self.ask(200, "GET", "/v2/batches/{}/files", batch, params=asked)
            yield page
            if not page["has_more"]:
                return
            asked = {"page_size": page_size, "start_token": page["next_page_token"]}
        raise Broken("pages of files", f"{MAX_PAGES} pages, and has_more", "an end")

    def files(self, batch: int, page_size: int = 100) -> list[dict[str, Any]]:
        """List the files of a batch."""
        return [node for page in self.pages(batch, page_size) for node in page["nodes"]]

    def find_file(self, batch: int, name: str) -> dict[str, Any]:
        """Poll until a file appears in a batch."""
        found: dict[str, Any] = self.eventually(
            "a file is in the list of its batch",
            lambda: next((node for node in self.files(batch) if node["name"] == name), None),
        )
        return found

    def find_batch(self, batch: int, **asked: Any) -> dict[str, Any] | None:
        """Search the list of batches once; return None if the batch is not there."""
        return self._find("/v2/batches", "batches", batch, asked)

    def find_run(self, run_id: str, **asked: Any) -> dict[str, Any] | None:
        """Search the list of runs once; return None if the run is not there."""
        return self._find("/v2/apps/runs", "runs", run_id, asked)

    def _find(self, path: str, key: str, wanted: object, asked: dict[str, Any]) -> dict[str, Any] | None:
        for number in range(MAX_PAGES):
            page = self.ask(200, "GET", path, params=asked | {"limit": 100, "offset": 100 * number})[key]
            found: dict[str, Any] | None = next((item for item in page if item["id"] == wanted), None)
            if found or not page:
                return found
        raise Broken(f"pages of {key}", f"{MAX_PAGES} pages", "an end")

    def job_ends(self, job_id: object, path: str = "/v2/jobs/{}") -> None:
        """Check that a deletion completes successfully."""
        state = self.eventually("a deletion is done", lambda: self._final(self.ask(200, "GET", path, job_id)["state"]))
        check_equal("state of the job", state, "COMPLETE")

    @staticmethod
    def _final(status: str) -> str:
        return status if status in FINAL else ""

    # Runs: each of them costs units

    def start_run(self, path: str = "/v2/apps/runs", *parts: object, **body: Any) -> Answer:
        """Send a request that may start a run. Raises Skipped if no further run is allowed."""
        if self.runs_tried >= self.options.max_runs:
            raise Skipped(f"it may start a run, and --max-runs is {self.options.max_runs}")
        self.runs_tried += 1  # Before the response: if it is lost, the run may still have started.
        answer = self.remember("run", self.target.send("POST", path, *parts, json=body), "id")
        if 400 <= answer.status < 500:
            self.runs_tried -= 1
        return answer

    def app(self) -> dict[str, Any]:
        """Return the app to run. A null value counts as missing."""
        named = {"owner": self.options.owner or None, "output_workspace": self.options.workspace or None}
        return {"app_name": self.options.app_name, **named, "version": None, "input_dir": None}

    @property
    def run_batch(self) -> int:
        """The input batch of the shared runs."""
        if self._run_batch is None:
            batch = self.new_batch()
            for name, text in DOCUMENTS.items():
                self.put(batch, name, text.encode())
            self._run_batch = batch
        return self._run_batch

    def run_tag(self, index: int = 0) -> str:
        """Return the tag of a shared run."""
        return f"certify-{self.mark}-run-{index}"

    def run(self, index: int = 0) -> dict[str, Any]:
        """Return a shared run as returned at its start. Start it if necessary."""
        while len(self.runs) <= index:
            if self.refusal:
                raise Skipped(self.refusal)
            tags = [self.run_tag(len(self.runs)), "schlüssel=wert/1"]
            settings = {"tags": tags, "keys": {"custom": {"certify": self.mark}}}
            answer = self.start_run(**self.app(), batch_id=self.run_batch, settings=settings)
            if 400 <= answer.status < 500:
                self.refusal = f"starting a run of the app failed with {answer.status}"
                continue
            check_equal("status of POST /v2/apps/runs", answer.status, 200)
            self.runs.append(answer.json())
        return self.runs[index]

    def completed(self, index: int = 0) -> dict[str, Any]:
        """Return a shared run after its end. Raises Skipped unless it is COMPLETE."""
        run_id, begun, pause = self.run(index)["id"], self.target.now(), 0.2
        while True:
            run: dict[str, Any] = self.ask(200, "GET", "/v2/apps/runs/{}", run_id)
            if run["status"] != "RUNNING" or run_id in self.endless or self.target.now() - begun > RUN_S:
                break
            self.target.sleep(pause)
            pause = min(1.5 * pause, MAX_PAUSE_S)
        if run["status"] != "COMPLETE":
            self.endless.add(run_id)  # Wait once, not for each promise.
            raise Skipped(f"the run is {run['status']}; only a COMPLETE run has results")
        return run

    def results(self, index: int = 0, **flags: Any) -> list[dict[str, Any]]:
        """Return all files in the results of a shared run, page by page."""
        return [file for page in self.result_pages(index, **flags) for file in page["files"]]

    def result_pages(self, index: int = 0, **flags: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a shared run's results. Raises Broken if they never end."""
        run_id, offset = self.completed(index)["id"], 0
        while True:
            asked = flags | {"file_offset": offset}
            page = self.ask(200, "GET", "/v2/apps/runs/{}/results", run_id, params=asked)
            yield page
            offset += len(page["files"])
            if not page["has_more"]:
                return
            check_that("files on a page with has_more", bool(page["files"]), page["files"], "some files")
