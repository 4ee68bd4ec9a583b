"""The marks that say where each behaviour is known from."""

from __future__ import annotations

import subprocess
import sys

import fake_server.app  # noqa: F401  (imports all modules that mark)
from fake_server.evidence import RULES, SOURCES, Rule, count_sources, render_evidence
from fake_server.operations import BY_ID


def test_evidence_table_tells_each_behaviour_and_the_counts() -> None:
    rules = [
        Rule("spec", "answers the batch", "getBatch", 200, "batches.get_batch"),
        Rule("guess", "is ours", "", None, "x.y"),
    ]
    assert count_sources(rules) == {"spec": 1, "docs": 0, "sdk": 0, "guess": 1}
    assert "| getBatch | 200 | answers the batch | spec | `batches.get_batch` |" in render_evidence(rules)
    assert "| all |  | is ours | guess | `x.y` |" in render_evidence(rules)


def test_evidence_marks_name_operations_and_sources_that_exist() -> None:
    for one in RULES:
        assert one.operation == "" or one.operation in BY_ID, one
        assert one.source in SOURCES, one


def test_evidence_on_the_command_line_prints_the_same_table() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "fake_server.evidence"], capture_output=True, text=True, timeout=20, check=True
    )
    assert printed.stdout == render_evidence(RULES)
