"""A fake AI Hub per test, whose every exchange is checked against the API description where that is at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from contract import violations
from fake_server import FakeAIHub

OPENAPI = Path(
    os.environ.get("AIHUB_OPENAPI") or Path(__file__).parents[3] / "shared" / "aihub-api" / "openapi.json"
).absolute()


@pytest.fixture
def fake() -> Iterator[FakeAIHub]:
    with FakeAIHub(part_size=1000, page_files=10) as server:
        yield server
        if OPENAPI.exists():
            assert [text for text in violations(server.journal, OPENAPI) if "no such operation" not in text] == []
        else:
            assert not os.environ.get("AIHUB_REQUIRE_SHARED"), f"{OPENAPI} is missing"


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = "Bearer fake-test"
        yield session
