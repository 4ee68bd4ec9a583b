"""The pictures of the documentation: shown somewhere, small, of a real run, and without anything of a machine."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from pictures.take import take_all

from .conftest import ROOT

FOLDER = ROOT / "docs" / "pictures"
PICTURES = sorted(FOLDER.iterdir())
MOST_BYTES = 300 * 1024
PLACES = re.compile(r"/(home|root|tmp|work|Users|usr|dev)/|127\.0\.0\.1|localhost")


def chunks_of(picture: bytes) -> set[str]:
    """The kinds of chunks of a PNG: some hold text."""
    kinds, at = set(), 8
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        kinds.add(picture[at + 4 : at + 8].decode("ascii"))
        at += 12 + length
    return kinds


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_picture_is_small_and_says_nothing_of_a_machine(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) <= MOST_BYTES
    if path.suffix == ".png":
        assert chunks_of(data) <= {"IHDR", "sRGB", "pHYs", "PLTE", "IDAT", "IEND"}
    else:
        text = data.decode("utf-8")
        assert not PLACES.search(text)
        assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_picture_is_shown_by_a_page_with_a_description(path: Path) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(re.search(rf"!\[[^\]]{{10,}}\]\([^)]*{re.escape(path.name)}\)", page.read_text()) for page in pages)


@pytest.mark.slow
def test_pictures_can_be_taken_again(chromium: str, tmux: str, tmp_path: Path) -> None:
    take_all(tmp_path, chromium)
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in PICTURES]
    session = (tmp_path / "session.svg").read_text(encoding="utf-8")
    for part in ("plan", "COMPLETE", "nothing"):
        assert part in session
    for path in tmp_path.iterdir():
        test_picture_is_small_and_says_nothing_of_a_machine(path)
