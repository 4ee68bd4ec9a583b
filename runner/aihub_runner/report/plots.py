"""Draw plots as SVG with pygal, an optional extra. Without it there are no plots.

The drawings have no colours, styles or scripts of their own. The page's style sheet styles them, so they follow its
colour scheme and its content security policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from aihub_runner.text.shown import escape_control_chars

MAX_BARS = 40
_SVG = "http://www.w3.org/2000/svg"
_LEFT_OUT = frozenset({"defs", "desc", "title", "tooltip", "text-overlay", "crosshair"})


def can_plot() -> bool:
    """Whether pygal is installed."""
    try:
        import pygal  # noqa: F401
    except ImportError:
        return False
    return True


def _draw(kind: str, title: str, series: Sequence[tuple[str, list[Any]]], labels: list[str], **options: Any) -> str:
    import pygal

    common = {"js": (), "css": (), "no_prefix": True, "show_legend": False, "strict": False}
    chart = getattr(pygal, kind)(**(common | options))
    chart.x_labels = [escape_control_chars(label) for label in labels]
    for name, values in series:
        chart.add(name, values)
    return _strip(ElementTree.fromstring(chart.render()), title)


def _strip(root: ElementTree.Element, title: str) -> str:
    """Remove styles, scripts, elements that only scripts use, and ids."""
    ElementTree.register_namespace("", _SVG)
    for parent in list(root.iter()):
        for child in list(parent):
            name, classes = child.tag.removeprefix(f"{{{_SVG}}}"), child.get("class", "").split()
            if name in _LEFT_OUT or not _LEFT_OUT.isdisjoint(classes):
                parent.remove(child)
        for name in ("style", "id"):
            parent.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", escape_control_chars(title))
    return ElementTree.tostring(root, encoding="unicode")


def draw_timeline(title: str, labels: Sequence[str], rows: Sequence[Sequence[float]], phases: Sequence[str]) -> str:
    """Draw a bar for each row: an empty part, then a part for each phase, all in the unit of the title."""
    labels, rows = list(reversed(labels[-MAX_BARS:])), list(reversed(rows[-MAX_BARS:]))
    series = [(name, [row[index] for row in rows]) for index, name in enumerate(["", *phases])]
    height = 60 + 24 * len(rows)
    options = {"width": 960, "height": height, "margin": 8, "spacing": 8, "show_x_guides": True, "print_zeroes": False}
    return _draw("HorizontalStackedBar", title, series, list(labels), **options)


def draw_histogram(title: str, bins: Sequence[int]) -> str:
    """Draw the number of confidences in each bin."""
    labels = [f"{index / len(bins):.1f}" for index in range(len(bins))]
    options = {"width": 280, "height": 130, "margin": 6, "spacing": 4, "max_scale": 4, "show_y_guides": True}
    return _draw("Bar", title, [(title, list(bins))], labels, **options, formatter=lambda value: f"{value:,.0f}")
