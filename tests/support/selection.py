"""Which tests run: slow ones only in `make test-all`; those that this machine cannot run are named with a reason."""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from support import sampling

SHARED = Path(__file__).parents[3] / "shared"
# Absolute from the start, since tests change the folder.
OPENAPI = Path(os.environ.get("AIHUB_OPENAPI") or SHARED / "aihub-api" / "openapi.json").absolute()
DOCUMENTS = SHARED / "documents"
CHROMIUM = shutil.which("chromium")
TMUX = shutil.which("tmux")
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

# Each is required, not deselected, where the variable is set: `.ci/run` sets all.
NEEDS = {
    "needs_openapi": (OPENAPI.is_file(), "AIHUB_REQUIRE_SHARED", f"needs the API description {OPENAPI}"),
    "needs_documents": (DOCUMENTS.is_dir(), "AIHUB_REQUIRE_SHARED", f"needs the documents in {DOCUMENTS}"),
    "needs_sshd": (bool(SSHD), "AIHUB_REQUIRE_SSHD", "needs sshd, of openssh-server"),
    "needs_tmux": (bool(TMUX), "AIHUB_REQUIRE_TMUX", "needs tmux"),
    "needs_browser": (bool(CHROMIUM and find_spec("playwright")), "AIHUB_REQUIRE_BROWSER", "needs chromium"),
}
# Who uses such a fixture, by whatever way, has the mark.
FIXTURES = {
    "openapi": "needs_openapi",
    "documents": "needs_documents",
    "chromium": "needs_browser",
    "tmux": "needs_tmux",
    "sshd": "needs_sshd",
}
FAST, REST, ALL = "fast", "rest", "all"
SLOW = "slow, or not in the sample of its matrix: `make test-all` runs them"
NOT_SLOW = "fast: `make test` runs them"
BEYOND = "marked torture, or not in the larger sample of its matrix: `make torture` runs them"


def select(items: list[pytest.Item], cases: str) -> tuple[list[pytest.Item], dict[str, list[pytest.Item]]]:
    """Return the tests that run, and the others by reason."""
    for item in items:
        for name in FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(FIXTURES[name])
    kept: list[pytest.Item] = []
    left: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    fast, beyond = _fast(items), _beyond(items) if cases == REST else set()
    for item in items:
        reason = _missing(item)
        if not reason and cases == FAST and item not in fast:
            reason = SLOW
        elif not reason and cases == REST and item in fast:
            reason = NOT_SLOW
        elif not reason and item in beyond:
            reason = BEYOND
        (left[reason] if reason else kept).append(item)
    return kept, dict(left)


def summarize(left: dict[str, int]) -> list[str]:
    """Return a line for each reason."""
    return [f"{count} deselected: {reason}" for reason, count in sorted(left.items())]


def count(left: dict[str, list[pytest.Item]]) -> dict[str, int]:
    """Return how many tests were left out for each reason."""
    return dict(Counter({reason: len(items) for reason, items in left.items()}))


def _missing(item: pytest.Item) -> str:
    """Return why this machine cannot run a test; empty if it can, or must."""
    for name, (is_there, variable, reason) in NEEDS.items():
        if item.get_closest_marker(name) and not is_there and not os.environ.get(variable):
            return reason
    return ""


def _fast(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return what `make test` runs: all tests that are not marked slow, and a sample of each matrix."""
    quick = [item for item in items if not item.get_closest_marker("slow") and not item.get_closest_marker("torture")]
    matrices = _matrices(quick)
    fast = {item for item in quick if not _matrix_of(item)}
    for matrix in matrices:
        fast |= _sample(matrix, matrix[0][1].get("most", sampling.MOST))
    return fast


def _beyond(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return what only `make torture` runs, and who asks for all."""
    beyond = {item for item in items if item.get_closest_marker("torture")}
    for matrix in _matrices(items):
        if larger := matrix[0][1].get("gate"):
            beyond |= {item for item, _ in matrix} - _sample(matrix, larger)
    return beyond


Matrix = list[tuple[pytest.Item, dict[str, int]]]  # each case, with what the mark of its function says


def _matrices(items: Iterable[pytest.Item]) -> list[Matrix]:
    found: defaultdict[str, Matrix] = defaultdict(list)
    for item in items:
        if mark := _matrix_of(item):
            found[item.nodeid.partition("[")[0]].append((item, mark.kwargs))
    return list(found.values())


def _matrix_of(item: pytest.Item) -> pytest.Mark | None:
    return item.get_closest_marker("matrix") if hasattr(item, "callspec") else None


def _sample(matrix: Matrix, most: int) -> set[pytest.Item]:
    parameters = {item.nodeid: item.callspec.indices for item, _ in matrix}  # type: ignore[attr-defined]
    chosen = sampling.choose(parameters, most)
    return {item for item, _ in matrix if item.nodeid in chosen}
