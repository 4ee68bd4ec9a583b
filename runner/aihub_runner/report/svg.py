"""Lay out plots. The templates draw them as SVG, and the style sheet colours them, so they follow its colour scheme."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from msgspec import Struct

MAX_BARS = 40
TICKS = 5


class Drawing(Struct):
    """Lines as x1, y1, x2, y2; bars as class, x, y, width, height; texts as class, x, y, text."""

    title: str
    width: int
    height: int
    lines: list[tuple[float, float, float, float]] = []
    bars: list[tuple[str, float, float, float, float]] = []
    texts: list[tuple[str, float, float, str]] = []


def ticks(most: float) -> list[float]:
    """Return at most six round numbers from 0 to `most`."""
    if most <= 0:
        return [0]
    power = 10.0 ** floor(log10(most))
    step = next(power * part for part in (0.2, 0.5, 1, 2) if most <= power * part * TICKS)
    return [step * number for number in range(TICKS + 1) if step * number <= most]


def draw_timeline(title: str, labels: Sequence[str], rows: Sequence[Sequence[float]], kinds: Sequence[str]) -> Drawing:
    """Draw a bar for each row, in the unit of the title: an empty part, then a part of each kind."""
    drawing = Drawing(title, 960, 30 + 24 * len(rows))
    left, right, bottom = 80, 940, drawing.height - 22
    most = max((sum(row) for row in rows), default=0) or 1
    scale = (right - left) / most
    for tick in ticks(most):
        x = round(left + tick * scale, 1)
        drawing.lines.append((x, 4, x, bottom))
        drawing.texts.append(("middle", x, bottom + 16, f"{tick:,g}"))
    for index, (label, row) in enumerate(zip(labels, rows, strict=True)):
        y, x = 8 + 24 * index, left + row[0] * scale
        drawing.texts.append(("end", left - 8, y + 13, label))
        for kind, part in zip(kinds, row[1:], strict=True):
            if part > 0:
                drawing.bars.append((kind, round(x, 1), y, round(part * scale, 1), 16))
            x += part * scale
    return drawing


def draw_counts(title: str, rows: Sequence[tuple[str, int]]) -> Drawing:
    """Draw a bar for each name, with its count. There is room for about 40 characters of a name."""
    drawing = Drawing(title, 960, 12 + 24 * len(rows))
    left, right = 240, 880
    most = max((number for _, number in rows), default=0) or 1
    for index, (name, number) in enumerate(rows):
        y, width = 6 + 24 * index, round(number / most * (right - left), 1)
        drawing.texts.append(("end", left - 8, y + 13, name))
        drawing.bars.append(("bar", left, y, max(width, 1), 16))
        drawing.texts.append(("start", left + width + 6, y + 13, f"{number:,}"))
    return drawing


def draw_histogram(title: str, bins: Sequence[int]) -> Drawing:
    """Draw the number of confidences in each bin."""
    drawing = Drawing(title, 280, 130)
    left, top, right, bottom = 38, 8, 274, 112
    most = max(*bins, 1)
    for tick in (tick for tick in ticks(most) if tick == int(tick)):
        y = round(bottom - tick / most * (bottom - top), 1)
        drawing.lines.append((left, y, right, y))
        drawing.texts.append(("end", left - 4, y + 3, f"{tick:,.0f}"))
    step = (right - left) / len(bins)
    for index, number in enumerate(bins):
        x, height = round(left + index * step, 1), round(number / most * (bottom - top), 1)
        drawing.texts.append(("middle", round(x + step / 2, 1), bottom + 13, f"{index / len(bins):.1f}"))
        if number:
            drawing.bars.append(("bar", x + 2, round(bottom - height, 1), round(step - 4, 1), height))
    return drawing
