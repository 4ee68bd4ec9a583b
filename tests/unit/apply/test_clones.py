"""Which of several clones pays, as far as a check of a batch decides it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from aihub_runner.apply.shard_progress import ShardProgress
from aihub_runner.apply.tasks.clones import Checked, note_checked


@pytest.mark.parametrize(
    ("known", "found", "is_settled"),
    [
        (7, (7,), True),  # this one was waited for
        (7, (), True),
        (0, (), True),
        (0, (5,), False),  # it was not listed before
        (7, (5, 7), False),
    ],
)
def test_older_batch_that_was_not_waited_for_is(known: int, found: tuple[int, ...], is_settled: bool) -> None:
    progress = ShardProgress(elder=known, is_settled=True)
    context = cast("Any", SimpleNamespace(shards={1: progress}))
    note_checked(context, 1, Checked((), {}, found))
    assert progress.is_settled is is_settled


def test_shards_of_the_same_files_wait_for_one_older_batch_each() -> None:
    shards = {1: ShardProgress(), 2: ShardProgress()}
    for shard in shards:
        note_checked(cast("Any", SimpleNamespace(shards=shards)), shard, Checked((), {}, (5, 6)))
    assert [progress.elder for progress in shards.values()] == [5, 6]
