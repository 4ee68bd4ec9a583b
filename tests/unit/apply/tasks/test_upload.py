"""A file is recorded with the digest of the bytes sent, or skipped, or left to the next apply."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import respx
from msgspec.structs import asdict, replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.context import Context
from aihub_runner.apply.steps import Failed, Gone, LeftHere, Outcome
from aihub_runner.apply.tasks.upload import (
    DISK,
    IN_MEMORY_BYTES,
    TRIES,
    SendFile,
    SendPlanned,
    Sent,
    Unsendable,
    record_all_sent,
    record_sent,
    send_file,
    send_planned,
)
from aihub_runner.errors import ServiceError
from aihub_runner.model import Member, Shard
from aihub_runner.plan.planner import Action, missing_uploads, next_action
from aihub_runner.sources.exclude import RESULTS_MARKER
from support.scripted import Trial, member

PUT = "/v2/batches/7/files/a.txt"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def step_for(path: Path, *, is_older: bool = False, is_young: bool = False) -> SendFile:
    young_until_s = float("inf") if is_young else 0.0
    return SendFile(1, 1, 7, "", Member("a.txt", "in/a.txt", 1, "sha256:a"), str(path), 10**9, young_until_s, is_older)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"as it was")
    return path


@pytest.mark.parametrize("part", ["a.txt", "in"], ids=["file", "folder"])
def test_file_that_became_a_link_to_the_outside_is_not_sent(
    hub: AIHub, router: respx.MockRouter, tmp_path: Path, part: str
) -> None:
    for name in ("tree/in", "outside/in"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text(name)
    put = router.put(PUT).respond(200)
    tree, path = tmp_path / "tree", tmp_path / "tree/in/a.txt"
    step = replace(step_for(path), tree=str(tree))
    assert isinstance(send_file(hub, step), Sent)
    linked = path if part == "a.txt" else path.parent
    linked.rename(tmp_path / "away")
    linked.symlink_to(tmp_path / "outside" / linked.relative_to(tree))
    assert send_file(hub, step) == Unsendable("unreadable", "it now leads outside")
    assert put.call_count == 1
    assert isinstance(send_file(hub, replace(step, tree="")), Sent)


@pytest.mark.parametrize("target", [".env", ".git/config", "results/raw/a.json"])
def test_file_that_became_a_link_to_what_is_never_a_source_is_not_sent(
    hub: AIHub, router: respx.MockRouter, tmp_path: Path, target: str
) -> None:
    for name in (target, f"results/{RESULTS_MARKER}", "in/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("AIHUB_API_KEY=secret")
    (tmp_path / "in/a.txt").symlink_to(tmp_path / target)
    put = router.put(PUT).respond(200)
    step = replace(step_for(tmp_path / "in/a.txt"), tree=str(tmp_path))
    assert send_file(hub, step) == Unsendable("unreadable", "it now leads to a file that is never sent")
    assert put.call_count == 0
    (tmp_path / "in/a.txt").unlink()
    (tmp_path / "in/a.txt").symlink_to(tmp_path / "in/b.txt")
    assert isinstance(send_file(hub, step), Sent)


@pytest.mark.parametrize("threshold", [4, 100], ids=["in parts", "whole"])
def test_worker_sends_nothing_of_a_file_that_became_a_link_to_the_outside(
    hub: AIHub, router: respx.MockRouter, tmp_path: Path, threshold: int
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "secret").write_text("secret!!")
    (tmp_path / "tree/a.txt").symlink_to(tmp_path / "secret")
    planned = Member("a.txt", "a.txt", 8, digest(b"secret!!"))
    step = replace(step_for(tmp_path / "tree/a.txt"), tree=str(tmp_path / "tree"), member=planned)
    found = send_planned(hub, SendPlanned(**asdict(replace(step, part_threshold=threshold))))
    assert found == LeftHere("it now leads outside")
    assert not router.calls


SIZES = [1, IN_MEMORY_BYTES, IN_MEMORY_BYTES + 1]


@pytest.mark.parametrize("size", SIZES)
def test_file_is_sent_with_the_digest_of_what_was_sent(
    hub: AIHub, router: respx.MockRouter, path: Path, size: int
) -> None:
    content = bytes(size)
    path.write_bytes(content)
    put = router.put(PUT).respond(200)
    assert send_file(hub, step_for(path)) == Sent(digest(content), size)
    assert put.calls.last.request.content == content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("change", "sent"),
    [
        pytest.param(lambda content: b"x" * len(content), True, id="other bytes"),
        pytest.param(lambda content: content + b"more", True, id="longer"),
        pytest.param(lambda content: content[:-1] or b"y", True, id="shorter"),
        pytest.param(lambda _: b"", False, id="emptied"),
    ],
)
def test_file_that_changes_while_it_is_sent_is_sent_again(
    hub: AIHub,
    router: respx.MockRouter,
    path: Path,
    size: int,
    change: Callable[[bytes], bytes],
    sent: bool,
) -> None:
    path.write_bytes(bytes(size))
    changed = change(bytes(size))

    def put(request: httpx.Request) -> httpx.Response:
        if path.read_bytes() != changed:
            path.write_bytes(changed)
        return httpx.Response(200)

    route = router.put(PUT).mock(side_effect=put)
    outcome = send_file(hub, step_for(path))
    if sent:
        assert outcome == Sent(digest(changed), len(changed))
        assert route.calls.last.request.content == changed
    else:
        assert isinstance(outcome, Unsendable)
        assert outcome.reason == "empty"


def test_file_that_changes_every_time_is_skipped(hub: AIHub, router: respx.MockRouter, path: Path) -> None:
    def put(request: httpx.Request) -> httpx.Response:
        path.write_bytes(request.content + b"!")
        return httpx.Response(200)

    route = router.put(PUT).mock(side_effect=put)
    outcome = send_file(hub, step_for(path))
    assert isinstance(outcome, Unsendable)
    assert (outcome.reason, route.call_count) == ("vanished", TRIES)


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        pytest.param(lambda path: path.write_bytes(b""), "empty", id="is empty"),
        pytest.param(lambda path: path.unlink(), "vanished", id="was removed"),
        pytest.param(lambda path: (path.unlink(), path.mkdir()), "unreadable", id="became a folder"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to(path)), "unreadable", id="is a link to itself"),
    ],
)
def test_file_that_cannot_be_sent_is_skipped_with_the_reason(
    hub: AIHub, path: Path, prepare: Callable[[Path], object], reason: str
) -> None:
    prepare(path)
    outcome = send_file(hub, step_for(path))
    assert isinstance(outcome, Unsendable)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("status", "listed", "is_older", "is_young", "outcome"),
    [
        *[
            pytest.param(status, [], False, False, Unsendable, id=f"{status}, of this file")
            for status in (400, 413, 415)
        ],
        pytest.param(422, [], False, False, Unsendable, id="422, of this file"),
        *[
            pytest.param(status, [], False, False, status, id=f"{status}, not of this file")
            for status in (401, 403, 409)
        ],
        pytest.param(404, [8], False, False, Gone, id="404, and others are listed"),
        pytest.param(404, [7, 8], False, False, 404, id="404, but the batch is listed"),
        pytest.param(404, [], False, False, 404, id="404, and nothing was ever listed"),
        pytest.param(404, [], True, False, Gone, id="404, and nothing is listed any more"),
        pytest.param(404, [8], True, True, 404, id="404, and the batch is new"),
    ],
)
def test_refusal_concerns_the_file_or_the_batch_or_all(
    hub: AIHub,
    router: respx.MockRouter,
    path: Path,
    status: int,
    listed: list[int],
    is_older: bool,
    is_young: bool,
    outcome: type | int,
) -> None:
    router.put(PUT).respond(status, json={"message": "no"})
    batches = [{"id": number, "name": "another"} for number in listed]
    router.get("/v2/batches").mock(
        side_effect=lambda request: httpx.Response(200, json={"batches": batches[int(request.url.params["offset"]) :]})
    )
    step = step_for(path, is_older=is_older, is_young=is_young)
    if isinstance(outcome, int):
        with pytest.raises(ServiceError) as caught:
            send_file(hub, step)
        assert caught.value.status == outcome
    else:
        assert type(send_file(hub, step)) is outcome


A, B = member("a"), member("b")


@pytest.fixture
def trial(hub: AIHub, outside: None, tmp_path: Path) -> Trial:
    """Return an apply with an open shard of two files, which has a batch."""
    trial = Trial(hub, tmp_path, {})
    shard, target = trial.add(A, B), trial.job.goal.target
    trial.state.record_batch_intent(shard, target, "job-a", 0.0, ())
    trial.state.record_batch(1, 7)
    trial.state.record_batch_verified(1, 1_000)
    return trial


def record(context: Context, *outcomes: tuple[Member, Outcome]) -> None:
    """Record outcomes as the scheduler does."""
    steps = [
        (SendFile(1, 1, 7, "", sent, str(context.job.folder / sent.path), 10**9, 0.0), outcome)
        for sent, outcome in outcomes
    ]
    with context.state.transaction():
        for step, outcome in record_all_sent(context, steps):
            assert isinstance(step, SendFile)
            record_sent(context, step, outcome)


def missing(trial: Trial, shard: Shard) -> list[str]:
    return [lacking.name for lacking in missing_uploads(shard, trial.job.goal.target)]


DONE_A, DONE_B = (A, Sent(A.digest, 1)), (B, Sent(B.digest, 1))


@pytest.mark.parametrize(
    ("outcomes", "members", "lacks", "skipped"),
    [
        pytest.param([DONE_A, DONE_B], [A, B], [], {}, id="both are sent"),
        pytest.param([DONE_A], [A, B], ["b"], {}, id="one is sent"),
        pytest.param(
            [DONE_A, (B, Sent("sha256:new", 9))],
            [A, Member("b", "in/b", 9, "sha256:new")],
            [],
            {},
            id="one was sent as it is now",
        ),
        pytest.param([DONE_A, (B, Unsendable("empty", ""))], [A], [], {"in/b": "empty"}, id="one is empty"),
        pytest.param([DONE_A, (B, Unsendable("refused", "no"))], [A], [], {"in/b": "refused"}, id="one is refused"),
        pytest.param([DONE_A, (B, Unsendable(DISK, "I/O error"))], [A], [], {"in/b": "unreadable"}, id="bad sectors"),
        pytest.param([DONE_A, (B, Failed(ServiceError("no")))], [A, B], ["b"], {}, id="one failed"),
    ],
)
def test_open_shard_holds_what_was_sent(
    trial: Trial,
    outcomes: list[tuple[Member, Outcome]],
    members: list[Member],
    lacks: list[str],
    skipped: dict[str, str],
) -> None:
    context = trial.open_context()
    record(context, *outcomes)
    assert list(trial.shard.members) == members
    assert missing(trial, trial.shard) == lacks
    assert {path: skip.reason for path, skip in context.skipped.items()} == skipped
    is_refused = skipped.get("in/b") == "refused"
    assert trial.state.load_refused() == ({("in/b", B.identity): "no"} if is_refused else {})
    assert context.changed == ({"in/b": (9, "sha256:new")} if members[-1].size == 9 else {})


@pytest.mark.parametrize(
    ("outcome", "lacks", "is_parked"),
    [
        pytest.param(Sent(B.digest, 1), [], False, id="as it was run"),
        pytest.param(Sent("sha256:new", 9), ["b"], True, id="with other bytes"),
        pytest.param(Unsendable("vanished", "it is gone"), ["b"], True, id="not at all"),
        pytest.param(Unsendable("refused", "no"), ["b"], True, id="not, since it is refused"),
    ],
)
def test_closed_shard_never_changes_when_a_file_is_sent_again(
    trial: Trial, outcome: Outcome, lacks: list[str], is_parked: bool
) -> None:
    """No run is started on a batch that does not hold what the fingerprint says."""
    trial.state.close_shard(1, "f" * 64)
    context = trial.open_context()
    record(context, DONE_A, (B, outcome))
    assert list(trial.shard.members) == [A, B]
    assert missing(trial, trial.shard) == lacks
    assert context.shards[1].is_parked is is_parked
    wanted = Action.UPLOAD if lacks else Action.START_RUN
    assert next_action(trial.shard, trial.job.goal, 1, checked=True) is wanted


def test_shard_without_a_file_that_can_be_sent_is_forgotten(trial: Trial) -> None:
    context = trial.open_context()
    record(context, (A, Unsendable("empty", "")), (B, Unsendable("vanished", "")))
    assert trial.state.load_shards() == []
    assert sorted(context.skipped) == ["in/a", "in/b"]


def test_second_file_that_a_disk_cannot_read_ends_the_apply(trial: Trial) -> None:
    context = trial.open_context()
    record(context, (A, Unsendable(DISK, "I/O error")))
    assert not context.halted
    record(context, (B, Unsendable(DISK, "I/O error")))
    assert context.halted
    assert [kept.name for kept in trial.shard.members] == ["b"]


def test_file_that_is_sent_again_counts_as_missing_until_the_answer_comes(trial: Trial) -> None:
    """Its old content may have been replaced although the response was lost, and the file was changed back."""
    record(trial.open_context(), DONE_A, DONE_B)
    trial.state.record_members(1, [A, member("b", "new")])
    trial.script(SendFile, Failed(ServiceError("lost")))
    trial.apply()
    trial.state.record_members(1, [A, B])
    assert missing(trial, trial.shard) == ["b"]


def test_batch_that_is_gone_takes_its_uploads_along(trial: Trial) -> None:
    record(trial.open_context(), DONE_A, (B, Gone()))
    assert next_action(trial.shard, trial.job.goal, 1) is Action.CREATE_BATCH
