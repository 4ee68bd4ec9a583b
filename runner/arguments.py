"""Kinds of values on the command line."""

from __future__ import annotations

from typing import Any

import click


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A length of time: 90, 90s, 10m or 2h."""

    name = "90s|10m|2h"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give it in seconds."""
        text = str(value)
        unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
        try:
            return float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            self.fail(f"{text!r} is no duration; write 90s, 10m or 2h", param, ctx)
