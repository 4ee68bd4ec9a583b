"""What is kept in memory matches the file."""

import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aihub_runner.model import Member
from aihub_runner.plan.planner import Move
from aihub_runner.state.store import State

NAMES = ("a", "b")
Step = Callable[[State, int, str], object]

STEPS: dict[str, Step] = {
    "shard": lambda state, shard, name: state.record_shard([member(name)]),
    "closed shard": lambda state, shard, name: state.record_shard([member(name)], f"fingerprint {shard} {name}"),
    "members": lambda state, shard, name: state.record_members(shard, [member(name), member("d")]),
    "moves": lambda state, shard, name: state.record_moves([Move(f"in/{name}", f"new/{name}")]),
    "close": lambda state, shard, name: state.close_shard(shard, f"fingerprint {shard}"),
    "forget shard": lambda state, shard, name: state.forget_shard(shard),
    "intent": lambda state, shard, name: state.record_batch_intent(shard, name, f"batch {shard}", 0.0, ()),
    "batch": lambda state, shard, name: state.record_batch(shard, 100 + shard),
    "imported batch": lambda state, shard, name: state.record_imported_batch(shard, name, 200 + shard),
    "forget batch": lambda state, shard, name: state.forget_batch_intent(shard),
    "gone": lambda state, shard, name: state.record_batch_gone(shard),
    "begun": lambda state, shard, name: state.record_uploads_begun(shard, [name]),
    "upload": lambda state, shard, name: state.record_uploads(shard, [(name, f"sha256:{name}")]),
    "modified": lambda state, shard, name: state.record_modified(shard, {name: 7}),
    "forget uploads": lambda state, shard, name: state.forget_uploads(shard, [name]),
}


def member(name: str) -> Member:
    return Member(name, f"in/{name}", 1, f"sha256:{name}")


class Undone(Exception):
    """Ends a transaction without a trace."""


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), st.integers(1, 2), st.sampled_from(NAMES), st.booleans()),
        min_size=5,
        max_size=20,
    )
)
def test_shards_that_are_kept_are_those_of_the_file(steps: list[tuple[str, int, str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.state.db")
        with closing(State(path)) as state:
            state.record_lease("lease", "root")
            for name in NAMES:
                state.record_shard([member(name)])
                state.record_batch_intent(1, name, f"batch {name}", 0.0, ())
            for step, shard, name, is_undone in steps:
                with suppress(Exception), state.transaction():
                    STEPS[step](state, shard, name)
                    state.load_shards()
                    if is_undone:
                        raise Undone
                with closing(State(path, write=False)) as fresh:
                    assert state.load_shards() == fresh.load_shards()
                    assert state.load_shards(shard) == fresh.load_shards(shard)
