"""Settings for all tests: which ones run, the same generated examples each time, and no deadlines by the clock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support import selection

settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

LEFT = pytest.StashKey[dict[str, int]]()
WORKERS_PER_CORE = 2  # a test mostly waits for the service or for a process of its own
MEMORY = Path("/dev/shm")  # on a disk, each commit waits, and costs half as much time again
ROOM_BYTES = 1 << 30


def pytest_configure() -> None:
    """Keep the folders of tests in memory, if it has space and allows programs to run."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        system = os.statvfs(MEMORY)
        if system.f_bavail * system.f_frsize >= ROOM_BYTES and not system.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option `--cases`."""
    choices = (selection.ALL, selection.FAST, selection.REST)
    parser.addoption("--cases", choices=choices, default=selection.ALL, help="all tests, the fast ones, or the rest")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that `--cases` leaves out, and those that this machine cannot run."""
    items[:], left = selection.select(items, config.getoption("--cases"))
    config.stash[LEFT] = selection.count(left)
    config.hook.pytest_deselected(items=[item for some in left.values() for item in some])


@pytest.fixture(scope="session")
def openapi() -> Path:
    """Return the path of the API description; tests that use this are marked `needs_openapi`."""
    assert selection.OPENAPI.is_file(), f"{selection.OPENAPI} is missing"
    return selection.OPENAPI


@pytest.fixture(scope="session")
def documents() -> Path:
    """Return the folder of the real documents; tests that use this are marked `needs_documents`."""
    assert selection.DOCUMENTS.is_dir(), f"{selection.DOCUMENTS} is missing"
    return selection.DOCUMENTS


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the path of the browser; tests that use this are marked `needs_browser`."""
    assert selection.CHROMIUM, "chromium is missing"
    return selection.CHROMIUM


@pytest.fixture(scope="session")
def tmux() -> str:
    """Return the path of tmux; tests that use this are marked `needs_tmux`."""
    assert selection.TMUX, "tmux is missing"
    return selection.TMUX


@pytest.fixture(scope="session")
def sshd() -> str:
    """Return the path of sshd; tests that use this are marked `needs_sshd`."""
    assert selection.SSHD, "sshd is missing"
    return selection.SSHD


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report to the main process of xdist what was left out: only its workers collect tests."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left"] = session.config.stash.get(LEFT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Receive from a worker what was left out. All workers leave out the same."""
    node.config.stash[LEFT] = getattr(node, "workeroutput", {}).get("left", {})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` starts."""
    return WORKERS_PER_CORE * (os.cpu_count() or 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was left out and why."""
    for line in selection.summarize(config.stash.get(LEFT, {})):
        terminalreporter.write_line(line)
