"""Literals keep their value in each language, and contain nothing that acts."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess

import pytest

from aihub_runner.codegen.literals import comment, json_literal, python_literal, shell_literal
from aihub_runner.text.escape import ACTS

TEXTS = (
    "",
    "plain.txt",
    "two\nlines",
    "::error::x",
    "`touch x`",
    "$(touch x) ${HOME} !!",
    "'@ \" \\ \\u0041 \\(1)",
    "-n",
    "\u2028\u2029\x1b[31m\x7f\u202e\U000e0041",
    "é \U0001f600 \ufeff",
    "{{ 1 }} {% x %}",
    "]]> <!-- </script>",
)


@pytest.mark.parametrize("text", TEXTS)
def test_python_and_json_literals_mean_the_text(text: str) -> None:
    for value in (text, {text: [text, 1.5, True, None]}):
        assert ast.literal_eval(python_literal(value)) == value
        assert json.loads(json_literal(value)) == value
        for literal in (python_literal(value), json_literal(value)):
            assert not ACTS.search(literal.replace("\n", ""))


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize("text", TEXTS)
def test_shell_literal_is_one_word_that_means_the_text(text: str) -> None:
    literal = shell_literal(text)
    assert not ACTS.search(literal.replace("\n", ""))
    shown = subprocess.run(["bash", "-c", f"printf '[%s]' {literal}"], capture_output=True, check=True)
    assert shown.stdout.decode() == f"[{text}]"


@pytest.mark.parametrize("text", TEXTS)
def test_comment_is_one_line(text: str) -> None:
    assert len(f"x{comment(text)}".splitlines()) == 1
