"""The pytest plugin: the fixture `fake_aihub`, a fake AI Hub of its own for each test, module or session.

It is loaded into every pytest of an environment that has this package, so it imports the fake only when it is used.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fake_aihub.server.testing import Fixture, Session

MARK = """\
fake_aihub(allow_unused_faults=False, run_seconds=0, page_files=100, part_size=10485760, clock="frozen", …): \
how the fake AI Hub of a test behaves; times in seconds, sizes in bytes"""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", MARK)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a mark that says what cannot be, whether its test asks for the fake or not."""
    _read_marks(item)


@pytest.fixture(scope="session")
def _fake_aihub_server() -> Iterator[Session]:
    """Serve all fakes of this process at one address."""
    from fake_aihub.server.testing import Session

    with Session() as session:
        yield session


@pytest.fixture
def fake_aihub(_fake_aihub_server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Return a fake AI Hub that this test alone sees, by its token. Faults that were never used fail the test."""
    yield from _open(_fake_aihub_server, request)


@pytest.fixture(scope="module")
def fake_aihub_module(_fake_aihub_server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Return a fake AI Hub that the tests of this module share; its `pytestmark` says how it behaves."""
    yield from _open(_fake_aihub_server, request)


@pytest.fixture(scope="session")
def fake_aihub_session(_fake_aihub_server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Return a fake AI Hub that all tests of this process share; no mark is for it."""
    yield from _open(_fake_aihub_server, request)


def _open(server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    options = _read_marks(request.node)
    allow_unused_faults = options.pop("allow_unused_faults", False)
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[-60:].strip("-") or "session"
    with server.open(f"{name}-{secrets.token_hex(4)}", **options) as fake:
        yield fake
        unused = [] if allow_unused_faults else fake.unused()
    if unused:
        pytest.fail(f"faults that were never used: {unused}", pytrace=False)


def _read_marks(node: Any) -> dict[str, Any]:
    """Read what all marks of a node say, the nearest first. Fails the test where one says what cannot be."""
    options: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers("fake_aihub"))):
        if mark.args:
            pytest.fail(f"mark fake_aihub: takes options by name, not {mark.args[0]!r}", pytrace=False)
        options |= mark.kwargs
    if options:
        from fake_aihub.controls.options import OF_A_TEST, OptionError, check_options

        problem = None
        try:
            check_options(options, OF_A_TEST)
        except OptionError as error:
            problem = error
        if problem:
            pytest.fail(f"mark fake_aihub: {problem}", pytrace=False)
    return options
