"""Notify your URL that an apply has ended."""

from __future__ import annotations

import threading
from contextlib import closing
from urllib.parse import urlsplit

from aihub_runner.aihub.connection import Connection
from aihub_runner.aihub.response import Watch, watching
from aihub_runner.aihub.session import open_session
from aihub_runner.aihub.transport import GRACE_S, TRANSIENT
from aihub_runner.spec.values import is_this_machine

ATTEMPTS = 3


def notify(to: Connection, document: bytes, stop: threading.Event) -> str:
    """POST a document to the root of a connection. Return why it was not delivered; empty if it was.

    It is repeated where that may help, so it may arrive twice. No redirect is followed. What is returned shows nothing
    of the URL, which may be a secret.
    """
    why = ""
    for attempt in range(ATTEMPTS):
        if attempt and stop.wait(to.retry_wait_s * 2 ** (attempt - 1)):
            break
        try:
            if not _is_private(to.root):
                return "not an https URL"
            status = _post(to, document, stop)
        except Exception as error:  # whatever it is, the apply is done; its text may show the URL
            why = type(error).__name__
            continue
        why = "" if 200 <= status < 300 else f"HTTP {status}"
        if status not in TRANSIENT:
            break
    return why


def _is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent to a URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or (parts.scheme == "http" and is_this_machine(host))


def _post(to: Connection, document: bytes, stop: threading.Event) -> int:
    """POST once, and return the status of the response. Its body is not read."""
    with closing(open_session(to)) as session, watching(Watch(stop, GRACE_S)):
        if not to.token.reveal():
            session.auth = None
        session.headers["Content-Type"] = "application/json"
        timeout = (to.connect_timeout_s, to.read_timeout_s)
        with session.post(to.root, document, allow_redirects=False, stream=True, timeout=timeout) as response:
            return response.status_code
