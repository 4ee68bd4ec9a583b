"""Routing: map paths and methods to operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import dropwhile
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from fake_aihub.api.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]
Methods = dict[str, tuple[str, Handler]]
REST = ("{filename}", "{path}")  # these parameters match the rest of a path, including slashes


class Routes:
    """All routes. The first route that matches a path is used."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, ...], Methods] = {}

    def add(self, operation: str, methods: Iterable[str], path: str, handler: Handler) -> None:
        """Add a handler for some methods of a path."""
        route = self._routes.setdefault(tuple(path.split("/")), {})
        route.update(dict.fromkeys(methods, (operation, handler)))

    def find(self, scope: Scope) -> tuple[Mapping[str, tuple[str, Handler]], dict[str, str]]:
        """Return the methods and parameters for a request's path; both are empty if no route matches.

        API routes start with `/api`, as in the real service: a root without it must fail here, too.
        """
        segments = _split(scope)
        if segments[1:2] == ["api"]:
            # A root may end in a slash, and the client adds another one.
            below = list(dropwhile(lambda segment: not segment, segments[2:]))
            segments = ["", *below]
            if below[:1] == ["_fake"]:
                return {}, {}
        elif segments[1:2] != ["_fake"] and segments != ["", ""]:
            return {}, {}
        for pattern, methods in self._routes.items():
            if len(pattern) == len(segments) or pattern[-1] in REST:
                parameters = _match(pattern, segments)
                if parameters is not None:
                    return methods, parameters
        return {}, {}


def _split(scope: Scope) -> list[str]:
    """Split a path before decoding it: an escaped slash is part of a name."""
    raw = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1")
    return [unquote(segment) for segment in path.split("/")]


def _match(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for index, (wanted, given) in enumerate(zip(pattern, segments, strict=False)):
        if wanted in REST and len(pattern) == index + 1:
            rest = "/".join(segments[index:])
            return parameters | {wanted[1:-1]: rest} if rest else None
        if wanted.startswith("{") and given:
            parameters[wanted[1:-1].replace("-", "_")] = given
        elif wanted != given:
            return None
    return parameters if len(pattern) == len(segments) else None
