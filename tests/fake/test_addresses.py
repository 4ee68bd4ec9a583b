"""Addresses of the fake: through proxies, with an extra slash, and from a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from aihub import AIHub

from fake_aihub import FakeAIHub
from fake_aihub.api.app import create_app
from fake_aihub.api.service import Service
from fake_aihub.server.embedded import Background
from fake_aihub.world.clock import Clock
from fake_aihub.world.world import World

ORIGIN = "http://localhost:5173"
TOKEN = {"Authorization": "Bearer fake-x"}
PREFLIGHT = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization, ib-context"}


def send(fake: FakeAIHub, target: str) -> tuple[int, str]:
    there = urlsplit(fake.root)
    with socket.create_connection((there.hostname, there.port), timeout=5) as client:
        head = f"GET {target} HTTP/1.1\r\nHost: other\r\nAuthorization: Bearer fake-x\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode())
        got = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    return int(got.split(" ")[1]), got.partition("\r\n\r\n")[2]


@pytest.mark.parametrize("start", ["http://proxied:80", "HTTPS://user@proxied"])
def test_target_in_absolute_form_is_as_in_the_usual_one(fake: FakeAIHub, start: str) -> None:
    requests.post(f"{fake.root}/v2/batches", json={"name": "a"}, headers=TOKEN)
    whole = send(fake, "/api/v2/batches?limit=5")
    assert whole[0] == 200
    assert '"name":"a"' in whole[1]
    assert send(fake, f"{start}/api/v2/batches?limit=5") == whole
    assert send(fake, f"{start}/api/v2/batches/%31001")[0] == 200
    assert send(fake, start)[0] == 501
    assert fake.journal[-1]["path"] == "/"
    fake.clear_journal()  # the description has no numbers with escapes


def test_root_may_end_in_a_slash(fake: FakeAIHub) -> None:
    client = AIHub(api_root=f"{fake.root}/", api_key="fake-x")
    batch = client.batches.create(name="a")
    client.batches.add_file(batch.id, file_name="a.txt", file=b"content")
    assert fake.files(batch.id).keys() == {"a.txt"}
    fake.clear_journal()  # the description has no paths with two slashes


@pytest.mark.parametrize("path", ["/api/_fake/ledger", "/api//_fake/ledger", "//_fake/ledger", "/api"])
def test_controls_are_where_they_are_and_nowhere_else(fake: FakeAIHub, path: str) -> None:
    assert send(fake, path)[0] == 501


@pytest.fixture
def open_root() -> Iterator[str]:
    with Background(create_app(Service(Clock(), World(Clock()), cors=ORIGIN))) as background:
        yield background.root


def test_pages_of_the_origin_may_ask(open_root: str) -> None:
    asked = requests.options(f"{open_root}/v2/batches/1/files/a", headers={"Origin": ORIGIN, **PREFLIGHT})
    assert (asked.status_code, asked.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert "PUT" in asked.headers["Access-Control-Allow-Methods"]
    assert "authorization" in asked.headers["Access-Control-Allow-Headers"]
    for headers, status in ((TOKEN, 200), ({}, 401)):
        found = requests.get(f"{open_root}/v2/batches", headers={"Origin": ORIGIN, **headers})
        assert (found.status_code, found.headers["Access-Control-Allow-Origin"]) == (status, ORIGIN)
        assert "Retry-After" in found.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("origin", ["http://localhost:5174", "https://localhost:5173", "null"])
def test_pages_of_another_origin_may_not_ask(open_root: str, origin: str) -> None:
    asked = requests.options(f"{open_root}/v2/batches", headers={"Origin": origin, **PREFLIGHT})
    found = requests.get(f"{open_root}/v2/batches", headers={"Origin": origin, **TOKEN})
    assert asked.status_code == 400
    assert all("Access-Control-Allow-Origin" not in answer.headers for answer in (asked, found))


@pytest.mark.parametrize("path", ["/_fake/faults", "/%5Ffake/faults", "/api/../_fake/faults", "/api/_fake/faults"])
def test_controls_are_never_open_to_pages(open_root: str, path: str) -> None:
    there = urlsplit(open_root)
    for method in ("OPTIONS", "GET"):
        with socket.create_connection((there.hostname, there.port), timeout=5) as client:
            lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Origin: {ORIGIN}", "Connection: close"]
            lines += ["Access-Control-Request-Method: POST"] if method == "OPTIONS" else []
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            status, _, rest = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n")
        is_control = method == "GET" and status.split()[1] == b"200"
        assert not (is_control and b"access-control" in rest.lower())
        if "api" not in path:
            assert b"access-control" not in rest.lower()


def test_pages_may_not_ask_unless_told(fake: FakeAIHub) -> None:
    asked = requests.options(f"{fake.root}/v2/batches", headers={"Origin": ORIGIN, **PREFLIGHT})
    assert asked.status_code == 405
    assert "Access-Control-Allow-Origin" not in asked.headers


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_address_that_is_printed_can_be_asked(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    command = [sys.executable, "-m", "fake_aihub", "--port", "0", "--host", host, "--cors", "*"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        root = process.stdout.readline().strip()
        found = requests.get(f"{root}/v2/batches", headers={"Origin": ORIGIN, **TOKEN}, timeout=5)
        process.terminate()
    assert (found.status_code, found.headers["Access-Control-Allow-Origin"]) == (200, "*")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
