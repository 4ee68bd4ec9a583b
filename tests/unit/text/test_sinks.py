"""Foreign text stays text, wherever it is written."""

from xml.etree import ElementTree

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
