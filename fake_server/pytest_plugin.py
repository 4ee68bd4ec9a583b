"""The pytest plugin: the fixture `fake_aihub`, a fake AI Hub of its own for each test.

It is loaded into every pytest of an environment that has this package, so it imports the fake only when it is used.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fake_server.fixture import Fixture, Session

MARK = """\
fake_aihub(allow_unused_faults=False, run_seconds=0, page_files=100, part_size=10485760, clock="frozen", …): \
how the fake AI Hub of a test behaves; times in seconds, sizes in bytes"""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", MARK)


@pytest.fixture(scope="session")
def fake_aihub_session() -> Iterator[Session]:
    """Serve all fakes of this process at one address."""
    from fake_server.fixture import Session

    with Session() as session:
        yield session


@pytest.fixture
def fake_aihub(fake_aihub_session: Session, request: pytest.FixtureRequest) -> Iterator[Fixture]:
    """Give a fake AI Hub that this test alone sees, by its token. Faults that were never used fail the test."""
    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("fake_aihub"))):
        options |= mark.kwargs
    allow_unused_faults = options.pop("allow_unused_faults", False)
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60].strip("-")
    with fake_aihub_session.open(f"{name}-{secrets.token_hex(4)}", **options) as fake:
        yield fake
        unused = [] if allow_unused_faults else fake.faults.unused()
    if unused:
        pytest.fail(f"faults that were never used: {unused}", pytrace=False)
