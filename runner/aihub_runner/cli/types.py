"""Types of values on the command line."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

import click


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A duration: 90, 90s, 10m or 2h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the duration in seconds."""
        text = str(value)
        unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
        try:
            return float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            self.fail(f"invalid duration {text!r}; use a form such as 90s, 10m or 2h", param, ctx)


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A point in time: a date, a date and time (UTC unless it has a zone), or an age: 90s, 10m, 2h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the time in Unix seconds."""
        text = str(value)
        unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:], 0)
        try:
            if unit:
                return time.time() - float(text[:-1]) * unit
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"invalid time {text!r}; use a form such as 2026-01-31, 2026-01-31T12:00, 2h or 7d", param, ctx)


class Share(click.FloatRange):
    """A number from 0 to 1."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Refuses NaN, which `float` accepts."""
        share = float(super().convert(value, param, ctx))
        if math.isnan(share):
            self.fail(f"invalid number {value!r}; use a number from 0 to 1", param, ctx)
        return share
