"""No client can harm the fake, whatever it sends or does not send."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from starlette.types import Receive

from fake_aihub import FakeAIHub
from fake_aihub.api.app import create_app
from fake_aihub.api.limits import LINGER_BYTES, MAX_FILE_BYTES, MAX_JSON_BYTES, limit_bodies
from fake_aihub.server.embedded import Background
from fake_aihub.server.http import _most_connections, make_server

HEAD = "Host: fake\r\nAuthorization: Bearer fake-test\r\n"


def connect(root: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(root.split(":")[2].split("/")[0])), timeout=10)


def talk(fake: FakeAIHub, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, and return the status, headers and body of the response, read until the connection closes."""
    with connect(fake.root) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /api/v2/batches HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v2/batches HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        b"POST /api/v2/batches HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n",
    ],
    ids=["TLS", "no path", "not ASCII", "long head", "no colon", "negative length", "two lengths", "no chunk"],
)
def test_what_is_not_http_is_answered_400_as_json(fake: FakeAIHub, sent: bytes) -> None:
    status, headers, body = talk(fake, sent)
    assert (status, headers["x-fake-aihub"]) == (400, "1")
    assert json.loads(body)["message"]
    assert requests.get(f"{fake.root}/v2/batches", headers={"Authorization": "Bearer fake-x"}, timeout=5).ok
    fake.clear_journal()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/batches/{}/files/../../../etc/passwd",
        "/api/v2/batches/{}/files/%2e%2e%2f%2e%2e%2fescaped",
        "/api/v2/batches/{}/files/..",
        "/api/v2/batches/{}/files/..%5c..%5cescaped",
        "/api/v2/batches/{}/files/%00",
        "/api/v2/batches/../../etc/passwd",
        "/api/v2/files/../../../etc/passwd",
        "/api/v2/files/%2e%2e/%2e%2e/escaped",
        "//etc/passwd",
    ],
)
def test_paths_that_climb_lead_nowhere(http: requests.Session, tmp_path: Path, path: str) -> None:
    with FakeAIHub(tmp_path / "data") as fake:
        batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "a"}).json()["id"]
        head = f"PUT {path.format(batch_id)} HTTP/1.1\r\n{HEAD}Content-Length: 4\r\nConnection: close\r\n\r\nevil"
        status, _, body = talk(fake, head.encode())
        assert status < 500 or status == 501
        assert b"root:" not in body
        below = [found.relative_to(tmp_path).parts[0] for found in tmp_path.rglob("*")]
        assert set(below) == {"data"}


def test_body_that_says_it_is_huge_is_refused_before_it_comes(fake: FakeAIHub) -> None:
    path = "/api/v2/batches/1/files/huge"
    for method, most in (("PUT", MAX_FILE_BYTES), ("POST", MAX_JSON_BYTES)):
        head = f"{method} {path} HTTP/1.1\r\n{HEAD}Content-Length: {most + 1}\r\n\r\n"
        with connect(fake.root) as client:
            client.sendall(head.encode())
            answered = client.recv(65536)
        assert answered.startswith(b"HTTP/1.1 413 ")
        assert b"connection: close" in answered.lower()
    fake.clear_journal()


@pytest.mark.parametrize("declared", [True, False])
def test_body_that_is_too_large_is_refused_and_has_no_effect(
    http: requests.Session, fake: FakeAIHub, declared: bool
) -> None:
    body = b'{"name": "' + b"x" * MAX_JSON_BYTES + b'"}'
    found = http.post(f"{fake.root}/v2/batches", data=body if declared else iter([body]), timeout=20)
    assert found.status_code == 413
    assert "larger than" in found.json()["message"]
    assert fake.batches() == []
    assert [entry["status"] for entry in fake.journal] == [413]
    fake.clear_journal()


def test_body_without_an_end_is_not_read_for_ever() -> None:
    chunk, asked, seen, answered = b"x" * 1_048_576, 0, 0, []

    async def receive() -> dict[str, object]:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: MutableMapping[str, object]) -> None:
        answered.append(message.get("status"))

    async def app(scope: object, receive: Receive, send: object) -> None:
        nonlocal seen
        while (message := await receive())["type"] == "http.request":
            seen += len(message["body"])

    asyncio.run(limit_bodies(app)({"method": "POST", "headers": []}, receive, send))
    assert answered[0] == 413
    assert seen == MAX_JSON_BYTES
    assert asked * len(chunk) <= MAX_JSON_BYTES + LINGER_BYTES + len(chunk)


