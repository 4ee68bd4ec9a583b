"""Foreign text stays text, wherever it is written to."""

from aihub_runner.text.sinks import escape_annotation, escape_property

EVIL = "a\n::error::b\r`c` $(d) '@ e\u2028f %0A, g"


def test_annotation_of_github_stays_one_command() -> None:
    assert escape_annotation(EVIL) == "a%0A::error::b\\r`c` $(d) '@ e\\u2028f %250A, g"
    assert escape_property(EVIL) == "a%0A%3A%3Aerror%3A%3Ab\\r`c` $(d) '@ e\\u2028f %250A%2C g"
