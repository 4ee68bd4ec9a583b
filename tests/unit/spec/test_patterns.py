"""Patterns: what they match, compared with a second implementation, and where a walk may start."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcmatch import glob

from aihub_runner.spec.patterns import Globs, anchor_names, compile_globs, expand_pattern

NAMES = st.sampled_from(["a", "b", "ab", ".a", "a*", "a-1", "ä"])
PARTS = st.sampled_from(["a", "b", "*", "**", "?", "a*", "[ab]", "[!a]", ".a", ".*", "a\\*", "{a,b}", "{ab,.a}", "ä"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
FLAGS = glob.GLOBSTAR | glob.CASE | glob.FORCEUNIX | glob.BRACE


@given(PATTERNS, PATHS)
def test_globs_match_as_another_implementation_does(pattern: str, path: str) -> None:
    ours = Globs(expand_pattern(pattern)).matches(path)
    # `**` at the end is ours for all files below; there it is for the folder itself, too.
    theirs = glob.globmatch(path, f"{pattern}/*" if pattern.endswith("**") else pattern, flags=FLAGS)
    assert ours == theirs


@given(PATTERNS, PATHS)
def test_globs_leave_out_hidden_names_as_another_implementation_does(pattern: str, path: str) -> None:
    ours = Globs(expand_pattern(pattern), hidden=True).matches(path)
    written = f"{pattern}/*" if pattern.endswith("**") else pattern
    assert ours == glob.globmatch(path, written, flags=FLAGS | glob.DOTGLOB)


@given(st.text(max_size=20) | st.text(alphabet="ab[]{}!-*?/\\.,:^()|@", max_size=12), PATHS)
def test_any_text_is_a_pattern_or_is_refused(pattern: str, path: str) -> None:
    try:
        names = expand_pattern(pattern)
    except ValueError:
        return
    Globs(names).matches(path)
    assert all(anchor_names(anchor_names(one, "/w/x"), "/w/x") == anchor_names(one, "/w/x") for one in names)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.pdf", "A.PDF", True),
        ("*.PDF", "a.pdf", True),
        ("A.pdf", "a.pdf", False),
        ("*.tar.gz", "a.tar.GZ", True),
        ("*.tar.gz", "a.TAR.gz", False),
        ("*\\.pdf", "a.PDF", True),
        ("*.h++", "a.H++", True),
        ("*.[pP]df", "a.PDF", False),
        ("[a.txt", "[a.txt", True),
        ("*.{pdf,txt}", "b.Txt", True),
        ("in/**.pdf", "in/x/a.pdf", False),
        ("*", "a\n", True),
        ("a", "a\n", False),
        ("*.pdf", ".pdf", False),
        ("a/../b/*", "b/x", True),
        ("./a//b", "a/b", True),
        ("in/", "in/x/y.pdf", True),
        ("a\\{b,c\\}", "a{b,c}", True),
    ],
)
def test_globs_match_details(pattern: str, path: str, expected: bool) -> None:
    assert Globs(expand_pattern(pattern)).matches(path) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("../specs/in/*", ["in", "*"]),
        ("/w/specs/in/*.pdf", ["in", "*.pdf"]),
        ("/data/*", ["..", "..", "data", "*"]),
        ("../../x/*/y", ["..", "..", "x", "*", "y"]),
        ("/w/[[]x/*", ["..", "[[]x", "*"]),
        ("in/*", ["in", "*"]),
    ],
)
def test_one_place_is_written_in_one_way(pattern: str, expected: list[str]) -> None:
    assert [anchor_names(names, "/w/specs") for names in expand_pattern(pattern)] == [expected]


@pytest.mark.parametrize(
    ("patterns", "path", "left_out"),
    [
        (["!drafts"], "drafts/deep/a.pdf", True),
        (["!**/old/"], "x/old/y/a.pdf", True),
        (["!in/*"], "in/deep/a.pdf", False),
        (["!*.pdf"], ".hidden.pdf", True),
        (["!**/draft-*"], "../in/draft-1.txt", True),
        (["!*/x"], "../x", False),
    ],
)
def test_exclusions_leave_out_folders_and_hidden_files(patterns: list[str], path: str, left_out: bool) -> None:
    _, leave = compile_globs(patterns, "/w/specs")
    assert leave.matches(path) is left_out


def test_walk_begins_only_where_something_can_match() -> None:
    take, leave = compile_globs(["in/2026/*.pdf", "../x/**/y", "grün/*", "!in/2026/**"], "/w/specs")
    assert take.prefixes == [(), ("..", "x"), ("in", "2026")]
    state = take.enter(take.start(), "in")
    assert not take.enter(state, "2025")
    assert leave.takes_all(leave.enter(leave.enter(leave.start(), "in"), "2026"))


def test_links_are_entered_only_by_name() -> None:
    take = Globs([*expand_pattern("link/x"), *expand_pattern("*/a"), *expand_pattern("**/b")])
    entered = take.enter(take.start(), "link", linked=True)
    assert [take.takes(entered, name) for name in ("x", "a", "b")] == [True, False, False]
    assert not take.enter(take.start(), "other", linked=True)
