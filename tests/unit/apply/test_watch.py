"""When a watch applies, on a virtual clock, with scripted changes of files."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from aihub_runner.apply.watch import MOST_FAILURES, Files, Pace, Woken, World, watch
from aihub_runner.plan.packets import folder_of

PACE = Pace(quiet_s=4.0, most_s=30.0)


class Script:
    """Files that change at moments of a virtual clock, and a signal at its end.

    `changes` are moment, path and size; size 0 removes the file. Without `tells`, nobody tells of changes, as on a
    network mount.
    """

    def __init__(
        self,
        changes: Iterable[tuple[float, str, int]],
        *,
        end_s: float = 1000.0,
        codes: Iterable[int] = (),
        tells: bool = True,
        group: Callable[[str], str] = str,
    ) -> None:
        self.now_s = 0.0
        self._changes = sorted(changes)
        self._end_s, self._tells = end_s, tells
        self._codes = iter(codes)
        self.rounds: list[tuple[float, dict[str, object], frozenset[str]]] = []
        self.looks = 0
        self.world = World(look=self.look, wait=self.wait, act=self.act, group=group, clock=lambda: self.now_s)

    def look(self) -> Files:
        self.looks += 1
        sizes = {path: size for moment_s, path, size in self._changes if moment_s <= self.now_s}
        return {path: size for path, size in sizes.items() if size}

    def wait(self, seconds: float) -> Woken:
        next_s = next((at_s for at_s, *_ in self._changes if at_s > self.now_s), self._end_s) if self._tells else 1e9
        until_s = self.now_s + seconds
        if min(next_s, until_s) >= self._end_s:
            return Woken.STOPPED
        self.now_s = min(next_s, until_s)
        return Woken.CHANGED if next_s <= until_s else Woken.TIME_OUT

    def act(self, unfinished: frozenset[str]) -> int:
        self.rounds.append((self.now_s, dict(self.look()), unfinished))
        return next(self._codes, 0)

    def times(self) -> list[float]:
        return [at_s for at_s, *_ in self.rounds]


def test_files_are_applied_once_when_they_have_been_quiet() -> None:
    script = Script([(0, "a", 1), (10, "b", 1), (11, "c", 1), (13, "c", 2), (100, "d", 1)])
    assert watch(script.world, PACE) == 0
    assert script.times() == [4, 17, 104]
    assert script.rounds[1][1] == {"a": 1, "b": 1, "c": 2}
    assert all(not unfinished for *_, unfinished in script.rounds)


def test_nothing_is_applied_while_nothing_changes() -> None:
    script = Script([(0, "a", 1)], end_s=100_000)
    watch(script.world, PACE)
    assert len(script.rounds) == 1


def test_folder_without_files_waits_for_the_first() -> None:
    script = Script([(50, "a", 1)])
    watch(script.world, PACE)
    assert script.times() == [54]


def test_change_that_is_taken_back_is_not_applied() -> None:
    script = Script([(0, "a", 1), (20, "b", 1), (21, "b", 0)])
    watch(script.world, PACE)
    assert len(script.rounds) == 1


def test_rescan_finds_what_nobody_tells_of_and_waits_until_it_is_quiet() -> None:
    growing = [(70 + step, "b", step + 1) for step in range(60)]
    script = Script([(0, "a", 1), *growing], tells=False)
    watch(script.world, Pace(quiet_s=4.0, most_s=300.0))
    assert len(script.rounds) == 2
    assert script.rounds[1][1]["b"] == 60
    assert script.times()[1] <= 64 + 60 + 2 * 4 + 10


def test_file_that_never_stops_growing_waits_and_the_others_are_applied() -> None:
    growing = [(10 + step, "slow", step + 1) for step in range(60)]
    script = Script([(0, "a", 1), (11, "b", 1), *growing])
    watch(script.world, PACE)
    at_s, files, unfinished = script.rounds[1]
    assert (at_s, unfinished) == (10 + 30 + 2, frozenset({"slow"}))
    assert set(files) - unfinished == {"a", "b"}
    at_s, files, unfinished = script.rounds[-1]
    assert (files["slow"], unfinished) == (60, frozenset())


def test_case_waits_for_its_file_that_is_still_growing() -> None:
    growing = [(10 + step, "x/slow", step + 1) for step in range(60)]
    script = Script([(0, "y/a", 1), (11, "x/b", 1), *growing], group=folder_of)
    watch(script.world, PACE)
    assert script.rounds[1][2] == {"x/slow", "x/b"}


@pytest.mark.parametrize("code", [1, 2, 7, 130])
def test_code_that_needs_a_person_ends_the_watch(code: int) -> None:
    script = Script([(0, "a", 1), (50, "b", 1)], codes=[0, code])
    assert watch(script.world, PACE) == code
    assert len(script.rounds) == 2
    assert script.now_s < 1000 - 60


@pytest.mark.parametrize("code", [0, 3])
def test_code_that_is_an_outcome_of_files_waits_for_other_files(code: int) -> None:
    script = Script([(0, "a", 1), (500, "b", 1)], codes=[code])
    assert watch(script.world, PACE) == 0
    assert script.times() == [4, 504]


def test_runs_that_are_still_going_are_looked_at_again() -> None:
    script = Script([(0, "a", 1)], codes=[6, 6, 0])
    watch(script.world, PACE)
    assert script.times() == [4, 64, 124]


@pytest.mark.parametrize("code", [4, 5])
def test_failure_that_may_pass_is_tried_again_with_growing_waits(code: int) -> None:
    script = Script([(0, "a", 1)], codes=[code] * 4, end_s=10_000)
    assert watch(script.world, PACE) == 0
    assert script.times() == [4, 64, 64 + 120, 184 + 240, 424 + 480]


def test_failures_in_a_row_end_the_watch_at_last() -> None:
    script = Script([(0, "a", 1)], codes=[4] * 99, end_s=1e8)
    assert watch(script.world, PACE) == 4
    assert len(script.rounds) == MOST_FAILURES


def test_files_that_arrive_while_it_fails_are_tried_at_once() -> None:
    script = Script([(0, "a", 1), (200, "b", 1)], codes=[4, 4, 0])
    watch(script.world, PACE)
    assert 204 in script.times()


def test_signal_ends_the_watch_with_the_code_of_the_last_round() -> None:
    script = Script([(0, "a", 1)], codes=[3], end_s=20)
    assert watch(script.world, PACE) == 3


@pytest.mark.slow
def test_thousand_rounds_look_a_few_times_each() -> None:
    script = Script([(100.0 * number, f"file {number}", 1) for number in range(1000)], end_s=200_000)
    watch(script.world, PACE)
    assert len(script.rounds) == 1000
    assert script.looks < 20_000
