"""The site that `make site` builds of docs/: complete, self-contained, and without barriers."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from support.browser import find_barriers, launch
from support.pages import PAGES, recipe_of

from .conftest import ROOT
from .test_readme import clone as clone
from .test_readme import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# The rules to check in each colour scheme, or all of them. The dark pages differ only in colours.
SCHEMES: dict[str, tuple[str, ...]] = {"light": (), "dark": ("color-contrast", "link-in-text-block")}


class Links(HTMLParser):
    """Everything that a page links to, and everything that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.linked: set[str] = set()
        self.loaded: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                (self.linked if tag == "a" else self.loaded).add(value)


def build(clone: Path) -> Path:
    """Build the site as `make site` does, and return the folder with its pages."""
    shutil.copytree(ROOT / "docs", clone / "docs")
    shutil.copy(ROOT / "zensical.toml", clone)
    (clone / "fake_server" / "fake_aihub").mkdir(parents=True)
    shutil.copy(ROOT / "fake_server" / "fake_aihub" / "behaviours.csv", clone / "fake_server" / "fake_aihub")
    run(recipe_of("site"), clone)
    return clone / "build" / "site" / "docs"


def test_site_is_complete_and_loads_nothing_from_elsewhere(clone: Path) -> None:
    site = build(clone)
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert {path.relative_to(site).with_suffix(".md").as_posix() for path in pages} >= {
        name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")
    }
    pages.pop(site / "404.html")  # its links are those of a site at the top of a host
    for path, text in pages.items():
        links = Links()
        links.feed(text)
        assert [url for url in links.loaded if urlsplit(url).netloc and urlsplit(url).scheme != "data"] == [], path
        for url in links.linked:
            parts = urlsplit(url)
            target = (path.parent / unquote(parts.path)).resolve()
            if not parts.scheme and parts.path:
                assert target.is_file() or target == site, f"{path.name}: {url}"


@pytest.mark.parametrize("every", [pytest.param(4, id="some"), pytest.param(1, id="all", marks=pytest.mark.torture)])
def test_no_page_of_the_site_has_barriers(clone: Path, chromium: str, every: int) -> None:
    site = build(clone)
    pages = sorted(path for path in site.rglob("*.html") if path.name != "404.html")  # its style is at a host's top
    with launch(chromium) as browser:
        for scheme, rules in SCHEMES.items():
            page = browser.new_context(color_scheme=scheme).new_page()
            for path in pages[::every]:
                page.goto(path.as_uri())
                assert find_barriers(page, *rules) == [], f"{path.name}, {scheme}"
