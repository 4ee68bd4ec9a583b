"""Let the pages of one origin ask from a browser; what is under `/_fake/` stays out of their reach."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SHOWN = ("Date", "Retry-After", "X-Fake-AIHub", "X-Fake-Journal", "X-Fake-Unsupported")


def allow_origin(app: ASGIApp, origin: str) -> ASGIApp:
    """Wrap an app so that browsers let an origin, `*` for all, ask its API."""
    open_app = CORSMiddleware(
        app, allow_origins=[origin], allow_methods=METHODS, allow_headers=["*"], expose_headers=SHOWN
    )

    async def allowed(scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["path"].startswith("/api/")
        await (open_app if is_api else app)(scope, receive, send)

    return allowed
