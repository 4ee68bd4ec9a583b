"""The objects behind the pytest plugin: one server for all tests of a process, with a namespace for each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_aihub.api.app import create_app
from fake_aihub.api.service import Service, make_service
from fake_aihub.server.embedded import Background
from fake_aihub.server.handle import Handle
from fake_aihub.server.namespaces import Namespaces


class Fixture(Handle):
    """The fake of one test. `url` is the API root; `service_token` belongs to a service account in the same world."""

    def __init__(self, service: Service, url: str, name: str) -> None:
        super().__init__(service)
        self.url = url
        self.token = f"fake-{name}"
        self.service_token = f"fake-service-{name}"

    @property
    def headers(self) -> dict[str, str]:
        """The authorization header for requests that you send without a client library."""
        return {"Authorization": f"Bearer {self.token}"}


class Session(Background):
    """All fakes of a process, behind one server."""

    def __init__(self) -> None:
        self._namespaces = Namespaces()
        super().__init__(self._namespaces)

    @contextmanager
    def open(self, name: str, **options: Any) -> Iterator[Fixture]:
        """Open a namespace as a context manager. Accepts the options that `check_options` allows for a test."""
        service = make_service(**options)
        fixture = Fixture(service, self.root, name)
        tokens = (fixture.token, fixture.service_token)
        self._namespaces.add(create_app(service), *tokens)
        try:
            yield fixture
        finally:
            self._namespaces.remove(*tokens)
