"""Aligning lists: equal items belong together, and the most similar ones in the gaps between."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.text.align import GAP, align, common_length


def alike(before: str, after: str) -> Callable[[int, int], int]:
    return lambda i, j: 10 * (before[i].lower() == after[j].lower())


def pairs(before: str, after: str) -> str:
    """Align two texts letter by letter, and write down the pairs."""
    found = align(before, after, alike(before, after))
    return " ".join(("-" if i is None else before[i]) + ("-" if j is None else after[j]) for i, j in found)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("abc", "xabc", "-x aa bb cc"),
        ("xabc", "abc", "x- aa bb cc"),
        ("abc", "abxc", "aa bb -x cc"),
        ("abc", "aBc", "aa bB cc"),
        ("abc", "xABC", "-x aA bB cC"),
        ("abc", "", "a- b- c-"),
        ("ab", "xy", "ax by"),
        ("aab", "ab", "aa a- bb"),
        ("abcd", "cdab", "-c -d aa bb c- d-"),
        ("", "", ""),
    ],
)
def test_what_is_equal_or_alike_is_paired_in_order(before: str, after: str, expected: str) -> None:
    assert pairs(before, after) == expected


@given(st.text("abAB", max_size=12), st.text("abAB", max_size=12))
def test_every_item_is_paired_once_and_in_order(before: str, after: str) -> None:
    found = align(before, after, alike(before, after))
    assert [i for i, _ in found if i is not None] == list(range(len(before)))
    assert [j for _, j in found if j is not None] == list(range(len(after)))
    assert (None, None) not in found
    if before == after:
        assert all(i == j for i, j in found)


def test_one_in_front_of_many_is_the_only_one_that_is_new() -> None:
    many = [number % 700 for number in range(20_000)]
    found = align(many, [-1, *many], lambda i, j: 0)
    assert found[0] == (None, 0)
    assert found[1:] == [(number, number + 1) for number in range(20_000)]


def test_large_gaps_are_aligned_by_what_is_there_once() -> None:
    before = [f"same {number}" if number % 3 else f"old {number}" for number in range(4 * GAP)]
    after = ["new", *(text.replace("old", "other") for text in before), "new", "new"]
    found = align(before, after, lambda i, j: 0)
    assert {(i, j) for i, j in found if i is not None and i % 3} == {(i, i + 1) for i in range(len(before)) if i % 3}
    assert all(j == i + 1 for i, j in found if i is not None and i > 0)


@given(st.text("ab", max_size=9), st.text("ab", max_size=9))
def test_common_length_is_that_of_the_common_begin(left: str, right: str) -> None:
    length = common_length(left, right)
    assert left[:length] == right[:length]
    assert left[length : length + 1] != right[length : length + 1] or left == right
