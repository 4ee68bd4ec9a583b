"""Which path and method belong to which operation."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from fake_server.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]
REST = ("filename", "path")  # these take all that is left of a path, slashes included


@dataclass(slots=True)
class Route:
    """A path, and for each of its methods the operation's id and its handler."""

    pattern: re.Pattern[str]
    methods: dict[str, tuple[str, Handler]] = field(default_factory=dict)


class Routes:
    """All routes; of those that match a path, the first one counts."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    def add(self, operation: str, methods: Iterable[str], path: str, handler: Handler) -> None:
        """Add a handler of some methods of a path."""
        route = self._routes.setdefault(path, Route(_compile(path)))
        route.methods.update(dict.fromkeys(methods, (operation, handler)))

    def find(self, path: str) -> tuple[Mapping[str, tuple[str, Handler]], dict[str, str]]:
        """Find the methods of a path, and its parameters; nothing where no route matches."""
        for route in self._routes.values():
            if match := route.pattern.fullmatch(path):
                return route.methods, match.groupdict()
        return {}, {}


def _compile(path: str) -> re.Pattern[str]:
    def group(name: re.Match[str]) -> str:
        rest = ".+" if name[1] in REST else "[^/]+"
        return f"(?P<{name[1].replace('-', '_')}>{rest})"

    return re.compile(re.sub(r"{([^}]+)}", group, path), re.DOTALL)
