"""Random histories, 10,000 steps: the fake answers as the model in `reference_model.py` does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from fake_aihub.api.app import create_app
from fake_aihub.api.service import Service
from fake_aihub.contract.operations import OPERATIONS
from fake_aihub.server.handle import Handle
from fake_aihub.world.clock import parse_clock
from fake_aihub.world.world import World as FakeWorld
from support.contract import check_journal
from support.reference_model import DAY_S, PART_BYTES, RUN_S, Run, Upload, World

STEPS = 100
STEPS_AT_LEAST = 40  # on average
NOWHERE = "00000000-0000-4000-a000-000000000000"
NAMES = ("a.txt", "b", "\u00e9 #%.txt")
FOLDER = "/acme/w/fs/drive"
KINDS = {"batch": "batches", "upload": "uploads", "run": "runs", "job": "jobs"}
DEPLOYMENTS = (None, "d-1")
STEPS_TAKEN: Counter[str] = Counter()
SUCCEEDED: set[str] = set()

contexts = st.sampled_from(["", "acme"])
names = st.sampled_from(NAMES)
paths = st.sampled_from([f"{FOLDER}/{name}" for name in ("x", "x/a", "x/b", "xy", "y/z/a")])
bodies = st.binary(max_size=10)
picks = st.integers(0, 1 << 16)
flags = st.booleans()
workspaces = st.sampled_from(["My Workspace", "w"])


class Fake:
    """The fake, called without a network."""

    def __init__(self) -> None:
        clock = parse_clock("frozen")
        self.service = Service(clock, FakeWorld(clock), run_seconds=RUN_S, part_size=PART_BYTES, page_files=2)
        self.app = create_app(self.service)
        self.loop = asyncio.new_event_loop()

    def call(
        self,
        method: str,
        path: str,
        context: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and return the status, headers and body of the response."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        sent = {"authorization": "Bearer fake-model", "content-type": kind, "host": "fake", **(headers or {})}
        if context:
            sent["ib-context"] = context
        asked = urlencode({key: value for key, value in query.items() if value is not None})
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("fake", 80),
            "path": f"/api{path}",
            "raw_path": quote(f"/api{path}").encode(),
            "query_string": asked.encode(),
            "headers": [(key.encode(), value.encode()) for key, value in sent.items()],
        }
        return self.loop.run_until_complete(self._exchange(scope, content))

    async def _exchange(self, scope: dict[str, Any], content: bytes) -> tuple[int, dict[str, str], bytes]:
        messages: list[dict[str, Any]] = []
        requests = iter([{"type": "http.request", "body": content}])

        async def receive() -> dict[str, Any]:
            # What follows the request is the end of the connection, which never comes.
            return next(requests, None) or await asyncio.Event().wait() or {}

        async def send(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, send)
        headers = {key.decode(): value.decode() for key, value in messages[0]["headers"]}
        return messages[0]["status"], headers, b"".join(message["body"] for message in messages[1:])


class Histories(RuleBasedStateMachine):
    """What people do to an AI Hub, in two contexts, and what each answer says."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = Fake()
        self.worlds = {"": World(), "acme": World()}
        self.ids: dict[str, list[Any]] = {kind: [] for kind in KINDS}

    def teardown(self) -> None:
        journal = Handle(self.fake.service).journal
        check_journal(journal)
        SUCCEEDED.update(entry["operation"] for entry in journal if entry["status"] < 300)
        self.fake.loop.close()

    @property
    def now_s(self) -> int:
        return int(self.fake.service.clock.now_s())

    def send(self, method: str, path: str, context: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Send a request; a refusal says why, and nothing else."""
        STEPS_TAKEN[method] += 1
        status, _, content = self.fake.call(method, path, context, body, **more)
        told = json.loads(content) if content else None
        if status >= 400:
            assert list(told) == ["message"]
            return status, None
        return status, told

    def pick(self, kind: str, context: str, number: int) -> Any:
        """Pick an id that this context has; one time in eight one of any context, there or gone, or that never was."""
        known: list[Any] = list(getattr(self.worlds[context], KINDS[kind]))
        if number % 8 == 7 or not known:
            known = [*self.ids[kind], 1 if kind == "batch" else NOWHERE]
        return known[number // 8 % len(known)]

    def make(self, kind: str, key: Any) -> Any:
        """Note an id that the fake made, which has to be new."""
        assert key not in self.ids[kind]
        self.ids[kind].append(key)
        return key

    @initialize()
    def begin(self) -> None:
        """Make one of each, since little can be done without."""
        for context in self.worlds:
            self.create_batch(context, "a.txt", "w")
            for name in NAMES:
                self.put_file(context, 0, name, b"content")
            self.open_upload(context, 0, "b", 6)
            self.start_run(context, 0, None, None)
            self.write_path(context, f"{FOLDER}/x/a", b"content", True)

    @rule(seconds=st.sampled_from([1, RUN_S, DAY_S]))
    def time_passes(self, seconds: int) -> None:
        self.fake.service.clock.advance(seconds)

    @rule(seconds=st.sampled_from([RUN_S, DAY_S]), kind=st.sampled_from(["", "batches", "runs", "results"]))
    def things_expire(self, seconds: int, kind: str) -> None:
        """Old objects vanish in both contexts, at an unrelated request."""
        self.fake.service.faults(do="expire", seconds=seconds, name=kind)
        self.send("GET", "/v2/aihub/secrets", "acme")
        for context, world in self.worlds.items():
            world.expire(kind, self.now_s - seconds)
            if not world.batches:  # since little can be done without
                self.create_batch(context, "a.txt", "w")

    @rule(context=contexts, number=picks)
    def look_without_permission(self, context: str, number: int) -> None:
        """What may not be seen is not there, and there again afterwards."""
        run, batch = self.pick("run", context, number), self.pick("batch", context, number)
        self.fake.service.faults(do="hide", times=5)
        told = [self.send("GET", path, context) for path in ("/v2/batches", "/v2/apps/runs", f"/v2/apps/runs/{run}")]
        told += [self.send("GET", f"/v2/batches/{batch}{rest}", context) for rest in ("", "/files")]
        assert told == [(200, {"batches": []}), (200, {"runs": []}), (404, None), (404, None), (404, None)]

    @rule(context=contexts, number=picks)
    def start_twins(self, context: str, number: int) -> None:
        """A request that is delivered twice starts two runs, both with the one tag."""
        source = self.pick("batch", context, number)
        expected, files = self.worlds[context].check_run(source)
        self.fake.service.faults(operation="runApp", do="twice")
        known = set(self.fake.service.world.runs)
        body = {"batch_id": source, "app_id": "a-1", "settings": {"tags": ["twin"]}}
        status, told = self.send("POST", "/v2/apps/runs", context, body)
        assert status == expected
        made = [key for key in self.fake.service.world.runs if key not in known]
        assert len(made) == (2 if told else 0)
        for key in made:
            facts = {"app_id": "a-1", "deployment_id": None, "tags": ["twin"]}
            self.worlds[context].runs[self.make("run", key)] = Run(source, files, facts, self.now_s)

    # Batches

    @rule(context=contexts, name=names, workspace=workspaces)
    def create_batch(self, context: str, name: str, workspace: str) -> None:
        status, told = self.send("POST", "/v2/batches", context, {"name": name, "workspace": workspace})
        assert status == 200
        key = self.make("batch", told["id"])
        self.worlds[context].create_batch(key, name, workspace, self.now_s)

    @rule(context=contexts, workspace=st.none() | workspaces, limit=st.integers(0, 3), offset=st.integers(0, 3))
    def list_batches(self, context: str, workspace: str | None, limit: int, offset: int) -> None:
        asked = {"workspace": workspace, "limit": limit, "offset": offset}
        status, told = self.send("GET", "/v2/batches", context, **asked)
        found = [batch["id"] for batch in told["batches"]]
        assert (status, found) == self.worlds[context].list_batches(workspace, limit, offset)

    @rule(context=contexts, number=picks)
    def get_batch(self, context: str, number: int) -> None:
        key = self.pick("batch", context, number)
        status, told = self.send("GET", f"/v2/batches/{key}", context)
        facts = told and (told["name"], told["workspace"], told["created_at_ms"] // 1000)
        assert (status, facts) == self.worlds[context].get_batch(key)

    @rule(context=contexts, number=picks)
    def delete_batch(self, context: str, number: int) -> None:
        # Mostly there is one left, since little can be done without.
        key = self.pick("batch", context, number if len(self.worlds[context].batches) > 1 else 7)
        status, told = self.send("DELETE", f"/v2/batches/{key}", context)
        assert status == self.worlds[context].delete_batch(key)[0]
        if told:
            self.worlds[context].jobs[self.make("job", told["job_id"])] = self.now_s

    @rule(context=contexts, number=picks, name=names, body=bodies)
    def put_file(self, context: str, number: int, name: str, body: bytes) -> None:
        key = self.pick("batch", context, number)
        answer = self.send("PUT", f"/v2/batches/{key}/files/{name}", context, body)
        assert answer == self.worlds[context].put_file(key, name, body, self.now_s)

    @rule(context=contexts, number=picks, name=names)
    def delete_file(self, context: str, number: int, name: str) -> None:
        key = self.pick("batch", context, number)
        answer = self.send("DELETE", f"/v2/batches/{key}/files/{name}", context)
        assert answer == self.worlds[context].delete_file(key, name)

    @rule(context=contexts, number=picks, size=st.integers(1, 2))
    def list_files(self, context: str, number: int, size: int) -> None:
        key, token, nodes, has_more = self.pick("batch", context, number), None, [], True
        while has_more:
            asked = {"page_size": size, "start_token": token}
            status, told = self.send("GET", f"/v2/batches/{key}/files", context, **asked)
            if told is None:
                assert status == self.worlds[context].list_files(key)[0]
                return
            nodes += told["nodes"]
            has_more, token = told["has_more"], told.get("next_page_token")
        facts = [(n["name"], n["metadata"]["size"], n["metadata"]["modified_timestamp"]) for n in nodes]
        assert (200, facts) == self.worlds[context].list_files(key)

    # Multipart uploads

    @rule(context=contexts, number=picks, name=names, size=st.integers(0, 10))
    def open_upload(self, context: str, number: int, name: str, size: int) -> None:
        key = self.pick("batch", context, number)
        body = {"batch_id": key, "filename": name, "file_size": size}
        status, told = self.send("POST", "/v2/batches/multipart-upload", context, body)
        if key not in self.worlds[context].batches:
            assert status == 404
            return
        assert (status, told["part_size"]) == (201, PART_BYTES)
        self.worlds[context].uploads[self.make("upload", told["session_id"])] = Upload(key, name, size)

    @rule(context=contexts, number=picks, part=st.integers(0, 4), body=bodies, is_right=flags)
    def put_part(self, context: str, number: int, part: int, body: bytes, is_right: bool) -> None:
        key = self.pick("upload", context, number)
        upload = self.worlds[context].uploads.get(key)
        if upload and is_right:
            part = min(max(part, 1), upload.count + 1)
            body = body.ljust(PART_BYTES, b"x")[: max(0, min(PART_BYTES, upload.size - (part - 1) * PART_BYTES))]
        status, told = self.send("PUT", f"/v2/batches/multipart-upload/sessions/{key}/parts/{part}", context, body)
        assert (status, told and told["part_num"]) == self.worlds[context].put_part(upload, part, body)
        if upload and told:
            upload.parts[part] = (told["part_id"], body)

    @rule(context=contexts, number=picks, action=st.sampled_from(["commit", "commit", "abort"]), forgets=flags)
    def end_upload(self, context: str, number: int, action: str, forgets: bool) -> None:
        key = self.pick("upload", context, number)
        upload = self.worlds[context].uploads.get(key)
        parts = [{"part_num": n, "part_id": upload.parts[n][0]} for n in sorted(upload.parts)] if upload else []
        parts = parts[:-1] if forgets else parts
        body = {"action": action, "parts": parts}
        answer = self.send("POST", f"/v2/batches/multipart-upload/sessions/{key}", context, body)
        assert answer == self.worlds[context].end_upload(key, action, parts, self.now_s)

    # Runs

    @rule(context=contexts, number=picks, folder=st.none() | paths, deployment=st.sampled_from(DEPLOYMENTS))
    def start_run(self, context: str, number: int, folder: str | None, deployment: str | None) -> None:
        source = folder or self.pick("batch", context, number)
        tags = [f"tag-{number % 3}"]
        body = {"input_dir" if folder else "batch_id": source, "settings": {"tags": tags}}
        where = f"/v2/apps/deployments/{deployment}/runs" if deployment else "/v2/apps/runs"
        status, told = self.send("POST", where, context, body if deployment else body | {"app_id": "a-1"})
        expected, files = self.worlds[context].check_run(source)
        assert status == (202 if deployment and expected == 200 else expected)
        if told:
            facts = {"app_id": None if deployment else "a-1", "deployment_id": deployment, "tags": tags}
            run = Run(source, files, facts, self.now_s)
            self.worlds[context].runs[self.make("run", told["id"])] = run
            self.check_told(context, run, told)

    def check_told(self, context: str, run: Run, told: dict[str, Any]) -> None:
        expected = self.worlds[context].tell_run(run, self.now_s)
        assert {key: told[key] for key in expected} == expected

    @rule(context=contexts, number=picks)
    def get_run(self, context: str, number: int) -> None:
        key = self.pick("run", context, number)
        status, told = self.send("GET", f"/v2/apps/runs/{key}", context)
        assert status == self.worlds[context].get_run(key, self.now_s)[0]
        if told:
            self.check_told(context, self.worlds[context].runs[key], told)

    @rule(
        context=contexts,
        status=st.sampled_from([None, "RUNNING", "COMPLETE", "FAILED"]),
        deployment=st.sampled_from([*DEPLOYMENTS, "d-2"]),
        number=picks,
        since=st.sampled_from(["a day ago", "ever", "a run"]),
    )
    def list_runs(self, context: str, status: str | None, deployment: str | None, number: int, since: str) -> None:
        since_s = 0 if since == "ever" else None
        if since == "a run" and (run := self.worlds[context].runs.get(self.pick("run", context, number))):
            since_s = run.started_s
        asked = {"status": status, "deployment_id": deployment, "from_timestamp": since_s}
        answer, told = self.send("GET", "/v2/apps/runs", context, **asked)
        found = {run["id"] for run in told["runs"]}
        assert (answer, found) == self.worlds[context].list_runs(status, deployment, since_s, self.now_s)

    @rule(context=contexts, number=picks)
    def get_results(self, context: str, number: int) -> None:
        key, files, has_more = self.pick("run", context, number), [], True
        while has_more:
            status, told = self.send("GET", f"/v2/apps/runs/{key}/results", context, file_offset=len(files))
            if told is None:
                assert status == self.worlds[context].get_results(key, self.now_s)[0]
                return
            files += [file["original_file_name"] for file in told["files"]]
            has_more = told["has_more"]
        assert (200, files) == self.worlds[context].get_results(key, self.now_s)

    @rule(context=contexts, number=picks, parts=st.sets(st.sampled_from(["input", "output", "logs", "db_data"])))
    def delete_run(self, context: str, number: int, parts: set[str]) -> None:
        key = self.pick("run", context, number)
        asked = {f"delete_{part}": str(part in parts).lower() for part in ("input", "output", "logs", "db_data")}
        status, told = self.send("DELETE", f"/v2/apps/runs/{key}", context, **asked)
        expected, jobs = self.worlds[context].delete_run(key, parts)
        assert status == expected
        if told:
            made = {name.split("_")[1].replace("log", "logs"): job for name, job in told.items() if job}
            assert made.keys() == jobs
            for job in made.values():
                self.worlds[context].jobs[self.make("job", job)] = self.now_s

    @rule(context=contexts, number=picks, where=st.sampled_from(["/v2/jobs", "/v2/batches/jobs"]))
    def get_job(self, context: str, number: int, where: str) -> None:
        key = self.pick("job", context, number)
        status, told = self.send("GET", f"{where}/{key}", context)
        assert (status, told and told["state"]) == self.worlds[context].get_job(key, self.now_s)

    # Files in drives

    @rule(context=contexts, path=paths, body=bodies, only_new=flags)
    def write_path(self, context: str, path: str, body: bytes, only_new: bool) -> None:
        headers = {"if-none-match": "*"} if only_new else {}
        answer = self.send("PUT", f"/v2/files{path}", context, body, headers=headers)
        assert answer == self.worlds[context].write_path(path, body, only_new=only_new)

    @rule(context=contexts, path=paths, first=st.none() | st.integers(0, 9), last=st.none() | st.integers(0, 9))
    def read_path(self, context: str, path: str, first: int | None, last: int | None) -> None:
        headers = {} if first is None else {"range": f"bytes={first}-{'' if last is None else last}"}
        asked = {"expect-node-type": "file"}
        status, _, body = self.fake.call("GET", f"/v2/files{path}", context, headers=headers, **asked)
        assert (status, body if status < 400 else None) == self.worlds[context].read_path(path, first, last)

    @rule(context=contexts, path=paths)
    def head_path(self, context: str, path: str) -> None:
        status, headers, _ = self.fake.call("HEAD", f"/v2/files{path}", context)
        length = headers.get("Content-Length") if status < 400 else None
        assert (status, length and int(length)) == self.worlds[context].head_path(path)

    @rule(context=contexts, path=paths)
    def delete_path(self, context: str, path: str) -> None:
        assert self.send("DELETE", f"/v2/files{path}", context) == self.worlds[context].delete_path(path)

    # Secrets

    @rule(
        context=contexts,
        alias=names,
        kind=st.sampled_from([None, "ALL", "SOME", "NONE"]),
        allowed=st.lists(workspaces, max_size=1),
        is_new=flags,
    )
    def set_secret(self, context: str, alias: str, kind: str | None, allowed: list[str], is_new: bool) -> None:
        kind = kind or ("ALL" if is_new else None)
        body = {"alias": alias, "value": "v", "allowed_workspaces_type": kind, "allowed_workspaces": allowed or None}
        answer = self.send("POST" if is_new else "PATCH", "/v2/aihub/secrets", context, body)
        assert answer == self.worlds[context].set_secret(alias, kind, allowed, is_new=is_new)

    @rule(context=contexts, alias=names)
    def delete_secret(self, context: str, alias: str) -> None:
        answer = self.send("DELETE", "/v2/aihub/secrets", context, {"alias": alias})
        assert answer == self.worlds[context].delete_secret(alias)

    @rule(context=contexts)
    def list_secrets(self, context: str) -> None:
        told = self.send("GET", "/v2/aihub/secrets", context)[1]["secrets"]
        found = {it["alias"]: (it["allowed_workspaces_type"], it["allowed_workspaces"]) for it in told}
        assert found == self.worlds[context].secrets


@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("histories", [80, pytest.param(250, marks=pytest.mark.torture)])
def test_fake_answers_as_the_model_does_over_thousands_of_steps(histories: int) -> None:
    STEPS_TAKEN.clear()
    SUCCEEDED.clear()
    chosen = settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(0)(type("Histories", (Histories,), {})), settings=chosen)
    assert STEPS_TAKEN.total() >= histories * STEPS_AT_LEAST
    assert {operation.id for operation in OPERATIONS} - {"getAuditLogs"} == SUCCEEDED