def test_body_that_breaks_off_leaves_nothing(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "a"}).json()["id"]
        head = f"PUT /api/v2/batches/{batch_id}/files/part HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n"
        with connect(fake.root) as client:
            client.sendall(head.encode() + b"x" * 50)
        assert http.get(f"{fake.root}/v2/batches/{batch_id}/files").json()["nodes"] == []
    assert not any((tmp_path / "blobs").iterdir())


@contextmanager
def impatient(fake: FakeAIHub) -> Iterator[str]:
    with Background(create_app(fake.service), patience_s=0.2) as server:
        yield server.root


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b"HTTP/1.1 408 "),
        (b"GET /api/v2/batches HTTP/1.1\r\nHost:", b"HTTP/1.1 408 "),
        (f"POST /api/v2/batches HTTP/1.1\r\n{HEAD}Content-Length: 50\r\n\r\n{{".encode(), b"HTTP/1.1 408 "),
        (f"GET /api/v2/batches HTTP/1.1\r\n{HEAD}\r\nGET /api/v2".encode(), b"HTTP/1.1 200 "),
    ],
)
def test_client_that_is_too_slow_is_cut_off(fake: FakeAIHub, sent: bytes, status: bytes) -> None:
    with impatient(fake) as root, connect(root) as client:
        client.sendall(sent)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    assert received.startswith(status)
    assert received.count(b"HTTP/1.1 ") == (2 if status.endswith(b"200 ") else 1)
    fake.clear_journal()


def test_client_that_waits_for_its_answer_is_not_cut_off(fake: FakeAIHub) -> None:
    fake.faults.add(operation="listBatches", do="slow", seconds=0.1, bytes=2)
    with impatient(fake) as root:
        found = requests.get(f"{root}/v2/batches", headers={"Authorization": "Bearer fake-x"}, timeout=20)
    assert found.json() == {"batches": []}


def test_idle_connections_by_the_hundred_do_no_harm(fake: FakeAIHub) -> None:
    clients = [connect(fake.root) for _ in range(300)]
    try:
        found = requests.get(f"{fake.root}/v2/batches", headers={"Authorization": "Bearer fake-x"}, timeout=5)
        assert found.status_code == 200
    finally:
        for client in clients:
            client.close()


def test_connections_are_fewer_than_the_files_that_may_be_open() -> None:
    import resource

    assert 10 <= _most_connections() < resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_connection_too_many_is_answered_503(fake: FakeAIHub) -> None:
    server = make_server(create_app(fake.service))
    protocol = server.config.http
    protocol.keywords["most"] = 2  # type: ignore[union-attr]
    background = Background(create_app(fake.service))
    background._server = server
    with background:
        clients = [connect(background.root) for _ in range(3)]
        assert clients[-1].recv(100).startswith(b"HTTP/1.1 503 ")
        clients.pop(0).close()
        headers = {"Authorization": "Bearer fake-x"}
        clients.pop(0).close()
        assert requests.get(f"{background.root}/v2/batches", headers=headers, timeout=5).status_code == 200
        clients[0].close()


def test_bug_of_the_fake_is_answered_and_told(http: requests.Session, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeAIHub() as fake:
        fake.world.batches = None  # type: ignore[assignment]
        found = http.get(f"{fake.root}/v2/batches")
    assert (found.status_code, found.headers["X-Fake-AIHub"]) == (500, "1")
    assert "bug" in found.json()["message"]
    assert "list_batches" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("units", {"lfet": 3}),
        ("units", {"left": -1}),
        ("faults", {"faults": [], "fault": []}),
        ("runs/RUN", {"status": "FAILED", "msg": "none"}),
        ("next-run", {"untill": 5}),
        ("clock", {"advance": 5}),
        ("checkpoint", {"nam": "a"}),
        ("rewind", {"nam": "a"}),
        ("verify", {"operations": "runApp"}),
    ],
)
def test_control_refuses_what_it_does_not_know(
    http: requests.Session, fake: FakeAIHub, path: str, body: dict[str, object]
) -> None:
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "a"}).json()["id"]
    http.put(
        f"{fake.root}/v2/batches/{batch_id}/files/a", data=b"a", headers={"Content-Type": "application/octet-stream"}
    )
    run = http.post(f"{fake.root}/v2/apps/runs", json={"app_name": "App", "batch_id": batch_id}).json()["id"]
    found = http.post(f"{fake.root.removesuffix('/api')}/_fake/{path.replace('RUN', run)}", json=body)
    assert found.status_code == 400
    assert fake.world.runs[run].script == {}


