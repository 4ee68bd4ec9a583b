"""Text from outside is shown so that nothing in it acts."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from runner.shown import make_visible, show_value

JOINERS = "\u200b\u200c\u200d"


@given(st.text(st.characters(exclude_categories=[]), max_size=200))
def test_shown_text_has_nothing_that_acts(text: str) -> None:
    shown = make_visible(text)
    shown.encode()
    assert not {unicodedata.bidirectional(char) for char in shown} & {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B", "S"),
    }
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}


def test_shown_text_keeps_scripts_and_emoji_as_they_are() -> None:
    for text in ("Ünïcödé £ 12,50", "می‌خواهم", "👩‍💻", "שלום", "日本"):
        assert make_visible(text) == text


def test_shown_text_keeps_what_it_is_told_to() -> None:
    assert make_visible("a\n\x1b", keep="\n") == "a\n\\x1b"


def test_shown_value_is_short_whatever_it_was() -> None:
    assert show_value("x" * 1_000_000, 10) == "x" * 9 + "…"
    assert len(show_value("\u202e" * 1_000_000, 10)) == 10
    assert show_value(None, 10) == ""
    assert show_value({"a": [1, None, "\u202e"]}, 40) == '{"a": [1, null, "\\u202e"]}'
