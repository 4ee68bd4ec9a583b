"""Several fakes behind one address: the token of a request selects the fake."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from fake_aihub.api.service import answer
from fake_aihub.controls.faults import token_of


class Namespaces:
    """An ASGI application that routes to other applications by token. They are isolated from each other."""

    def __init__(self) -> None:
        self._apps: dict[str, ASGIApp] = {}

    def add(self, app: ASGIApp, *tokens: str) -> None:
        """Route requests with these tokens to an application."""
        self._apps |= dict.fromkeys(tokens, app)

    def remove(self, *tokens: str) -> None:
        """Reject these tokens from now on."""
        for token in tokens:
            self._apps.pop(token, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps.get(token_of(scope), _refuse)(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    refused = answer(401, {"message": "Unauthorized. Use the token of the test that is running, fake_aihub.token."})
    refused.headers["X-Fake-AIHub"] = "1"
    await refused(scope, receive, send)