HOSTILE: list[object] = [
    *(None, True, -1, 10**400, 1e308, "", "x" * 300, "\ud800", "../..", "\0", [], [None], [[]], {}, {"a": {"b": []}}),
    [{"part_num": 1, "part_id": None}],
]


@pytest.mark.matrix(most=6)
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_malformed_multipart_and_controls_are_refused_not_failed(
    http: requests.Session, fake: FakeAIHub, value: object
) -> None:
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "a"}).json()["id"]
    whole = {"batch_id": batch_id, "filename": "a", "file_size": 5}
    session_id = http.post(f"{fake.root}/v2/batches/multipart-upload", json=whole).json()["session_id"]
    sessions = f"{fake.root}/v2/batches/multipart-upload/sessions"
    asked = [(f"{fake.root}/v2/batches/multipart-upload", {**whole, key: value}) for key in whole]
    asked += [(f"{sessions}/{session_id}", {"action": "commit", "parts": value})]
    asked += [(f"{sessions}/{session_id}", {"action": value})]
    for path, keys in (
        ("faults", ("faults",)),
        ("clock", ("advance_s", "offset_s")),
        ("verify", ("path", "count", "body", "query", "headers", "status")),
        ("checkpoint", ("name",)),
        ("rewind", ("name",)),
        ("next-run", ("status", "times", "after_s", "file", "app", "hold", "after_polls")),
        ("units", ("left",)),
    ):
        asked += [(f"{fake.root.removesuffix('/api')}/_fake/{path}", {key: value}) for key in keys]
    for url, body in asked:
        found = http.post(url, data=json.dumps(body), headers={"Content-Type": "application/json"}, timeout=10)
        assert found.status_code < 500, (url, body, found.text)
    for number in (str(value)[:50] or "x").replace("/", "-"), "0", "-1", "9" * 50:
        assert (
            http.put(f"{sessions}/{session_id}/parts/{quote(number, errors='replace')}", data=b"12345").status_code
            < 500
        )
    assert http.get(f"{fake.root}/v2/batches").status_code in (200, 503)
    fake.clear_journal()


def run_fake(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fake_aihub", "--port", "0", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_fake_takes_any_token_when_told() -> None:
    with run_fake("--any-token") as process:
        assert process.stdout
        root = process.stdout.readline().strip()
        assert root.startswith("http://127.0.0.1:")
        found = requests.get(f"{root}/v2/batches", headers={"Authorization": "Bearer real"}, timeout=5)
        none = requests.get(f"{root}/v2/batches", timeout=5)
        process.terminate()
    assert (found.status_code, none.status_code) == (200, 401)


def test_fake_tells_at_its_end_which_faults_were_not_used(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text('[[fault]]\noperation = "listBatches"\ndo = "status"\n[[fault]]\noperation = "runApp"\n')
    with run_fake("--faults", str(file), "--clock", "2030-01-02T03:04:05Z") as process:
        assert process.stdout
        assert process.stderr
        root = process.stdout.readline().strip()
        found = requests.get(f"{root}/v2/batches", headers={"Authorization": "Bearer fake-x"}, timeout=5)
        process.send_signal(signal.SIGTERM)
        told = process.stderr.read()
    assert (found.status_code, found.headers["Date"]) == (503, "Wed, 02 Jan 2030 03:04:05 GMT")
    assert told == "unused fault: runApp before reset\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clock", "noon"], "allowed: real, frozen, 2026-01-31T12:00:00Z"),
        (["--faults", "{}"], "fault 1: unknown key 'dew'; allowed: operation"),
        (["--journal-size", "0"], "journal-size"),
    ],
)
@pytest.mark.slow
def test_fake_refuses_wrong_options(tmp_path: Path, options: list[str], message: str) -> None:
    file = tmp_path / "faults.toml"
    file.write_text("[[fault]]\ndew = 1\n")
    with run_fake(*(option.format(file) for option in options)) as process:
        assert process.stderr
        assert message in process.stderr.read()
    assert process.returncode != 0
