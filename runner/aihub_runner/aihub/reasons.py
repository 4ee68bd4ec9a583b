"""Explain why a request failed, or what the response was."""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from aihub_runner.aihub.schemas import render_error
from aihub_runner.errors import ServiceError
from aihub_runner.text.escape import clean_text

MAX_RETRY_AFTER_S = 3600.0  # upper limit: a gateway may ask for any wait
# OpenSSL's numbers for certificate errors, and names for handshake errors.
OTHER_NAME = (62, 64)
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")

_HINTS = {
    401: "check AIHUB_API_KEY, the context and the permissions of its account",
    403: "check the consumption units and permissions of the context",
    404: "check the context, and whether the account can see it",
}


def hint_for(status: int) -> str:
    """Return a hint for a refused request."""
    return _HINTS.get(status, "") or ("check AIHUB_API_ROOT" if 300 <= status < 400 else "")


def describe_answer(status: int, body: bytes) -> str:
    """Return what the response was, for an unexpected one."""
    if 300 <= status < 400:
        return f"redirect {status}, which is not followed"
    return f"status {status}, {render_error(body)}"


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the service asks us to wait, or None.

    A date counts from the response's own `Date`: the clock that set it may differ from ours by hours.
    """
    named = {name.lower(): value for name, value in headers.items()}
    text = named.get("retry-after", "")
    with suppress(ValueError):
        seconds = float(text)
        return min(MAX_RETRY_AFTER_S, max(0.0, seconds)) if math.isfinite(seconds) else None
    time_s = read_date(text)
    if time_s is None:
        return None
    now_s = read_date(named.get("date", ""))
    return min(MAX_RETRY_AFTER_S, max(0.0, time_s - (time.time() if now_s is None else now_s)))


def read_date(text: str) -> float | None:
    """Return an HTTP date as Unix seconds, or None for anything else."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except Exception:  # by version, the parser raises TypeError, IndexError, OverflowError and others
        return None


def unreachable(what: str, root: str, authorities: str, error: Exception) -> ServiceError:
    """Return the error for a request without a response. `authorities` is the CA bundle in use."""
    place = urlsplit(root).netloc
    if text := _describe_certificate(place, authorities, error):
        return ServiceError(f"{what}: {text[0]}", text[1])
    return ServiceError(
        f"{what}: {place} cannot be reached, {describe_failure(error)}",
        "check the network, AIHUB_API_ROOT and the proxy settings",
        transient=True,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all its causes, wherever the libraries keep them."""
    found, left = set[int](), [error]
    while left:
        cause = left.pop()
        if id(cause) in found:
            continue
        found.add(id(cause))
        yield cause
        inner = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
        left += [item for item in inner if isinstance(item, BaseException)]


def _describe_certificate(place: str, authorities: str, error: Exception) -> tuple[str, str] | None:
    """Return a message and a hint for a certificate error, or None for any other error."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            if cause.verify_code in OTHER_NAME:
                return (
                    f"the certificate of {place} is for another host name, {clean_text(cause.verify_message)}",
                    "check the host name in AIHUB_API_ROOT",
                )
            if cause.verify_code in UNKNOWN_AUTHORITY:
                return (
                    f"the certificate of {place} is signed by an authority that is not in {authorities}, "
                    f"{clean_text(cause.verify_message)}",
                    "set REQUESTS_CA_BUNDLE to a file with that authority's certificate",
                )
            return (
                f"the certificate of {place} is not valid, {clean_text(cause.verify_message)}; "
                f"it was checked against {authorities}",
                "check this machine's clock, then ask the service's operator",
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in NO_TLS and not _is_of_proxy(error):
            return (
                f"{place} speaks plain HTTP, but https was expected",
                "check scheme and port in AIHUB_API_ROOT",
            )
    return None


def _is_of_proxy(error: Exception) -> bool:
    return any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in _causes(error))


def describe_failure(error: Exception) -> str:
    """Return why a request failed, without the object addresses that the libraries print."""
    kinds = {
        requests.exceptions.ConnectTimeout: "connection timed out",
        requests.exceptions.ReadTimeout: "read timed out",
        requests.exceptions.ProxyError: "the proxy refused",
        requests.exceptions.SSLError: "the TLS handshake failed",
        requests.exceptions.ChunkedEncodingError: "the response ended early",
    }
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    detail = clean_text(getattr(cause, "strerror", None) or str(cause) or type(error).__name__)
    for kind, text in kinds.items():
        if isinstance(error, kind):
            return f"{text}, {detail}" if kind is requests.exceptions.ProxyError else text
    return detail
