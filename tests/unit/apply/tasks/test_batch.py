"""Whether a batch exists, is ours, and contains exactly the wanted files. Others' batches are never touched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest
import respx
from msgspec.structs import replace

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.steps import Gone, NotThere, Outcome, Unsure
from aihub_runner.apply.tasks import batch as task
from aihub_runner.apply.tasks.batch import (
    BatchCreated,
    CheckBatch,
    FindBatch,
    Foreign,
    Verified,
    VerifyBatch,
    check_batch,
    find_batch,
    verify_batch,
)
from aihub_runner.apply.tasks.clones import Checked
from aihub_runner.errors import ServiceError
from aihub_runner.plan.identity import claim_name, claim_stem

NAME = "job-" + "a" * 64
FIND = FindBatch(1, 1, NAME, "", frozenset({1}), 0.0)
VERIFY = VerifyBatch(1, 1, 7, NAME, "", 0.0)
STEM = claim_stem("tag", 7)
CHECK = CheckBatch(
    1,
    1,
    7,
    "",
    {"a": 1, "b\u00fc": 2},
    settle_s=0.0,
    young_until_s=0.0,
    sent=frozenset({"a", "b\u00fc", "old"}),
    modified={"a": 50},
    name=NAME,
    known=frozenset({1, 7}),
    claim=STEM,
)
RIGHT = [("a", 1), ("b\u00fc", 2)]

Batch = tuple[int, str]
File = tuple[Any, ...]  # name, size, and time


def serve_batches(router: respx.MockRouter, *readings: Iterable[Batch]) -> None:
    """List these batches, the last reading again and again. An empty page proves the end of each."""
    left = [[{"id": number, "name": name} for number, name in reading] for reading in readings]

    def page(request: httpx.Request) -> httpx.Response:
        batches = left[0][int(request.url.params["offset"]) :]
        if not batches and len(left) > 1:
            left.pop(0)
        return httpx.Response(200, json={"batches": batches})

    router.get("/v2/batches").mock(side_effect=page)


def serve_files(router: respx.MockRouter, batch: int, *readings: Iterable[File]) -> None:
    """List these files of a batch, the last reading again and again."""
    left = [
        {
            "nodes": [
                {"name": f[0], "metadata": dict(zip(("size", "modified_timestamp"), f[1:], strict=False))} for f in r
            ]
        }
        for r in readings
    ]
    router.get(f"/v2/batches/{batch}/files").mock(
        side_effect=lambda _: httpx.Response(200, json=left.pop(0) if len(left) > 1 else left[0])
    )


def serve_runs(router: respx.MockRouter, *batches: int) -> None:
    runs = [{"id": f"r{batch}", "status": "FAILED", "batch_id": batch} for batch in batches]

    def page(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"runs": runs[int(request.url.params.get("offset", 0)) :]})

    router.get("/v2/apps/runs").mock(side_effect=page)


@pytest.mark.parametrize(
    ("readings", "filled", "run", "outcome"),
    [
        pytest.param([[]], (), (), NotThere(), id="no batch is listed"),
        pytest.param([[(7, NAME)]], (), (), BatchCreated(7), id="its exact name"),
        pytest.param([[(9, NAME), (7, NAME)]], (), (), BatchCreated(7), id="the oldest of several"),
        pytest.param([[], [(7, NAME)]], (), (), BatchCreated(7), id="only the second listing shows it"),
        pytest.param([[(7, NAME + "b"), (8, NAME[:-1])]], (), (), NotThere(), id="only similar names"),
        pytest.param([[(1, NAME)]], (), (), NotThere(), id="it was there before, or is another shard's"),
        pytest.param([[(7, NAME)]], (7,), (), NotThere(), id="it holds a file already"),
        pytest.param([[(7, NAME)]], (), (7,), NotThere(), id="it was run already"),
        pytest.param([[(7, NAME), (8, NAME), (9, NAME)]], (7,), (8,), BatchCreated(9), id="the first that is unused"),
    ],
)
def test_batch_of_a_lost_response_is_found_if_it_is_new_and_unused(
    hub: AIHub,
    router: respx.MockRouter,
    readings: list[list[Batch]],
    filled: tuple[int, ...],
    run: tuple[int, ...],
    outcome: Outcome,
) -> None:
    serve_batches(router, *readings)
    serve_runs(router, *run)
    for batch in range(1, 10):
        serve_files(router, batch, [("a", 1)] if batch in filled else [])
    assert find_batch(hub, FIND) == outcome


def cut(request: httpx.Request) -> httpx.Response:
    """List the newest entry, or the first one, and refuse to tell more."""
    run = "newest" if request.url.params.get("order") == "DESCENDING" else "oldest"
    listed = {"batches": [{"id": 7, "name": NAME}], "runs": [{"id": run, "status": "FAILED"}]}
    return httpx.Response(200, json=listed) if request.url.params["offset"] == "0" else httpx.Response(400)


@pytest.mark.parametrize("path", ["/v2/batches", "/v2/apps/runs"])
def test_batch_is_unconfirmed_where_a_list_is_cut(hub: AIHub, router: respx.MockRouter, path: str) -> None:
    serve_batches(router, [(7, NAME)])
    serve_runs(router)
    serve_files(router, 7, [])
    router.get(path).mock(side_effect=cut)
    assert isinstance(find_batch(hub, FIND), Unsure)


@pytest.mark.parametrize(
    ("told", "files", "outcome"),
    [
        pytest.param({}, [[]], Verified(5), id="its name, and empty"),
        pytest.param({"created_at_ms": None}, [[]], Verified(0), id="it does not say when it was created"),
        pytest.param({"created_at_ms": 10**17}, [[]], Verified(0), id="it was created in the future"),
        pytest.param({"name": NAME[:-1]}, [[]], Foreign, id="another name"),
        pytest.param({}, [[("x", 1)]], Foreign, id="it holds a file"),
        pytest.param({}, [[("x", 1)], []], Verified(5), id="one listing is another batch's"),
    ],
)
def test_batch_is_ours_only_by_its_name_and_while_it_is_empty(
    hub: AIHub, router: respx.MockRouter, told: dict[str, Any], files: list[list[File]], outcome: Outcome | type
) -> None:
    router.get("/v2/batches/7").respond(json={"id": 7, "name": NAME, "created_at_ms": 5} | told)
    serve_files(router, 7, *files)
    found = verify_batch(hub, VERIFY)
    assert outcome in (found, type(found))


OTHERS = [(8, "another")]


@pytest.mark.parametrize(
    ("status", "listed", "is_older", "is_young", "is_gone"),
    [
        pytest.param(404, OTHERS, False, False, True, id="others are listed"),
        pytest.param(404, [*OTHERS, (7, NAME)], False, False, False, id="it is listed all the same"),
        pytest.param(404, [], False, False, False, id="nothing is listed, and never was"),
        pytest.param(404, [], True, False, True, id="nothing is listed any more"),
        pytest.param(404, OTHERS, True, True, False, id="it is new"),
        pytest.param(403, OTHERS, True, False, False, id="it may not be read"),
    ],
)
@pytest.mark.parametrize("kind", [VERIFY, CHECK], ids=["verify", "check"])
def test_batch_is_gone_only_if_batches_are_listed_without_it(
    hub: AIHub,
    router: respx.MockRouter,
    kind: VerifyBatch | CheckBatch,
    status: int,
    listed: list[Batch],
    is_older: bool,
    is_young: bool,
    is_gone: bool,
) -> None:
    router.get("/v2/batches/7").respond(status)
    router.get("/v2/batches/7/files").respond(status)
    serve_batches(router, listed)
    step = replace(kind, is_older=is_older, young_until_s=float("inf") if is_young else 0.0)
    work: Any = verify_batch if isinstance(kind, VerifyBatch) else check_batch
    if is_gone:
        assert work(hub, step) == Gone()
    else:
        with pytest.raises(ServiceError) as caught:
            work(hub, step)
        assert caught.value.status == status


@pytest.mark.parametrize(
    ("files", "missing", "modified"),
    [
        pytest.param(RIGHT, (), {}, id="names and sizes"),
        pytest.param([("a", 1, 50), ("b\u00fc", 2, 60)], (), {"a": 50, "b\u00fc": 60}, id="and times"),
        pytest.param([("a", 1, 50), ("bu\u0308", 2)], (), {"a": 50}, id="a decomposed name"),
        pytest.param([("a",), ("b\u00fc",)], (), {}, id="sizes are not listed"),
        pytest.param([("a", 1)], ("b\u00fc",), {}, id="a file less"),
        pytest.param([("a", 1), ("b\u00fc", 3)], ("b\u00fc",), {}, id="another size"),
        pytest.param([("a", 1, 51), ("b\u00fc", 2, 60)], ("a",), {"b\u00fc": 60}, id="sent again by somebody else"),
        pytest.param([], ("a", "b\u00fc"), {}, id="nothing"),
    ],
)
def test_batch_is_right_if_each_file_is_as_it_was_sent(
    hub: AIHub, router: respx.MockRouter, files: list[File], missing: tuple[str, ...], modified: dict[str, int]
) -> None:
    serve_batches(router, [(7, NAME)])
    serve_files(router, 7, files)
    assert check_batch(hub, CHECK) == Checked(missing, modified)


@pytest.mark.parametrize(
    ("surplus", "name", "after", "deleted", "outcome"),
    [
        pytest.param("old", NAME, RIGHT, 1, Checked(()), id="we sent it, and it goes"),
        pytest.param("old", NAME, [*RIGHT, ("old", 1)], 1, "must not be run", id="we sent it, and it stays"),
        pytest.param("old", NAME, [("a", 1)], 1, Checked(("b\u00fc",)), id="we sent it, and another is missing"),
        pytest.param("strange", NAME, RIGHT, 0, "did not send", id="somebody else sent it"),
        pytest.param("old", "another", RIGHT, 0, Gone(), id="the batch is another's by now"),
    ],
)
def test_file_too_many_is_deleted_only_if_we_sent_it(
    hub: AIHub,
    router: respx.MockRouter,
    surplus: str,
    name: str,
    after: list[File],
    deleted: int,
    outcome: Outcome | str,
) -> None:
    serve_batches(router, [(7, NAME)])
    router.get("/v2/batches/7").respond(json={"id": 7, "name": name})
    serve_files(router, 7, [*RIGHT, (surplus, 1)], after)
    delete = router.delete(f"/v2/batches/7/files/{surplus}").respond(202)
    step = replace(CHECK, settle_s=0.01)
    if isinstance(outcome, str):
        with pytest.raises(ServiceError, match=outcome):
            check_batch(hub, step)
    else:
        assert check_batch(hub, step) == outcome
    assert delete.call_count == deleted


@pytest.mark.parametrize(
    ("listed", "elders", "is_claimed"),
    [
        pytest.param([(7, NAME)], (), False, id="only ours"),
        pytest.param([(7, NAME), (3, NAME), (2, NAME)], (2, 3), False, id="older ones"),
        pytest.param([(7, NAME), (9, NAME)], (), False, id="a younger one"),
        pytest.param([(7, NAME), (1, NAME)], (), False, id="an older one that we know"),
        pytest.param([(7, NAME), (3, "another")], (), False, id="an older one of another name"),
        pytest.param([(7, NAME), (9, claim_name(STEM, "0" * 8))], (), True, id="a claim"),
        pytest.param([(7, NAME), (9, claim_name(claim_stem("tag", 8), "0" * 8))], (), False, id="another run's claim"),
        pytest.param([(3, NAME)], (3,), False, id="ours is not listed yet"),
    ],
)
def test_check_finds_other_clones(
    hub: AIHub, router: respx.MockRouter, listed: list[Batch], elders: tuple[int, ...], is_claimed: bool
) -> None:
    serve_batches(router, listed)
    serve_files(router, 7, RIGHT)
    is_listed = (7, NAME) in listed
    assert check_batch(hub, CHECK) == Checked((), {}, elders, is_claimed, is_listed)
    assert check_batch(hub, replace(CHECK, minds_elders=False)) == Checked(())


def test_batches_are_listed_again_until_ours_shows(hub: AIHub, router: respx.MockRouter) -> None:
    serve_batches(router, [], [(7, NAME), (3, NAME)])
    serve_files(router, 7, RIGHT, RIGHT)
    assert check_batch(hub, replace(CHECK, settle_s=5.0)) == Checked((), {}, (3,))


def test_other_clones_are_looked_for_again_if_the_files_are_right_only_later(
    hub: AIHub, router: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_batches(router, [(7, NAME)], [(7, NAME), (3, NAME)])
    serve_files(router, 7, RIGHT[:1], RIGHT)
    monkeypatch.setattr(hub, "pause", lambda _: None)
    monkeypatch.setattr(task, "FRESH", 0.0)
    monkeypatch.setattr(task, "FRESH_S", 0.0)  # any wait is a long one
    assert check_batch(hub, replace(CHECK, settle_s=5.0)) == Checked((), {}, (3,), False)


def test_batch_whose_id_has_another_name_is_gone(hub: AIHub, router: respx.MockRouter) -> None:
    serve_batches(router, [(7, "another")])
    serve_files(router, 7, RIGHT)
    assert check_batch(hub, CHECK) == Gone()
