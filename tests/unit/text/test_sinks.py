"""Foreign text stays text, wherever it is written."""

import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from aihub_runner.report.html import embed_json
from aihub_runner.text.escape import ACTS
from aihub_runner.text.sinks import escape_annotation, escape_markdown, escape_property, escape_xml

EVIL = "a\n::error::b\r`c` $(d) '@ e\u2028f %0A, g"


def test_annotation_of_github_stays_one_command() -> None:
    assert escape_annotation(EVIL) == "a%0A::error::b\\r`c` $(d) '@ e\\u2028f %250A, g"
    assert escape_property(EVIL) == "a%0A%3A%3Aerror%3A%3Ab\\r`c` $(d) '@ e\\u2028f %250A%2C g"


def test_markdown_shows_text_as_code_and_formats_nothing() -> None:
    assert escape_markdown(EVIL) == (
        "<code>a&#92;n&#58;&#58;error&#58;&#58;b&#92;r&#96;c&#96; &#36;(d) &#39;&#64; e&#92;u2028f &#37;0A, g</code>"
    )
    assert escape_markdown("_a_ | <b> #1 @me") == "<code>&#95;a&#95; &#124; &#60;b&#62; &#35;1 &#64;me</code>"


def test_xml_holds_any_text_as_text() -> None:
    evil = EVIL + '<b a="1">]]>&\x00\ufffe\ud800'
    found = ElementTree.fromstring(f'<a b="{escape_xml(evil)}">{escape_xml(evil)}</a>')
    assert found.text == found.get("b") == evil.encode("unicode_escape").decode()


HOSTILE = (
    "a\nb",
    "::error::x",
    "a`b`",
    "$(touch x)",
    "'@ ''",
    "a\u2028b",
    "]]>",
    "\x00\x1b[31m\x7f\x85",
    "\u202eb",
    "%0A::x::",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("escape", [escape_annotation, escape_property, escape_markdown, escape_xml])
def test_each_sink_keeps_hostile_text_on_one_line_without_control_characters(
    escape: Callable[[str], str], text: str
) -> None:
    shown = escape(text)
    assert len(shown.splitlines()) == 1
    assert not ACTS.search(shown)


@pytest.mark.parametrize("text", HOSTILE)
def test_each_sink_keeps_its_own_signs_from_acting(text: str) -> None:
    assert not re.search(r"%(?!25|0A)", escape_annotation(text))
    assert not re.search(r"[:,]", escape_property(text))
    assert not re.search(r"[`*_<>$@|\[\]]", escape_markdown(text).removeprefix("<code>").removesuffix("</code>"))
    assert not re.search(r"[<>\"]", escape_xml(text))
    page = embed_json(text)
    assert json.loads(page) == text
    assert not re.search(r"[<>&\u2028\u2029]", page)
