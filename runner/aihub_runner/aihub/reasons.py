"""Say in plain words why a request failed, or what was answered to it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests
import urllib3

from aihub_runner.aihub.schemas import clean_text, render_error
from aihub_runner.errors import ServiceError

MAX_RETRY_AFTER_S = 3600.0  # longer waits are cut to this: a gateway may ask for anything
# Of OpenSSL: numbers of what is wrong with a certificate, and names of what is wrong with a handshake.
OTHER_NAME = (62, 64)
UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")

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


def unreachable(what: str, root: str, authorities: str, error: Exception) -> ServiceError:
    """Make the error of a request that nobody answered; `authorities` is the file that certificates are checked by."""
    place = urlsplit(root).netloc
    if text := _describe_certificate(place, authorities, error):
        return ServiceError(f"{what}: {text[0]}", text[1])
    return ServiceError(
        f"{what}: {place} cannot be reached, {describe_failure(error)}",
        "check the network, AIHUB_API_ROOT and the proxy settings",
        transient=True,
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """List an error and all that it was made of, in whatever place the libraries keep it."""
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
    """Say what is wrong with a certificate, or where there is none; and what to do about it."""
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
                    "name a file that holds that authority's certificate in REQUESTS_CA_BUNDLE",
                )
            return (
                f"the certificate of {place} is not valid, {clean_text(cause.verify_message)}; "
                f"it was checked with the authorities in {authorities}",
                "check this machine's clock, and ask who runs the server",
            )
        if isinstance(cause, ssl.SSLError) and cause.reason in NO_TLS and not _is_of_proxy(error):
            return (
                f"{place} speaks plain HTTP, where https was expected",
                "check scheme and port in AIHUB_API_ROOT",
            )
    return None


def _is_of_proxy(error: Exception) -> bool:
    return any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in _causes(error))


def describe_failure(error: Exception) -> str:
    """Say why a request failed, without the object addresses that the libraries print."""
    kinds = {
        requests.exceptions.ConnectTimeout: "no connection in time",
        requests.exceptions.ReadTimeout: "no answer in time",
        requests.exceptions.ProxyError: "the proxy refused",
        requests.exceptions.SSLError: "the TLS handshake failed",
        requests.exceptions.ChunkedEncodingError: "the answer broke off",
    }
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    detail = clean_text(getattr(cause, "strerror", None) or str(cause) or type(error).__name__)
    for kind, text in kinds.items():
        if isinstance(error, kind):
            return f"{text}, {detail}" if kind is requests.exceptions.ProxyError else text
    return detail
