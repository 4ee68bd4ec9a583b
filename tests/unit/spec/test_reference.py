"""The generated documentation matches the code."""

import re
from pathlib import Path
from typing import get_args

from aihub_runner.cli.results import results
from aihub_runner.errors import EXIT_CODES, RunnerError
from aihub_runner.results.tables import CASES, DOCUMENTS, FIELDS
from aihub_runner.spec.model import TABLES, Format
from aihub_runner.spec.reference import render_columns, render_exit_codes, render_reference

ROOT = Path(__file__).parents[3]


def test_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/reference.md").read_text(encoding="utf-8") == render_reference(), "run `make docs`"


def test_results_are_documented_with_the_columns_of_every_table_in_order() -> None:
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    parts = text.split("\n### ")
    for title, columns in (("`fields`", FIELDS), ("`documents/<class>`", DOCUMENTS), ("`cases`", CASES)):
        [part] = [part for part in parts if part.startswith(title)]
        assert render_columns((one.name, one.kind, one.meaning) for one in columns) in part, title


def test_results_are_documented_with_every_option_and_format() -> None:
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    for option in results.params:
        if (
            option.name not in ("specs", "target", "given", "state", "fake", "no_color", "quiet")
            and "allow" not in option.name
        ):
            assert option.opts[0] in text, option.opts
    for format in get_args(Format):
        assert f"**{format}**" in text


def test_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 150


def test_exit_codes_are_the_same_in_the_errors_the_reference_and_the_readme() -> None:
    kinds = [RunnerError]
    for kind in kinds:
        assert kind.exit_code in EXIT_CODES
        kinds += kind.__subclasses__()
    assert render_exit_codes() in render_reference()
    assert render_exit_codes() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_reference_names_every_key_with_its_type() -> None:
    text = render_reference()
    for table in TABLES.values():
        for name, field in table.fields.items():
            if field.description:
                assert re.search(rf"^\| `{name}` \| [^|]+ \| [^|]* \| [^|]+ \|$", text, re.MULTILINE), name
