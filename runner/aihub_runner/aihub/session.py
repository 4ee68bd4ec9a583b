"""Connections to one root: authentication, proxies and certificates."""

from __future__ import annotations

import os
import queue
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies
from urllib3.connection import HTTPConnection
from urllib3.util import parse_url

from aihub_runner.aihub import quick
from aihub_runner.aihub.bodies import FileBytes
from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.response import Answer, FinalResponse, Watch
from aihub_runner.errors import InputError
from aihub_runner.model import Secret
from aihub_runner.spec.values import is_this_machine

FILE_TYPE = "application/octet-stream"
SEND_BYTES = 1 << 18  # chunk size of streamed bodies; the default of 16 KB is slow


class _Bearer(AuthBase):
    """Sets the token on each request. It is an auth object so that no netrc entry replaces the token."""

    def __init__(self, token: Secret, context: str) -> None:
        self._token, self._context = token, context

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token.reveal()}"
        if self._context:
            request.headers["IB-Context"] = self._context
        return request


def _find_authorities() -> str:
    """Return the CA bundle that the environment names. Raises InputError if it does not exist."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name, ""):
            if not os.path.exists(path):
                raise InputError(f"{name}: no such file, {path}", "set it to a file of certificates, or unset it")
            return path
    return ""


def name_authorities(session: requests.Session) -> str:
    """Return the CA bundle that a session checks certificates against."""
    return session.verify if isinstance(session.verify, str) else DEFAULT_CA_BUNDLE_PATH


class _Stack:
    """The connections of a pool that wait for a request: as `queue.LifoQueue`, for a third of its time.

    Nobody waits for one: a pool without any opens another.
    """

    def __init__(self, most: int) -> None:
        self._most, self._items = most, list[Any]()

    def get(self, block: bool = False, timeout: float | None = None) -> Any:
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, item: Any, block: bool = False) -> None:
        if len(self._items) >= self._most:
            raise queue.Full
        self._items.append(item)

    def qsize(self) -> int:
        return len(self._items)


class _Adapter(HTTPAdapter):
    """Sends requests over connections that read responses as `FinalResponse`, directly or through a proxy.

    A session has one root, so that the pool of connections is looked up, and its certificates are checked, only once.
    """

    pool: Any = None

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self.pool is None:
            self.pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self.pool

    def cert_verify(self, conn: Any, *args: Any, **kwargs: Any) -> None:
        if not getattr(conn, "is_verifying", False):
            super().cert_verify(conn, *args, **kwargs)  # type: ignore[no-untyped-call]
            conn.is_verifying = True

    def close(self) -> None:
        """Close all connections at once: `urllib3` leaves that to the end of its pools, and we hold ours."""
        super().close()
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _read_final_responses(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _read_final_responses(manager)
        return manager


def _read_final_responses(manager: Any) -> None:
    """Make a pool manager (perhaps for SOCKS, with its own connections) read final responses only."""
    pools: Mapping[str, Any] = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _with_final_responses(pool) for scheme, pool in pools.items()}


def _with_final_responses(pool: Any) -> Any:
    if issubclass(pool.ConnectionCls.response_class, FinalResponse):
        return pool
    connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": FinalResponse})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection, "QueueCls": _Stack})


class _Prepared(NamedTuple):
    """The headers of a PUT but for the length, as a mapping and as bytes, the root's path, and `session.auth`."""

    headers: Mapping[str, str]
    lines: bytes
    path: str
    auth: object


class Session(requests.Session):
    """Does not follow redirects, and never reads `Location`: an unreadable one must not look like a bug."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing, wherever the answer points to."""

    adapter: _Adapter
    _prepared: _Prepared | None = None

    def identify(self, connection: Connection) -> None:
        """Send the token and the context of a connection from now on."""
        self.auth = _Bearer(connection.token, connection.context)

    def _prepare(self, root: str) -> _Prepared:
        """Prepare the headers of a PUT once: that takes longer than to send it."""
        prepared, auth = self._prepared, self.auth
        if prepared is None or prepared.auth is not auth or self.cookies:
            put = requests.Request("PUT", root, {"Content-Type": FILE_TYPE}, data=b"", auth=auth)
            headers = self.prepare_request(put).headers
            del headers["Content-Length"]
            place = parse_url(root)
            lines = [f"Host: {place.netloc}", *(f"{name}: {value}" for name, value in headers.items())]
            prepared = _Prepared(headers, "\r\n".join(lines).encode("latin-1"), place.path or "", auth)
            self._prepared = prepared
        return prepared

    def put_over_new(self, root: str, path: str, body: Any, **how: Any) -> requests.Response:
        """PUT a body to a path under a root, both quoted, perhaps over a new connection or through a proxy."""
        request = requests.PreparedRequest()
        request.method, request.url = "PUT", root + path
        request.body = body.data if isinstance(body, FileBytes) else body
        request.headers = CaseInsensitiveDict(self._prepare(root).headers)
        request.headers["Content-Length"] = str(len(body))
        return self.get_adapter(root).send(
            request, stream=True, verify=self.verify or False, proxies=self.proxies, **how
        )

    def put_over_open(self, root: str, path: str, body: Any, watch: Watch) -> Answer | None:
        """PUT a body over an open connection; see `quick.put`. Return None, with nothing sent, if none is."""
        pool = self.adapter.pool
        if pool is None or (self.proxies and not root.startswith("https:")):  # a proxy wants the whole address
            return None
        prepared = self._prepare(root)
        target = (prepared.path + path).encode()
        head = b"PUT %b HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n" % (target, prepared.lines, len(body))
        return quick.put(pool, head, body, watch)


def open_session(connection: Connection, socket_options: Sequence[tuple[int, int, int]] = ()) -> Session:
    """Return a new session. The environment's proxies and CA bundle are read here, once."""
    session = Session()
    session.trust_env = False
    session.identify(connection)
    session.headers["User-Agent"] = "aihub-runner"
    session.headers["Cache-Control"] = "no-cache"  # a list that a proxy kept lacks what was paid since
    session.verify = _find_authorities() or True
    if not is_this_machine(urlsplit(connection.root).hostname or ""):
        session.proxies.update(get_environ_proxies(connection.root))
    adapter = _Adapter(pool_connections=1, pool_maxsize=connection.pool_size)
    options = [*HTTPConnection.default_socket_options, *socket_options]
    adapter.init_poolmanager(1, connection.pool_size, blocksize=SEND_BYTES, socket_options=options)
    session.adapter = adapter
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session
