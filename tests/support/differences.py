"""Ways in which an AI Hub could differ from the fake: each wraps it from outside and breaks a promise."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Call:
    """A request. `memory` lasts as long as the fake."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    memory: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def edited(self, edit: Callable[[Any], Any]) -> Reply:
        """Edit the JSON of a successful response."""
        if self.status >= 300 or not self.body:
            return self
        return replace(self, body=json.dumps(edit(json.loads(self.body))).encode())


Ask = Callable[[Call], Awaitable[Reply]]
Differ = Callable[[Call, Ask], Awaitable[Reply]]


@dataclass(frozen=True)
class Difference:
    name: str
    method: str
    path: re.Pattern[str]
    breaks: str
    differ: Differ

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Wrap a fake so that it differs."""
        memory: dict[str, Any] = {}

        async def different(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"].removeprefix("/api") if scope["type"] == "http" else ""
            if not (re.fullmatch(self.method, scope.get("method", "")) and self.path.fullmatch(path)):
                await app(scope, receive, send)
                return

            async def ask(call: Call) -> Reply:
                return await _ask(app, scope, call)

            await _answer(await self.differ(await _read(scope, receive, memory), ask), send)

        return different


DIFFERENCES: list[Difference] = []


def difference(method: str, path: str, breaks: str) -> Callable[[Differ], Differ]:
    """Add a difference of one operation, and name a promise that it breaks."""

    def add(differ: Differ) -> Differ:
        pattern = re.compile(path, re.DOTALL)
        DIFFERENCES.append(Difference(differ.__name__.replace("_", "-"), method, pattern, breaks, differ))
        return differ

    return add


async def _read(scope: Scope, receive: Receive, memory: dict[str, Any]) -> Call:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    return Call(scope["method"], scope["path"], scope["query_string"].decode(), headers, body, memory)


async def _ask(app: ASGIApp, scope: Scope, call: Call) -> Reply:
    sent: list[Message] = []
    headers = call.headers | ({"content-length": str(len(call.body))} if "content-length" in call.headers else {})

    requests = [{"type": "http.request", "body": call.body, "more_body": False}]

    async def receive() -> Message:
        return requests.pop() if requests else await asyncio.Future()  # the client stays

    async def send(message: Message) -> None:
        sent.append(message)

    inner = dict(scope) | {
        "method": call.method,
        "path": call.path,
        "raw_path": quote(call.path).encode(),
        "query_string": call.query.encode(),
        "headers": [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()],
    }
    await app(inner, receive, send)
    told = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in sent[0].get("headers", [])}
    return Reply(sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:]))


async def _answer(reply: Reply, send: Send) -> None:
    headers = {key: value for key, value in reply.headers.items() if key != "content-length"}
    if reply.status != 204:
        headers["content-length"] = str(len(reply.body))
    raw = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": reply.body})


def _without(call: Call, *names: str) -> Call:
    kept = [(key, value) for key, value in parse_qsl(call.query) if key not in names]
    return replace(call, query=urlencode(kept))


ANY = r".*"
BATCHES = r"/v2/batches"
BATCH = r"/v2/batches/\d+"
FILES = BATCH + r"/files"
FILE = BATCH + r"/files/.+"
SESSION = r"/v2/batches/multipart-upload/sessions/[^/]+"
UPLOAD = SESSION + r"(/parts/\d+)?"
JOB = r"/v2/(batches/)?jobs/.+"
RUNS = r"/v2/apps/runs"
RUN = r"/v2/apps/runs/[^/]+"
RESULTS = RUN + r"/results"
NODE = r"/v2/files/.+"
SECRETS = r"/v2/aihub/secrets"


@difference("GET", BATCHES, "wrong-token-is-401")
async def any_token_is_good(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, headers=call.headers | {"authorization": "Bearer fake-x"}))


@difference("GET", BATCH, "unknown-context-shows-nothing")
async def contexts_see_each_other(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, headers={k: v for k, v in call.headers.items() if k != "ib-context"}))


@difference("GET", ANY, "answers-have-a-date")
async def no_date(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    return replace(reply, headers={key: value for key, value in reply.headers.items() if key != "date"})


@difference("GET", RUN, "unknown-run-is-404")
async def errors_are_plain_text(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    return replace(reply, body=b"not found") if reply.status == 404 else reply


@difference("GET", BATCH, "unknown-batch-is-404")
async def unknown_batch_is_400(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    return replace(reply, status=400) if reply.status == 404 else reply


@difference("POST", BATCHES, "batch-id-is-a-whole-number")
async def batch_ids_are_texts(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda batch: batch | {"id": str(batch["id"])})


@difference("POST", BATCHES, "null-workspace-is-not-given")
async def null_is_a_value(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    return replace(reply, status=400, body=b'{"message": "null"}') if b"null" in call.body else reply


@difference("POST", BATCHES, "batches-of-one-name-are-two")
async def one_name_is_one_batch(call: Call, ask: Ask) -> Reply:
    name = call.body.decode()
    call.memory[name] = call.memory.get(name) or await ask(call)
    return call.memory[name]


@difference("GET", BATCH, "batch-times-are-milliseconds")
async def batch_times_are_in_seconds(call: Call, ask: Ask) -> Reply:
    keys = ("created_at_ms", "updated_at_ms")
    return (await ask(call)).edited(lambda batch: batch | {key: batch[key] // 1000 for key in keys})


@difference("GET", BATCHES, "new-batch-is-listed")
async def batches_are_not_listed(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda page: {"batches": []})


@difference("GET", BATCHES, "batches-are-paged-by-limit-and-offset")
async def offset_of_batches_is_ignored(call: Call, ask: Ask) -> Reply:
    # Only small pages, or no list would ever end.
    return await ask(_without(call, "offset") if "limit=1&" in call.query else call)


@difference("GET", BATCHES, "batches-are-listed-by-workspace")
async def workspace_is_ignored(call: Call, ask: Ask) -> Reply:
    return await ask(_without(call, "workspace"))


@difference("DELETE", BATCH, "deleted-batch-has-a-job-that-ends")
async def deletion_is_200(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    return replace(reply, status=200) if reply.status == 202 else reply


@difference("GET", JOB, "deleted-batch-has-a-job-that-ends")
async def deletions_never_end(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda job: job | {"state": "RUNNING"})


@difference("PUT", FILE, "file-sent-again-is-overwritten")
async def put_appends(call: Call, ask: Ask) -> Reply:
    call.memory[call.path] = call.memory.get(call.path, b"") + call.body
    return await ask(replace(call, body=call.memory[call.path]))


@difference("PUT", FILE, "file-of-a-batch-is-read-by-its-path")
async def bytes_are_taken_for_text(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, body=call.body.decode("ascii", "replace").encode("ascii", "replace")))


@difference("PUT", FILE, "unicode-forms-are-two-files")
async def names_are_normalised(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, path=unicodedata.normalize("NFC", call.path)))


@difference("PUT", FILE, "file-names-are-decoded-once")
async def names_are_decoded_twice(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, path=unquote(call.path)))


@difference("PUT", FILE, "case-makes-two-files")
async def names_are_in_lower_case(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, path=call.path.lower()))


@difference("GET", FILES, "files-are-paged-without-loss")
async def last_page_of_files_is_lost(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    is_second = "start_token" in call.query
    return reply.edited(lambda page: page if page["has_more"] or not is_second else page | {"nodes": []})


@difference("GET", FILES, "file-times-are-seconds")
async def file_times_are_milliseconds(call: Call, ask: Ask) -> Reply:
    def edit(page: Any) -> Any:
        for node in page["nodes"]:
            node["metadata"]["modified_timestamp"] *= 1000
        return page

    return (await ask(call)).edited(edit)


@difference("PUT|POST", UPLOAD, "short-part-becomes-no-file")
async def part_size_is_ignored(call: Call, ask: Ask) -> Reply:
    session, _, number = call.path.partition("/parts/")
    reply = await ask(call)
    if number == "1" and reply.status == 400:
        call.memory[session] = True
        return Reply(201, reply.headers, b'{"part_num": 1, "part_id": "short"}')
    return Reply(201) if not number and session in call.memory else reply


@difference("POST|PUT", UPLOAD, "parts-out-of-order-are-refused")
async def order_of_parts_is_ignored(call: Call, ask: Ask) -> Reply:
    given = json.loads(call.body) if call.method == "POST" else {}
    if "parts" not in given:
        return await ask(call)
    ordered = given | {"parts": sorted(given["parts"], key=lambda part: part["part_num"])}
    return await ask(replace(call, body=json.dumps(ordered).encode()))


@difference("PUT", SESSION + r"/parts/\d+", "parts-are-joined-in-order")
async def last_part_is_not_kept_whole(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, body=b"\0" * len(call.body)) if len(call.body) == 3 else call)


@difference("POST", SESSION, "abort-leaves-nothing")
async def abort_does_nothing(call: Call, ask: Ask) -> Reply:
    return Reply(201) if b"abort" in call.body else await ask(call)


@difference("PUT|POST", UPLOAD, "abort-leaves-nothing")
async def abort_commits(call: Call, ask: Ask) -> Reply:
    reply = await ask(call) if b'"abort"' not in call.body else Reply(201)
    if call.method == "PUT" and reply.status == 201:
        call.memory[call.path.split("/parts/")[0]] = {"action": "commit", "parts": [json.loads(reply.body)]}
    if b'"abort"' in call.body and call.path in call.memory:
        await ask(replace(call, body=json.dumps(call.memory[call.path]).encode()))
    return reply


@difference("GET|POST", RUNS + r"(/[^/]+)?", "run-keeps-its-tags")
async def tags_are_dropped(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda run: run | {"tags": []})


@difference("GET", RUNS, "run-is-found-by-its-tag")
async def tags_are_not_listed(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda page: {"runs": [run | {"tags": None} for run in page["runs"]]})


@difference("GET|POST", RUNS + r"(/[^/]+)?", "run-times-are-nanoseconds")
async def run_times_are_milliseconds(call: Call, ask: Ask) -> Reply:
    def edit(run: Any) -> Any:
        keys = [key for key in ("start_timestamp", "finish_timestamp") if run.get(key)]
        return run | {key: run[key] // 1_000_000 for key in keys}

    return (await ask(call)).edited(edit)


@difference("GET", RUNS, "from-timestamp-is-heeded")
async def from_timestamp_is_ignored(call: Call, ask: Ask) -> Reply:
    return await ask(_without(call, "from_timestamp"))


@difference("GET", RUNS, "runs-are-listed-by-status")
async def only_the_last_status_counts(call: Call, ask: Ask) -> Reply:
    statuses = [value for key, value in parse_qsl(call.query) if key == "status"]
    if len(statuses) < 2:
        return await ask(call)
    return await ask(replace(call, query=_without(call, "status").query + f"&status={statuses[0]}"))


@difference("GET", RUNS, "runs-are-sorted-by-start")
async def order_of_runs_is_ignored(call: Call, ask: Ask) -> Reply:
    return await ask(_without(call, "order"))


@difference("GET", RESULTS, "running-run-has-no-results")
async def results_come_before_the_end(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    if reply.status != 400:
        return reply
    return Reply(200, reply.headers, b'{"status": "RUNNING", "files": [], "has_more": false}')


@difference("GET", RESULTS, "results-have-more-until-the-last-page")
async def results_always_have_more(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda page: page | {"has_more": True})


@difference("GET", RESULTS, "results-answer-every-file")
async def last_page_of_results_is_lost(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda page: page | {"has_more": False})


@difference("GET", RESULTS, "results-answer-every-file")
async def names_in_results_are_made_safe(call: Call, ask: Ask) -> Reply:
    def edit(page: Any) -> Any:
        for file in page["files"]:
            file["original_file_name"] = re.sub(r"[^\w.]", "_", file["original_file_name"])
        return page

    return (await ask(call)).edited(edit)


@difference("GET", RESULTS, "file-offset-counts-files")
async def file_offset_counts_pages(call: Call, ask: Ask) -> Reply:
    offset = int(dict(parse_qsl(call.query)).get("file_offset", 0))
    return await ask(replace(call, query=_without(call, "file_offset").query + f"&file_offset={2 * offset}"))


@difference("GET", RESULTS, "results-have-their-run")
async def batch_ids_in_results_are_numbers(call: Call, ask: Ask) -> Reply:
    return (await ask(call)).edited(lambda page: page | {"batch_id": int(page["batch_id"])})


@difference("GET", RESULTS, "confidence-comes-when-asked-for")
async def confidence_always_comes(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, query=call.query + "&include_confidence_scores=true"))


@difference("DELETE", RUN, "deleted-run-leaves-its-batch")
async def input_is_always_deleted(call: Call, ask: Ask) -> Reply:
    return await ask(_without(call, "delete_input"))


@difference("GET", NODE, "range-includes-both-ends")
async def ranges_are_ignored(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, headers={key: value for key, value in call.headers.items() if key != "range"}))


@difference("GET", NODE, "range-includes-both-ends")
async def ranges_exclude_their_end(call: Call, ask: Ask) -> Reply:
    reply = await ask(call)
    return replace(reply, body=reply.body[:-1]) if reply.status == 206 else reply


@difference("PUT", NODE, "file-that-is-there-is-412-when-it-must-be-new")
async def files_are_overwritten_though_they_must_be_new(call: Call, ask: Ask) -> Reply:
    headers = {key: value for key, value in call.headers.items() if key != "if-none-match"}
    return await ask(replace(call, headers=headers))


@difference("PUT", NODE, "file-is-read-back")
async def line_ends_are_converted(call: Call, ask: Ask) -> Reply:
    return await ask(replace(call, body=call.body.replace(b"\r\n", b"\n")))


@difference("DELETE", NODE, "deleting-nothing-is-202")
async def deleting_nothing_is_404(call: Call, ask: Ask) -> Reply:
    there = await ask(replace(call, method="HEAD", query=""))
    return (
        Reply(404, {"content-type": "application/json"}, b'{"message": "no"}')
        if there.status == 404
        else await ask(call)
    )


@difference("POST|GET", SECRETS, "secret-values-are-never-returned")
async def secrets_are_echoed(call: Call, ask: Ask) -> Reply:
    if call.method == "POST":
        call.memory["value"] = json.loads(call.body).get("value")
        return await ask(call)
    return (await ask(call)).edited(lambda page: page | {"values": [call.memory["value"]]})


@difference("PATCH", SECRETS, "changed-secret-keeps-the-rest")
async def changes_of_secrets_forget_the_rest(call: Call, ask: Ask) -> Reply:
    given = {"allowed_workspaces_type": "ALL"} | json.loads(call.body)
    return await ask(replace(call, body=json.dumps(given).encode()))


@difference("POST", r"/v1/auditlogs", "audit-log-is-limited-by-size")
async def size_of_the_audit_log_is_ignored(call: Call, ask: Ask) -> Reply:
    given = {key: value for key, value in json.loads(call.body).items() if key != "size"}
    return await ask(replace(call, body=json.dumps(given).encode()))
