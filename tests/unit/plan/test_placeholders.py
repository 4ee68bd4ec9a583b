"""Files whose names in a deleted batch are not known keep their order, by which results name them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from aihub_runner.model import Member, Source
from aihub_runner.plan.identity import short_identity
from aihub_runner.plan.placeholders import have_placeholders, is_placeholder, mark_of, name_members, placeholder

Z, A = Source("in/z.txt", 1, "sha256:z"), Source("in/a.txt", 1, "sha256:a", "AIHUB_SECRET_PDF")
STALE = "0123456789abcdef"
# By the names that they had: the file that is now z.txt came first.
MEMBERS = (
    Z.as_member(placeholder(0, short_identity(Z.identity))),
    Member(placeholder(1, STALE), "", 0, STALE, is_stale=True),
    A.as_member(placeholder(2, short_identity(A.identity))),
)


def test_names_are_given_in_the_order_of_the_placeholders() -> None:
    named = name_members([MEMBERS[2], MEMBERS[0], MEMBERS[1]], ["c.txt", "a.txt", "b.txt"])
    assert [(one.name, one.path) for one in named] == [("a.txt", "in/z.txt"), ("b.txt", ""), ("c.txt", "in/a.txt")]
    assert [mark_of(one) for one in named] == [mark_of(one) for one in MEMBERS]


@pytest.mark.parametrize("names", [[], ["a.txt", "b.txt"], ["a.txt", "b.txt", "c.txt", "d.txt"]])
def test_names_of_more_or_fewer_files_are_not_theirs(names: list[str]) -> None:
    assert name_members(MEMBERS, names) == ()


@pytest.mark.parametrize("at", range(3))
def test_files_that_have_names_keep_them(at: int) -> None:
    members = [replace(one, name=f"{one.name}.txt") if number == at else one for number, one in enumerate(MEMBERS)]
    assert not have_placeholders(members)
    assert not is_placeholder(members[at])
    assert name_members(members, ["a.txt", "b.txt", "c.txt"]) == ()


def test_placeholders_of_other_files_are_names() -> None:
    assert have_placeholders(MEMBERS)
    assert not have_placeholders([])
    assert not have_placeholders(MEMBERS[1:])
    assert not have_placeholders([replace(MEMBERS[0], digest="sha256:other"), *MEMBERS[1:]])
