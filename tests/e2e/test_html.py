"""HTML pages: a value stays text, whatever it contains."""

from __future__ import annotations

from pathlib import Path

import pytest

import aihub_runner.report
from aihub_runner.report.html import render_page

from .conftest import Project

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


DAY_S = 86_400


def test_time_between_an_interrupted_apply_and_the_next_is_not_counted_as_upload(project: Project) -> None:
    project.write_files(4)
    project.fake.faults(operation="addFileToBatch", nth=3, times=0, do="status", status=401)
    assert project.apply().code == 4
    project.fake.faults.scripts.clear()
    project.fake.clock.advance(DAY_S)
    assert project.apply().code == 0
    told = project.run("report", "--json").json
    assert DAY_S - 1 < told["between_applies_s"] < DAY_S + 600
    assert max(told["phases_s"].values()) < 600
    page = (project.folder / "results" / "job" / "report.html").read_text(encoding="utf-8")
    assert "<dt>Between applies, all batches</dt><dd>24.0 h</dd>" in page
    assert '<rect class="pause"' in page
