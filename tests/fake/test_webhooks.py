"""Webhooks: called when a run ends, retried if they do not respond, and only on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import requests

from fake_aihub import FakeAIHub

SECRET = "hunter2-and-more"


class Receiver:
    """A receiving server, which answers with these statuses in turn, and repeats the last one."""

    def __init__(self) -> None:
        self.calls: Queue[tuple[str, dict[str, str], Any]] = Queue()
        self.statuses = [200]
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status = receiver.statuses.pop(0) if len(receiver.statuses) > 1 else receiver.statuses[0]
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                receiver.calls.put((self.path, dict(self.headers), body))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?of=mine"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def start(http: requests.Session, fake: FakeAIHub, url: Any, headers: Any = None) -> requests.Response:
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "batch"}).json()["id"]
    file = f"{fake.root}/v2/batches/{batch_id}/files/a.txt"
    http.put(file, data=b"content", headers={"Content-Type": "application/octet-stream"})
    settings = {"webhook_config": {"url": url, "headers": headers}}
    return http.post(f"{fake.root}/v2/apps/runs", json={"app_name": "App", "batch_id": batch_id, "settings": settings})


def outcomes(http: requests.Session, fake: FakeAIHub) -> list[str]:
    """What came of the calls, once none is due."""
    while True:
        told = http.get(f"{fake.root.removesuffix('/api')}/_fake/webhooks").json()
        if not told["due"]:
            return [call["outcome"] for call in told["calls"]]
        fake.clock.advance(1)


@pytest.mark.parametrize("status", ["COMPLETE", "FAILED", "CANCELLED"])
def test_webhook_is_called_with_its_headers_when_a_run_ends(
    http: requests.Session, fake: FakeAIHub, receiver: Receiver, status: str
) -> None:
    fake.next_run(hold=True, status=status)
    run = start(http, fake, receiver.url, {"X-Mine": SECRET, "Content-Length": "5"}).json()
    assert receiver.calls.empty()
    fake.release(run["id"])
    path, headers, body = receiver.calls.get(timeout=20)
    assert (path, headers["X-Mine"], headers["Content-Type"]) == ("/hook?of=mine", SECRET, "application/json")
    assert body == http.get(f"{fake.root}/v2/apps/runs/{run['id']}").json()
    assert body["status"] == status
    assert outcomes(http, fake) == ["200"]
    assert receiver.calls.empty()


def test_webhook_is_not_called_while_a_run_waits_for_review(
    http: requests.Session, fake: FakeAIHub, receiver: Receiver
) -> None:
    fake.next_run(status="STOPPED_AT_CHECKPOINT")
    waiting = start(http, fake, receiver.url).json()["id"]
    done = start(http, fake, receiver.url).json()["id"]
    assert receiver.calls.get(timeout=20)[2]["id"] == done
    assert waiting in fake.world.due_webhooks
    fake.release(waiting)
    assert receiver.calls.get(timeout=20)[2]["id"] == waiting


@pytest.mark.parametrize(
    ("statuses", "seen"),
    [
        ([500, 503, 204], ["500", "503", "204"]),
        ([500], ["500", "500", "500", "500"]),
        ([302, 200], ["302", "200"]),
    ],
)
def test_webhook_is_called_again_for_a_while_where_it_fails(
    http: requests.Session, fake: FakeAIHub, receiver: Receiver, statuses: list[int], seen: list[str]
) -> None:
    receiver.statuses = list(statuses)
    start(http, fake, receiver.url)
    assert outcomes(http, fake) == seen
    assert {receiver.calls.get(timeout=20)[0] for _ in seen} == {"/hook?of=mine"}
    assert receiver.calls.empty()


def test_webhook_waits_for_its_next_call_by_the_clock_of_the_fake(
    http: requests.Session, fake: FakeAIHub, receiver: Receiver
) -> None:
    receiver.statuses = [500]
    start(http, fake, receiver.url)
    assert outcomes(http, fake) == ["500"] * 4
    [run] = fake.world.runs.values()
    at = [call["at_s"] for call in run.webhook]
    waits = [later - earlier for earlier, later in pairwise(at)]
    assert all(wait >= least for wait, least in zip(waits, (1, 2, 4), strict=True))


def test_webhook_that_nobody_answers_does_no_harm(http: requests.Session, fake: FakeAIHub, receiver: Receiver) -> None:
    port = receiver.server.server_address[1]
    start(http, fake, f"https://localhost:{port}/")  # not what is spoken there
    start(http, fake, "http://127.0.0.1:1/")
    told = outcomes(http, fake)
    assert len(told) == 8
    assert {outcome.split(",")[0] for outcome in told} <= {"no response", "no response in time"}


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "127.0.0.1.example.com", "[2001:db8::1]", "0.0.0.0"])
def test_webhook_of_another_machine_is_not_called(http: requests.Session, fake: FakeAIHub, host: str) -> None:
    assert start(http, fake, f"http://{host}/").status_code == 200
    assert outcomes(http, fake) == ["not called, the address is not on this machine"]


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://localhost/", None),
        ("localhost", None),
        ("http://", None),
        ("http://[::1", None),
        ("http://localhost:99999/", None),
        ("http://localhost:0/", None),
        ("http://user:password@localhost/", None),
        ("http://localhost/a b", None),
        ("http://localhost/\r\nX: y", None),
        ("http://localhost/" + "x" * 2000, None),
        (5, None),
        ("http://localhost/", {"X": "a\r\nY: b"}),
        ("http://localhost/", {"X\r\n": "a"}),
        ("http://localhost/", {"X": 5}),
        ("http://localhost/", {"X": "…"}),
        ("http://localhost/", ["X"]),
    ],
)
def test_webhook_that_cannot_be_called_is_refused(
    http: requests.Session, fake: FakeAIHub, url: Any, headers: Any
) -> None:
    assert start(http, fake, url, headers).status_code == 400
    assert fake.runs() == []


def test_webhook_secrets_are_in_no_journal_and_no_file(
    http: requests.Session, receiver: Receiver, tmp_path: Path
) -> None:
    with FakeAIHub(tmp_path) as fake:
        fake.next_run(hold=True)
        url = f"{receiver.url}&token={SECRET}"
        run = start(http, fake, url, {"Authorization": SECRET, "X-Plain": SECRET}).json()
        told = json.dumps(fake.journal)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in content for content in kept)
    assert SECRET not in told
    with FakeAIHub(tmp_path) as fake:  # a call that was due is made after a restart
        fake.set_run(run["id"], "COMPLETE")
        http.get(f"{fake.root}/v2/batches")
        path, headers, body = receiver.calls.get(timeout=20)
        assert path.startswith("/hook?of=mine&token=")
        assert (body["id"], "X-Plain" in headers) == (run["id"], False)
