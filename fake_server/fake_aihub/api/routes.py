"""Which path and method belong to which operation."""

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
REST = ("{filename}", "{path}")  # these take all that is left of a path, slashes included


class Routes:
    """All routes; of those that match a path, the first one counts."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, ...], Methods] = {}

    def add(self, operation: str, methods: Iterable[str], path: str, handler: Handler) -> None:
        """Add a handler of some methods of a path."""
        route = self._routes.setdefault(tuple(path.split("/")), {})
        route.update(dict.fromkeys(methods, (operation, handler)))

    def find(self, scope: Scope) -> tuple[Mapping[str, tuple[str, Handler]], dict[str, str]]:
        """Find the methods of a request's path, and its parameters; nothing where no route matches.

        The API's own routes begin with `/api`, as those of the service do: a root without it must not work here only.
        """
        segments = _split(scope)
        if segments[1:2] == ["api"]:
            # A root may end in a slash, to which a client adds one of its own.
            below = list(dropwhile(lambda segment: not segment, segments[2:]))
            segments = ["", *below]
            if below[:1] == ["_fake"]:
                return {}, {}
        elif segments[1:2] != ["_fake"]:
            return {}, {}
        for pattern, methods in self._routes.items():
            parameters = _match(pattern, segments)
            if parameters is not None:
                return methods, parameters
        return {}, {}


def _split(scope: Scope) -> list[str]:
    """Split a path before it is decoded: a slash that was escaped is part of a name."""
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
