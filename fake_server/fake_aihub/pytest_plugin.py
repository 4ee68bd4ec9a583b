"""The pytest plugin: the fixture `fake_aihub`, a separate fake AI Hub for each test, module or session.

pytest loads the plugin in every environment that has this package, so it imports the fake only on first use.
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
configure the fake AI Hub of a test; times in seconds, sizes in bytes"""


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line("markers", MARK)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that has an invalid mark, even if the test does not use the fake."""
    _read_marks(item)


@pytest.fixture(scope="session")
def _fake_aihub_server() -> Iterator[Session]:
    """Serve all fakes of this process at one address."""
    from fake_aihub.server.testing import Session

    with Session() as session:
        yield session


@pytest.fixture
def fake_aihub(_fake_aihub_server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Return a fake AI Hub that only this test can access, by its token. Unused faults fail the test."""
    yield from _open(_fake_aihub_server, request)


@pytest.fixture(scope="module")
def fake_aihub_module(_fake_aihub_server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Return a fake AI Hub that the tests of this module share. Configure it in `pytestmark`."""
    yield from _open(_fake_aihub_server, request)


@pytest.fixture(scope="session")
def fake_aihub_session(_fake_aihub_server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Return a fake AI Hub that all tests of this process share. Marks do not apply to it."""
    yield from _open(_fake_aihub_server, request)


def _open(server: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    options = _read_marks(request.node)
    allow_unused_faults = options.pop("allow_unused_faults", False)
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[-60:].strip("-") or "session"
    with server.open(f"{name}-{secrets.token_hex(4)}", **options) as fake:
        yield fake
        unused = [] if allow_unused_faults else fake.unused()
    if unused:
        pytest.fail(f"unused faults: {unused}", pytrace=False)


def _read_marks(node: Any) -> dict[str, Any]:
    """Return the options from all marks of a node; the nearest mark wins. Fail the test on an invalid option."""
    options: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers("fake_aihub"))):
        if mark.args:
            pytest.fail(f"mark fake_aihub: expected keyword arguments, got {mark.args[0]!r}", pytrace=False)
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
