"""A client whose requests are answered by a respx router instead of a server."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import httpx
import pytest
import requests
import respx
from requests.adapters import BaseAdapter

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.session import Session, open_session
from aihub_runner.model import Secret

ROOT = "https://hub.example/api"
CONNECTION = Connection(ROOT, Secret("t0ken"), "acme", retry_wait_s=0.0)


class RouterAdapter(BaseAdapter):
    """Answers requests with a respx router, which mocks httpx."""

    def __init__(self, router: respx.MockRouter) -> None:
        super().__init__()
        self.router = router

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):  # type: ignore[no-untyped-def]
        """Return the router's response. Errors of httpx become those of requests."""
        body = request.body.read() if hasattr(request.body, "read") else request.body
        body = bytes(body) if isinstance(body, memoryview) else body
        asked = httpx.Request(request.method, request.url, headers=dict(request.headers), content=body)
        try:
            answered = self.router.handler(asked)
        except httpx.ConnectError as error:
            if hasattr(request.body, "was_read"):
                request.body.was_read = False  # a real connection would have failed before the body was asked for
            raise requests.ConnectionError(error) from error
        except httpx.ReadTimeout as error:
            raise requests.ReadTimeout(error) from error
        response = requests.Response()
        response.status_code = answered.status_code
        response.headers.update({k: v for k, v in answered.headers.items() if k != "content-encoding"})
        response.raw = io.BytesIO(answered.read())
        response.url, response.request = request.url, request
        return response

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    with respx.MockRouter(using=None, base_url=ROOT, assert_all_called=False) as mocked:
        yield mocked


@pytest.fixture
def hub(router: respx.MockRouter) -> Iterator[AIHub]:
    def mocked(connection: Connection) -> Session:
        session = open_session(connection)
        session.mount("https://", RouterAdapter(router))
        return session

    client = AIHub(CONNECTION, threading.Event(), mocked)
    yield client
    client.close()
