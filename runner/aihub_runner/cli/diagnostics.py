"""Mistakes as values for programs: JSON, and annotations of GitHub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aihub_runner.errors import RunnerError, SpecMistake
from aihub_runner.text.sinks import escape_annotation, escape_property


def list_diagnostics(path: Path, error: RunnerError) -> list[dict[str, Any]]:
    """Return a JSON object for each mistake. Lines and columns count from 1, in characters; `end` is behind it."""
    return [_describe(path, mistake) for mistake in error.mistakes]


def _describe(path: Path, mistake: RunnerError) -> dict[str, Any]:
    at = mistake.at if isinstance(mistake, SpecMistake) else None
    place = {"start": (at.line, at.column), "end": (at.line, at.end)} if at else None
    return {
        "file": str(path),
        "range": place and {name: dict(zip(("line", "column"), where, strict=True)) for name, where in place.items()},
        "code": mistake.code if isinstance(mistake, SpecMistake) else "file",
        "message": mistake.what if isinstance(mistake, SpecMistake) else mistake.message,
        "hint": mistake.hint,
    }


def render_annotations(found: Sequence[dict[str, Any]]) -> str:
    """Render diagnostics as commands of GitHub, a line each."""
    return "\n".join(map(_annotate, found))


def _annotate(one: dict[str, Any]) -> str:
    properties = {"file": one["file"], "title": f"{one['code']} in a spec"}
    if one["range"]:
        start, end = one["range"]["start"], one["range"]["end"]
        properties |= {"line": start["line"], "col": start["column"], "endColumn": end["column"]}
    given = ",".join(f"{name}={escape_property(str(value))}" for name, value in properties.items())
    text = f"{one['message']}\n{one['hint']}" if one["hint"] else one["message"]
    return f"::error {given}::{escape_annotation(text)}"
