"""Who may use the controls: a page of another origin must not press their buttons."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from fake_aihub.world.entities import ApiError

NAMES = ("localhost", "ip6-localhost")
OWN_SITE = ("same-origin", "none")  # "none": the person typed the address


def check_caller(scope: Scope, allowed_hosts: Collection[str] = ()) -> None:
    """Raise ApiError 403 for a `Host` that is not this machine, and for requests that a page elsewhere sends.

    A page elsewhere can rebind its own name to 127.0.0.1. So the name in `Host` must be known: this machine, or one of
    `allowed_hosts`. Requests without `Host` and `Origin`, such as those of scripts, are allowed.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if host and not _is_known(_name_of(f"//{host}"), scope, allowed_hosts):
        raise ApiError(
            403, f"The controls do not accept the host {host[:100]!r}. Start fake-aihub with --allowed-host NAME."
        )
    origin = headers.get("origin")
    if origin is not None and _place_of(origin) != host.lower():
        raise ApiError(403, f"The controls do not accept requests from pages of {origin[:100]!r}.")
    is_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if origin is None and not is_link and headers.get("sec-fetch-site", "none") not in OWN_SITE:
        raise ApiError(403, "The controls do not accept requests from pages of other sites.")


def _name_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_known(name: str, scope: Scope, allowed_hosts: Collection[str]) -> bool:
    if name in {*NAMES, socket.gethostname().lower(), *(host.lower() for host in allowed_hosts)}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.endswith(".localhost")
    server = scope.get("server") or ("", 0)
    return address.is_loopback or name == server[0]
