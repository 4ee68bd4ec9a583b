"""Many concurrent clients, large bodies, and a start: what `make bench` measures, as counts and sizes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from bench.load import Client, Tally, hammer, serving

from fake_aihub import FakeAIHub

CLIENTS, ROUNDS = 32, 2
MEGABYTE = 1_048_576
HEAVY = ("pydantic", "rich", "requests", "pypdf", "aihub_runner", "httpx")

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.mark.slow
def test_fake_loses_nothing_of_32_clients_at_once(tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        tally = asyncio.run(hammer(int(fake.root.split(":")[2].split("/")[0]), CLIENTS, lambda done: done < ROUNDS))
        assert tally.mistakes == []
        # Each round asks once for its batch, which is gone with the run's input.
        assert set(tally.statuses) == {200, 202, 204, 404}
        assert tally.statuses[404] == CLIENTS * ROUNDS
        [shared] = fake.batches()
        assert fake.files(shared["id"]).keys() == {str(number) for number in range(CLIENTS)}
        assert sum(fake.ledger["runs"].values()) == CLIENTS * ROUNDS


async def send_large_files(port: int, count: int) -> None:
    async with Client(port, Tally()) as client:
        batch = (await client.ask("POST", "/api/v2/batches", {"name": "large"}))["id"]
        for number in range(count):
            body = bytes([number]) * MEGABYTE
            assert await client.ask("PUT", f"/api/v2/batches/{batch}/files/{number}", body) == 204


@pytest.mark.slow
@on_linux
def test_fake_with_a_folder_starts_small_and_keeps_no_body_in_memory(tmp_path: Path) -> None:
    with serving("--data-dir", str(tmp_path)) as server:
        at_first_mb = server.rss_mb
        asyncio.run(send_large_files(server.port, 100))
        grown_mb = server.rss_mb - at_first_mb
    assert at_first_mb < 60
    assert grown_mb < 25
    assert len(list((tmp_path / "blobs").iterdir())) == 100


def test_fake_starts_without_what_it_does_not_need_at_once() -> None:
    start = "import sys, fake_aihub.server.cli, fake_aihub.server.embedded"
    code = f"{start}; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout.strip() == "[]"
