"""A real browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def launch(chromium: str, *more: str) -> Iterator[Any]:
    """Start the browser at this path, with more arguments."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=[*ARGUMENTS, *more])
        yield browser
        browser.close()


def find_barriers(page: Any, *rules: str) -> list[str]:
    """Return what axe-core finds on a page that keeps people out: the rule, and the first place that breaks it.

    `rules` are those of interest, if not all are.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": list(rules)} if rules else None
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]
