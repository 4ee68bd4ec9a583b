"""What promises are given: a target, what was made on it, and how to look until something shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fake_aihub.certify.http import Answer, Target
from fake_aihub.certify.promise import Broken, Skipped, check_equal, check_that

FINAL = ("COMPLETE", "FAILED", "CANCELLED")
RUN_S = 3600.0
MAX_PAUSE_S = 5.0
MAX_PAGES = 1000
DOCUMENTS = {
    "invoice 1.txt": "Invoice 1 of 2026-03-01\nSupplier: Northwind\nTotal: 10.00\n",
    "50%-é & #2.txt": "Invoice 2 of 2026-03-02\nSupplier: Kestrel\nTotal: 20.00\n",
    "请求书.txt": "Invoice 3 of 2026-03-03\nSupplier: Juniper\nTotal: 30.00\n",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a person allows and names; "" is not named."""

    max_runs: int = 0
    app_name: str = ""
    owner: str = ""
    deployment: str = ""
    workspace: str = ""
    folder: str = ""
    settle_s: float = 30.0


@dataclass(slots=True)
class Hub:
    """One target while it is certified. `mark` is in the name of everything that is made, and nowhere else.

    `made` is what is still to be deleted, `everything` what ever was made, `hidden` what no report may tell.
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
        """Make a name that nothing here has yet."""
        self._count += 1
        return f"certify-{self.mark}-{self._count}{suffix}"

    def ask(self, status: int, method: str, path: str, *parts: object, **what: Any) -> Any:
        """Send a request, check its status, and give the JSON of its answer, if it has a body."""
        answer = self.target.send(method, path, *parts, **what)
        check_equal(f"status of {method} {path}", answer.status, status)
        return answer.json() if answer.body and "json" in answer.headers.get("Content-Type", "json") else None

    def refused(self, answer: Answer, *statuses: int) -> None:
        """Check that an answer is a refusal with a message."""
        check_that(
            "status", answer.status in (statuses or range(400, 500)), answer.status, f"one of {statuses or '4xx'}"
        )
        message = answer.json().get("message") if answer.body else None
        check_that("message of the error", isinstance(message, str) and message != "", message, "a text")

    def eventually(self, what: str, look: Callable[[], Any]) -> Any:
        """Look until there is something, and note how long that took. Raises Broken where there never is."""
        begun, pause = self.target.now(), 0.1
        while not (found := look()):
            if self.target.now() - begun > self.options.settle_s:
                raise Broken(what, found, f"within {self.options.settle_s:g} s")
            self.target.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
        self.measured.setdefault(what, []).append(round(self.target.now() - begun, 3))
        return found

    def remember(self, kind: str, answer: Answer, key: str) -> Answer:
        """Note what an answer says was made, before anything is checked, so that it is deleted."""
        if 200 <= answer.status < 300:
            made = answer.json()
            if isinstance(made, dict) and key in made:
                self.note(kind, str(made[key]))
        return answer

    def note(self, kind: str, name: str) -> None:
        """Note that something was made."""
        self.made.append((kind, name))
        self.everything.append((kind, name))

    def forget(self, kind: str, name: object) -> None:
        """Note that something is gone."""
        if (kind, str(name)) in self.made:
            self.made.remove((kind, str(name)))

    # Batches and files

    def create_batch(self, **body: Any) -> Answer:
        """Create a batch as the body says."""
        if self.options.workspace:
            body = {"workspace": self.options.workspace} | body
        return self.remember("batch", self.target.send("POST", "/v2/batches", json=body), "id")

    def new_batch(self, **body: Any) -> int:
        """Create a batch, and give its id."""
        answer = self.create_batch(**({"name": self.new_name()} | body))
        check_equal("status of POST /v2/batches", answer.status, 200)
        return int(answer.json()["id"])

    @property
    def batch(self) -> int:
        """A batch that promises share: give each file there a name of its own."""
        if self._batch is None:
            self._batch = self.new_batch()
        return self._batch

    def put(self, batch: int, name: str, body: bytes = b"content") -> None:
        """Put a file into a batch."""
        self.ask(204, "PUT", "/v2/batches/{}/files/{}", batch, name, data=body)

    def pages(self, batch: int, page_size: int) -> Iterator[dict[str, Any]]:
        """Return the pages of a batch's files. Raises Broken where they never end."""
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
        """Look for a file in a batch until it shows."""
        found: dict[str, Any] = self.eventually(
            "a file is in the list of its batch",
            lambda: next((node for node in self.files(batch) if node["name"] == name), None),
        )
        return found

    def find_batch(self, batch: int, **asked: Any) -> dict[str, Any] | None:
        """Look once through the list of batches; None where it is not."""
        for number in range(MAX_PAGES):
            page = self.ask(200, "GET", "/v2/batches", params=asked | {"limit": 100, "offset": 100 * number})["batches"]
            found: dict[str, Any] | None = next((item for item in page if item["id"] == batch), None)
            if found or not page:
                return found
        raise Broken("pages of batches", f"{MAX_PAGES} pages", "an end")

    def job_ends(self, job_id: object, path: str = "/v2/jobs/{}") -> None:
        """Check that a deletion comes to its end, and well."""
        state = self.eventually("a deletion is done", lambda: self._final(self.ask(200, "GET", path, job_id)["state"]))
        check_equal("state of the job", state, "COMPLETE")

    @staticmethod
    def _final(status: str) -> str:
        return status if status in FINAL else ""

    # Runs: each of them is paid for

    def start_run(self, path: str = "/v2/apps/runs", *parts: object, **body: Any) -> Answer:
        """Send what may start a run. Raises Skipped where another one is not allowed."""
        if self.runs_tried >= self.options.max_runs:
            raise Skipped(f"it may start a run, and --max-runs is {self.options.max_runs}")
        self.runs_tried += 1  # Before the answer: a lost one may have been paid for.
        answer = self.remember("run", self.target.send("POST", path, *parts, json=body), "id")
        if 400 <= answer.status < 500:
            self.runs_tried -= 1
        return answer

    def app(self) -> dict[str, Any]:
        """Return which app to run; what is null there means not given."""
        named = {"owner": self.options.owner or None, "output_workspace": self.options.workspace or None}
        return {"app_name": self.options.app_name, **named, "version": None, "input_dir": None}

    @property
    def run_batch(self) -> int:
        """The batch that the shared runs are on."""
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
        """Return a shared run as it was answered when it started, and start it first if it is not yet there."""
        while len(self.runs) <= index:
            if self.refusal:
                raise Skipped(self.refusal)
            tags = [self.run_tag(len(self.runs)), "schlüssel=wert/1"]
            settings = {"tags": tags, "keys": {"custom": {"certify": self.mark}}}
            answer = self.start_run(**self.app(), batch_id=self.run_batch, settings=settings)
            if 400 <= answer.status < 500:
                self.refusal = f"a run of the app is refused with {answer.status}"
                continue
            check_equal("status of POST /v2/apps/runs", answer.status, 200)
            self.runs.append(answer.json())
        return self.runs[index]

    def completed(self, index: int = 0) -> dict[str, Any]:
        """Return a shared run as it is when it has ended. Raises Skipped unless that is COMPLETE."""
        run_id, begun, pause = self.run(index)["id"], self.target.now(), 0.2
        while True:
            run: dict[str, Any] = self.ask(200, "GET", "/v2/apps/runs/{}", run_id)
            if run["status"] != "RUNNING" or run_id in self.endless or self.target.now() - begun > RUN_S:
                break
            self.target.sleep(pause)
            pause = min(1.5 * pause, MAX_PAUSE_S)
        if run["status"] != "COMPLETE":
            self.endless.add(run_id)  # Waited for once, and not for each promise again.
            raise Skipped(f"the run is {run['status']}, and only a COMPLETE one has results")
        return run

    def results(self, index: int = 0, **flags: Any) -> list[dict[str, Any]]:
        """Fetch all files of the results of a shared run, page by page."""
        return [file for page in self.result_pages(index, **flags) for file in page["files"]]

    def result_pages(self, index: int = 0, **flags: Any) -> Iterator[dict[str, Any]]:
        """Return the pages of a shared run's results. Raises Broken where they never end."""
        run_id, offset = self.completed(index)["id"], 0
        while True:
            asked = flags | {"file_offset": offset}
            page = self.ask(200, "GET", "/v2/apps/runs/{}/results", run_id, params=asked)
            yield page
            offset += len(page["files"])
            if not page["has_more"]:
                return
            check_that("files of a page that has more after it", bool(page["files"]), page["files"], "some files")

    def find_run(self, run_id: str, **asked: Any) -> dict[str, Any] | None:
        """Look once through the list of runs; None where it is not."""
        for number in range(MAX_PAGES):
            page = self.ask(200, "GET", "/v2/apps/runs", params=asked | {"limit": 100, "offset": 100 * number})["runs"]
            found: dict[str, Any] | None = next((item for item in page if item["id"] == run_id), None)
            if found or not page:
                return found
        raise Broken("pages of runs", f"{MAX_PAGES} pages", "an end")
