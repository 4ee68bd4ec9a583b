"""Sum up what one apply of several specs did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aihub_runner.text.escape import escape_control_chars
from aihub_runner.text.shown import count, render_size

_SUMMED = ("files", "files_done", "files_sent", "bytes_sent", "runs_started", "documents")


def sum_up(answers: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the numbers of all specs together. Those of a spec that could not be applied are not known."""
    return {"specs": len(answers)} | {name: sum(answer.get(name, 0) for answer in answers) for name in _SUMMED}


def render_total(answers: Sequence[Mapping[str, Any]], left: Sequence[str] = ()) -> str:
    """Render the numbers, and a line for each spec with its exit code. `left` are specs that were not begun."""
    total = sum_up(answers)
    sent = f"{total['files_sent']} sent ({render_size(total['bytes_sent'])})"
    lines = [
        f"{count(total['specs'] + len(left), 'spec')}: {count(total['files'], 'file')}, {total['files_done']} done "
        f"or in progress; {sent}, {count(total['runs_started'], 'run')} started now"
    ]
    for answer in answers:
        errors = [error["message"].removeprefix(f"{answer['spec']}: ") for error in answer.get("error", ())]
        why = f": {errors[0]}" if errors else ""
        lines.append(f"  {'exit':<4} {answer['exit_code']:<5} {answer['spec']}{why}")
    lines += [f"  {'not begun':<10} {spec}" for spec in left]
    return escape_control_chars("\n".join(lines), keep="\n")
