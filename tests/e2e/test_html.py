"""HTML pages: a value stays text, whatever it contains."""

from __future__ import annotations

from pathlib import Path

import pytest

import aihub_runner.report
from aihub_runner.report.html import render_page

TEMPLATES = sorted(Path(aihub_runner.report.__path__[0]).glob("*.html"))
HOSTILE = "</title></script><script>\x1b\u202e\ud800\"'{{7*7}}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_turns_escaping_off(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not any(word in text for word in ("safe", "autoescape", "Markup"))


def test_hostile_values_are_escaped_in_template_and_data() -> None:
    values = {
        "title": HOSTILE,
        "counts": {HOSTILE: 1},
        "notes": [HOSTILE],
        "columns": [HOSTILE, "Before"],
        "fields": [[HOSTILE, 1000]],
        "fields_left_out": 1,
        "changes": 1,
        "changes_left_out": 1,
    }
    page = b"".join(render_page("diff.html", {HOSTILE: HOSTILE}, values)).decode()
    assert page.count("</script>") == page.count("<script") == 2
    page, _ = page.split('<script type="application/json"')
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count(r"&lt;/title&gt;&lt;/script&gt;&lt;script&gt;\x1b\u202e\ud800&#34;&#39;{{7*7}}") == 7
    assert "1,000</td>" in page
