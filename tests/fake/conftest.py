"""A fake AI Hub per test. Every exchange is checked against the API description, if it is available."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from fake_aihub import FakeAIHub
from support.contract import check_journal


@pytest.fixture
def fake() -> Iterator[FakeAIHub]:
    with FakeAIHub(part_size=1000, page_files=10) as server:
        yield server
        check_journal([entry for entry in server.journal if entry["operation"]])


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = "Bearer fake-test"
        yield session
