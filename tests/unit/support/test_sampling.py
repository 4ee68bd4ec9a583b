"""The rule by which `make test` runs a sample of a matrix."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from support.sampling import choose


def matrix(**axes: int) -> dict[str, dict[str, int]]:
    """Return all cases for a number of values of each parameter."""
    combined = itertools.product(*(range(size) for size in axes.values()))
    return {repr(values): dict(zip(axes, values, strict=True)) for values in combined}


def test_sample_of_three_parameters_has_every_pair_of_values() -> None:
    cases = matrix(a=4, b=3, c=3)
    chosen = [cases[name] for name in choose(cases, most=100)]
    assert len(chosen) < len(cases) / 2
    for one, other in itertools.combinations("abc", 2):
        every = {(case[one], case[other]) for case in cases.values()}
        assert {(case[one], case[other]) for case in chosen} == every


def test_sample_of_two_parameters_has_every_value_twice_with_another_partner() -> None:
    cases = matrix(a=13, b=5)
    chosen = [cases[name] for name in choose(cases, most=100)]
    assert len(chosen) < len(cases) / 2
    for name, other in (("a", "b"), ("b", "a")):
        for value in {case[name] for case in cases.values()}:
            assert len({case[other] for case in chosen if case[name] == value}) >= 2


def test_sample_of_one_parameter_is_spread_from_the_first_to_the_last() -> None:
    cases = matrix(a=100)
    chosen = sorted(cases[name]["a"] for name in choose(cases, most=4))
    assert chosen == [0, 33, 66, 99]


@pytest.mark.parametrize("axes", [{"a": 1}, {"a": 3}, {"a": 2, "b": 2}])
def test_small_matrix_is_its_own_sample(axes: dict[str, int]) -> None:
    cases = matrix(**axes)
    assert choose(cases, most=4) == cases.keys()


def test_sample_is_the_same_whatever_the_order_of_the_cases() -> None:
    cases = matrix(a=6, b=6)
    backwards = dict(reversed(cases.items()))
    assert choose(cases, most=100) == choose(backwards, most=100)


def test_torture_runs_the_matrices_of_which_the_gate_runs_a_sample() -> None:
    root = Path(__file__).parents[3]
    marked = {
        path.name for path in (root / "tests").rglob("test_*.py") if re.search(r"matrix\(.*gate=", path.read_text())
    }
    named = re.search(r"^LARGE = .*?test_,(.*?)\)$", (root / "Makefile").read_text().replace("\\\n", ""), re.MULTILINE)
    assert named
    assert {f"test_{name}" for name in named[1].split()} == marked - {Path(__file__).name}
