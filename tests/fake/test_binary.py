"""Random binary files are returned unchanged, however they were sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import requests

from fake_aihub import FakeAIHub

PART_BYTES = 1000
BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture(params=["memory", "disk"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeAIHub]:
    with FakeAIHub(data_dir=tmp_path if request.param == "disk" else None, part_size=PART_BYTES) as server:
        yield server


def make_files(count: int) -> dict[str, bytes]:
    """Names and bytes: empty ones, ones around the size of a part, and now and then a large one."""
    chance = Random(2026)
    sizes = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 300_000]
    sizes += [chance.randrange(3 * PART_BYTES) for _ in range(count - len(sizes))]
    return {f"{number:04}.bin": chance.randbytes(size) for number, size in enumerate(sizes)}


def put(http: requests.Session, hub: FakeAIHub, batch: int, name: str, body: bytes) -> None:
    http.put(f"{hub.root}/v2/batches/{batch}/files/{name}", data=body).raise_for_status()


def put_in_parts(http: requests.Session, hub: FakeAIHub, batch: int, name: str, body: bytes) -> None:
    asked = {"batch_id": batch, "filename": name, "file_size": len(body)}
    session = http.post(f"{hub.root}/v2/batches/multipart-upload", json=asked, headers={"Content-Type": None})
    where, parts = session.headers["Location"], []
    for number, start in enumerate(range(0, len(body), PART_BYTES), 1):
        parts.append(http.put(f"{where}/parts/{number}", data=body[start : start + PART_BYTES]).json())
    commit = {"action": "commit", "parts": parts}
    http.post(where, json=commit, headers={"Content-Type": None}).raise_for_status()


def bytes_in(hub: FakeAIHub, batch: int) -> dict[str, str]:
    """Names of the files in a batch, and the SHA-256 of their bytes, read again."""
    return {
        name: hashlib.sha256(b"".join(hub.world.blobs.stream(file.digest, 0, file.size))).hexdigest()
        for name, file in hub.world.batches[batch].files.items()
    }


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.torture)])
@pytest.mark.slow
def test_fake_gives_back_every_binary_file_with_the_same_digest(hub: FakeAIHub, count: int) -> None:
    files = make_files(count)
    wanted = {name: hashlib.sha256(body).hexdigest() for name, body in files.items()}
    read: dict[str, str] = {}
    with requests.Session() as http:
        http.headers.update({"Authorization": "Bearer fake-binary"} | BINARY)
        made = [
            http.post(f"{hub.root}/v2/batches", json={"name": "b"}, headers={"Content-Type": None}) for _ in range(2)
        ]
        whole, in_parts = (answer.json()["id"] for answer in made)
        for name, body in files.items():
            put(http, hub, whole, name, body)
            put_in_parts(http, hub, in_parts, name, body)
            url = f"{hub.root}/v2/files/acme/w/fs/drive/{name}"
            http.put(url, data=body).raise_for_status()
            answer = http.get(url, params={"expect-node-type": "file"})
            read[name] = hashlib.sha256(answer.content).hexdigest()
    assert len(wanted) == count
    assert bytes_in(hub, whole) == wanted
    assert hub.files(whole) == wanted
    assert bytes_in(hub, in_parts) == wanted
    assert read == wanted
