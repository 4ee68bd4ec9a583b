"""Say in plain words why a request failed, or what was answered to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from runner.errors import ServiceError
from runner.wire import clean_text, render_error

MAX_RETRY_AFTER_S = 3600.0  # longer waits are cut to this: a gateway may ask for anything

_HINTS = {
    401: "check AIHUB_API_KEY, and the context and the permissions of its account",
    403: "check the consumption units and permissions of the context",
    404: "check the context, and that the account may see it",
}


def hint_for(status: int) -> str:
    """Say what to do about a refusal."""
    return _HINTS.get(status, "") or ("check AIHUB_API_ROOT" if 300 <= status < 400 else "")


def describe_answer(status: int, body: bytes) -> str:
    """Say what was answered in place of what was asked for."""
    if 300 <= status < 400:
        return f"answered with a redirect ({status}), which is not followed"
    return f"answered {status}, {render_error(body)}"


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long the service asks us to wait, in seconds; None where it does not say so."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    try:
        return min(MAX_RETRY_AFTER_S, max(0.0, float(text)))
    except ValueError:
        pass
    time_s = read_date(text)
    return None if time_s is None else min(MAX_RETRY_AFTER_S, max(0.0, time_s - time.time()))


def read_date(text: str) -> float | None:
    """Read a date of HTTP as Unix seconds; None where it is none, whatever it holds."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except Exception:  # the parser raises many kinds of errors, by version: TypeError, IndexError, OverflowError
        return None


def unreachable(what: str, root: str, error: requests.RequestException) -> ServiceError:
    """Make the error of a request that nobody answered."""
    return ServiceError(
        f"{what}: {urlsplit(root).netloc} cannot be reached, {describe_failure(error)}",
        "check the network, AIHUB_API_ROOT and the proxy settings",
        transient=True,
    )


def describe_failure(error: requests.RequestException) -> str:
    """Say why a request failed, without the object addresses that the libraries print."""
    kinds = {
        requests.exceptions.ConnectTimeout: "no connection in time",
        requests.exceptions.ReadTimeout: "no answer in time",
        requests.exceptions.ProxyError: "the proxy refused",
        requests.exceptions.SSLError: "the TLS handshake failed",
        requests.exceptions.ChunkedEncodingError: "the answer broke off",
    }
    for kind, text in kinds.items():
        if isinstance(error, kind):
            return text
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return clean_text(getattr(cause, "strerror", None) or str(cause) or type(error).__name__)
