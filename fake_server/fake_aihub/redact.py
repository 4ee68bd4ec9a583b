"""Remove what the journal never shows: tokens, cookies, passwords, the values of secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

LEFT_OUT = "…"
SECRET_NAME = re.compile(r"auth|cookie|token|secret|password|api[-_]?key", re.IGNORECASE)
PAGE_TOKENS = ("start_token", "next_page_token")  # page tokens, not credentials
# The paths of secrets in a body; * matches every key.
SECRET_PLACES = (
    ("settings", "webhook_config", "headers", "*"),
    ("settings", "runtime_config", "instabase", "pdf", "passwords", "*"),
    ("settings", "keys", "secret", "*"),
)
WEBHOOK_URL = ("settings", "webhook_config", "url")
SECRETS_PATH = "/v2/aihub/secrets"


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return headers without the values of those that carry secrets."""
    return [(name, LEFT_OUT if SECRET_NAME.search(name) else value) for name, value in headers]


def redact_query(query: str) -> str:
    """Return a query without the values of parameters that carry secrets. A query without secrets is unchanged."""
    pairs = parse_qsl(query, keep_blank_values=True)
    if not any(_is_secret(name) for name, _ in pairs):
        return query
    return urlencode([(name, LEFT_OUT if _is_secret(name) else value) for name, value in pairs])


def redact_url(url: Any) -> Any:
    """Return a URL without the values of parameters that carry secrets."""
    before, mark, query = url.partition("?") if isinstance(url, str) else (url, "", "")
    return f"{before}?{redact_query(query)}" if mark else url


def _is_secret(parameter: str) -> bool:
    return parameter not in PAGE_TOKENS and bool(SECRET_NAME.search(parameter))


def redact_body(path: str, body: Any) -> Any:
    """Return a body without its secrets. Everything else is unchanged."""
    if SECRETS_PATH in unquote(path):
        body = _without(body, ("value",))
    for place in SECRET_PLACES:
        body = _without(body, place)
    return _without(body, WEBHOOK_URL, redact_url)


def _without(value: Any, place: tuple[str, ...], redact: Callable[[Any], Any] = lambda _: LEFT_OUT) -> Any:
    if not place:
        return redact(value)
    if not isinstance(value, dict):
        return value
    return {key: _without(item, place[1:], redact) if place[0] in ("*", key) else item for key, item in value.items()}
