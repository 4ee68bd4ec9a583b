"""Uploads in parts: what is hashed, what ends the upload, and how much is in memory."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import httpx
import pytest
import respx

from aihub_runner.aihub.bodies import Buffers, Room
from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.tasks.upload import SendFile, Sent, Unsendable, send_file
from aihub_runner.model import Member

SESSION = "/v2/batches/multipart-upload/sessions/s"
CONTENT = bytes(range(256)) * 10


class Parts(dict[int, bytes]):
    """The parts that came, by their numbers. One may be refused."""

    refused = 0


@pytest.fixture
def parts(router: respx.MockRouter) -> Parts:
    """Answer as the service does, with parts of 1,000 bytes, and return what comes."""
    come = Parts()

    def take(request: httpx.Request) -> httpx.Response:
        number = int(request.url.path.rsplit("/", 1)[1])
        if number == come.refused:
            return httpx.Response(413, json={"message": "too large"})
        come[number] = request.content
        return httpx.Response(200, json={"part_id": str(number), "part_num": number})

    router.post("/v2/batches/multipart-upload").respond(json={"session_id": "s", "part_size": 1000})
    router.put(url__regex=rf".*{SESSION}/parts/\d+").mock(side_effect=take)
    router.post(SESSION).respond(200)
    return come


def step_for(path: Path, content: bytes = CONTENT) -> SendFile:
    path.write_bytes(content)
    member = Member("a.bin", "a.bin", len(content), "sha256:" + hashlib.sha256(content).hexdigest())
    return SendFile(1, 1, 7, "", member, str(path), 1, 0.0)


def test_file_in_parts_is_sent_whole_with_the_digest_of_its_bytes(hub: AIHub, parts: Parts, tmp_path: Path) -> None:
    step = step_for(tmp_path / "a.bin")
    assert send_file(hub, step) == Sent(step.member.digest, len(CONTENT))
    assert b"".join(parts[number] for number in sorted(parts)) == CONTENT
    assert sorted(parts) == [1, 2, 3]


@pytest.mark.parametrize(
    "changed", [CONTENT[:-1], CONTENT[:900], CONTENT + b"more", CONTENT * 2], ids=["shorter", "short", "longer", "long"]
)
def test_file_whose_length_changes_before_it_is_read_is_sent_again_and_never_half(
    hub: AIHub, parts: Parts, router: respx.MockRouter, tmp_path: Path, changed: bytes
) -> None:
    path = tmp_path / "a.bin"
    step = step_for(path)

    def open_upload(_: httpx.Request) -> httpx.Response:
        if path.read_bytes() != changed:
            path.write_bytes(changed)
        parts.clear()
        return httpx.Response(200, json={"session_id": "s", "part_size": 1000})

    router.post("/v2/batches/multipart-upload").mock(side_effect=open_upload)
    assert send_file(hub, step) == Sent("sha256:" + hashlib.sha256(changed).hexdigest(), len(changed))
    assert b"".join(parts[number] for number in sorted(parts)) == changed
    actions = [json.loads(call.request.content) for call in router.calls if call.request.url.path.endswith(SESSION)]
    assert [action["action"] for action in actions] == ["abort", "commit"]


def test_refused_part_ends_and_aborts_the_upload(
    hub: AIHub, parts: Parts, router: respx.MockRouter, tmp_path: Path
) -> None:
    parts.refused = 2
    outcome = send_file(hub, step_for(tmp_path / "a.bin"))
    assert isinstance(outcome, Unsendable)
    assert outcome.reason == "refused"
    bodies = [call.request.content for call in router.calls if call.request.url.path.endswith(SESSION)]
    assert bodies == [b'{"action": "abort"}']


def test_room_lets_no_more_in_than_it_has_and_a_large_body_alone() -> None:
    room = Room(10)
    room.take(6)
    entered = threading.Event()

    def enter(size: int) -> None:
        room.take(size)
        entered.set()

    waiting = threading.Thread(target=enter, args=(50,))
    waiting.start()
    room.take(4)
    assert not entered.is_set()
    room.give_back(6)
    assert not entered.is_set()
    room.give_back(4)
    waiting.join(10)
    assert entered.is_set()


def test_buffer_is_lent_again_only_after_it_was_sent_and_hashed() -> None:
    buffers = Buffers(100)
    first, keeper = buffers.lend(10), buffers.lend(10)
    first.leave()
    second = buffers.lend(10)
    assert second.buffer is not first.buffer
    first.leave()
    assert buffers.lend(10).buffer is first.buffer
    second.abandon()
    second.leave()
    assert buffers.lend(10).buffer not in (second.buffer, keeper.buffer)


def test_buffers_of_another_size_and_those_that_nobody_uses_go_back_to_the_system() -> None:
    buffers = Buffers(100)
    keeper, first = buffers.lend(10), buffers.lend(10)
    first.leave()
    first.leave()
    assert len(buffers.lend(20).buffer) == 20
    assert buffers.lend(10).buffer is not first.buffer
    alone = Buffers(100)
    loan = alone.lend(10)
    loan.leave()
    loan.leave()
    assert alone.lend(10).buffer is not loan.buffer
    assert keeper.buffer


def test_lent_buffers_never_take_more_than_there_is_room_for() -> None:
    buffers = Buffers(20)
    loans = [buffers.lend(10), buffers.lend(10)]
    entered = threading.Event()

    def enter() -> None:
        buffers.lend(10)
        entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    loans[0].leave()
    assert not entered.is_set()
    loans[0].leave()
    waiting.join(10)
    assert entered.is_set()
