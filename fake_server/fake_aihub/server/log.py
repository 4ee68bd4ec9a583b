"""A line for each request: text for people, JSON for programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

from fake_aihub.api.live import render_exchange
from fake_aihub.certify.cli import say
from fake_aihub.controls.journal import Exchange

Format = Literal["text", "json"]


def print_exchange(exchange: Exchange, form: Format) -> None:
    """Print a completed request to standard error."""
    row = render_exchange(exchange)
    say(json.dumps(_facts(exchange, row)) if form == "json" else _sentence(row), err=True)


def _facts(exchange: Exchange, row: dict[str, Any]) -> dict[str, Any]:
    sizes = {"request_bytes": exchange.request_bytes, "response_bytes": exchange.response_bytes}
    return {"at": _time_of(exchange.begun_s, "milliseconds"), **row, **sizes}


def _sentence(row: dict[str, Any]) -> str:
    status = row["status"] or "---"  # reset before a response
    notes = [*(f"fault: {fault}" for fault in row["faults"]), *["repeat"] * row["is_repeat"]]
    line = f"{_time_of(row['at_s'], 'seconds')[11:19]} {status} {row['method']} {row['path']}"
    line += f" {row['took_s'] * 1000:.0f} ms {row['client']}" + "".join(f" [{note}]" for note in notes)
    return "".join(char if char.isprintable() else "?" for char in line)


def _time_of(seconds: float, precision: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision)
