"""Foreign text is shown such that nothing in it acts."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.text.escape import clean_text, escape_control_chars, show_bytes
from aihub_runner.text.shown import show_difference, show_value

JOINERS = "\u200b\u200c\u200d"


@given(st.text(st.characters(exclude_categories=[]), max_size=200))
def test_shown_text_has_nothing_that_acts(text: str) -> None:
    shown = escape_control_chars(text)
    shown.encode()
    assert not {unicodedata.bidirectional(char) for char in shown} & {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B", "S"),
    }
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}


def test_shown_text_keeps_scripts_and_emoji_as_they_are() -> None:
    for text in ("Ünïcödé £ 12,50", "می‌خواهم", "👩‍💻", "שלום", "日本"):
        assert escape_control_chars(text) == text


def test_shown_text_keeps_what_it_is_told_to() -> None:
    assert escape_control_chars("a\n\x1b", keep="\n") == "a\n\\x1b"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_json_on_a_terminal_stays_the_same_json_and_has_nothing_that_acts(text: str) -> None:
    shown = show_bytes(json.dumps(text, ensure_ascii=False).encode()).decode()
    assert json.loads(shown) == text
    assert escape_control_chars(shown) == shown


def test_reason_of_a_service_is_one_short_line_in_which_nothing_acts() -> None:
    assert clean_text(" no\x1b[31m\r\nroom\u202e \u2028left\ud800") == "no [31m room left"
    assert clean_text("x" * 1000) == "x" * 299 + "…"


def test_shown_value_is_short_whatever_it_was() -> None:
    assert show_value("x" * 1_000_000, 10) == "x" * 9 + "…"
    assert len(show_value("\u202e" * 1_000_000, 10)) == 10
    assert show_value(None, 10) == ""
    assert show_value({"a": [1, None, "\u202e"]}, 40) == '{"a": [1, null, "\\u202e"]}'


def shown_apart(before: str, after: str, limit: int) -> tuple[str, str]:
    left, right = show_difference(before, after, limit)
    assert left != right
    assert max(len(left), len(right)) <= limit
    return left, right


def test_difference_far_behind_is_shown_with_what_stands_before_it() -> None:
    left, right = shown_apart("x" * 1000 + " total 1.00 EUR", "x" * 1000 + " total 2.00 EUR", 40)
    assert left == "…" + "x" * 24 + " total 1.00 EUR"
    assert right == "…" + "x" * 24 + " total 2.00 EUR"
    left, right = shown_apart("y" * 500 + "a" + "z" * 500, "y" * 500 + "b" + "z" * 500, 30)
    assert left.startswith("…yyyyyyyyyya")
    assert right.startswith("…yyyyyyyyyyb")
    assert left.endswith("z…")


def test_texts_that_end_apart_are_shown_apart() -> None:
    assert shown_apart("a" * 100, "a" * 101, 20) == ("…" + "a" * 18, "…" + "a" * 19)
    assert shown_apart("", "a", 20) == ("", "a")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("12\u00a0EUR", "12 EUR", ("12\\u00a0EUR", "12␣EUR")),
        ("a  b", "a b", ("a␣␣b", "a␣b")),
        ("a ", "a", ("a␣", "a")),
        ("cafe\u0301", "caf\u00e9", ("cafe\\u0301", "caf\\u00e9")),
        ("a\u200bb", "ab", ("a\\u200bb", "ab")),
        ("\u0410B", "AB", ("\\u0410B", "AB")),
        ("\x1b", "\\x1b", ("\\u001b", "\\\\x1b")),
        ("Müller", "Möller", ("Müller", "Möller")),
    ],
)
def test_texts_that_look_alike_are_shown_apart(before: str, after: str, shown: tuple[str, str]) -> None:
    assert shown_apart(before, after, 60) == shown


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.integers(20, 60))
def test_texts_that_differ_are_shown_apart(begin: str, left: str, right: str, end: str, limit: int) -> None:
    if left != right:
        shown_apart(f"{begin}{left}{end}", f"{begin}{right}{end}", limit)
