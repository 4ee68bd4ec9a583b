"""What commands print, compared with files that are kept: tests/data/golden. AIHUB_RENEW_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "data" / "golden"
RENEW = "AIHUB_RENEW_GOLDEN"
RENEWS = bool(os.environ.get(RENEW))  # read early: tests remove all variables of ours
# What differs each time, and what is written in its place. Ids of runs are numbered in the order of their appearance.
RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
REPLACED = (
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{16}\b", "KEY"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00| UTC)", "TIME"),
    (r"files +age$", "files  age"),  # the last column of a table is as wide as the ages are
    (r" +\d+ (s|min)$", "  0 s"),
    (r" in \d+\.\d s$", ""),
    (r"\d+\.\d GB free", "FREE free"),
    (r'("\w*(?:seconds|_s|_ms|_ns)": )[\d.]+', r"\g<1>0"),
)


def normalise(text: str, folder: Path, root: str) -> str:
    """Replace what differs each time by a word."""
    text = text.replace(str(folder), "FOLDER").replace(root, "ROOT").replace(root.replace(":", "&#58;"), "ROOT")
    runs: dict[str, str] = {}
    text = RUN.sub(lambda found: runs.setdefault(found[0], f"00000000-0000-0000-0000-{len(runs) + 1:012}"), text)
    for pattern, word in REPLACED:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text


def check(name: str, shown: str) -> None:
    """Compare with the golden file of that name, or write it."""
    path = FOLDER / f"{name}.txt"
    if RENEWS:
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8"), (
        f"{path.name} differs; if it should, set {RENEW}=1 and read the diff"
    )
