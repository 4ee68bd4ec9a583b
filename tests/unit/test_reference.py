"""The generated documentation is what the code says."""

from pathlib import Path

from runner.errors import InputError, Interrupted, RunnerError, ServiceError, StateError, UnknownOutcome
from runner.reference import render_reference

ROOT = Path(__file__).parents[2]


def test_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/reference.md").read_text(encoding="utf-8") == render_reference(), "run `make docs`"


def test_readme_is_short_and_lists_every_exit_code() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    for error in (RunnerError, InputError, ServiceError, StateError, UnknownOutcome, Interrupted):
        assert f"| {error.exit_code} |" in text
