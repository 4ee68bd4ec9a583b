"""CORS: allow browser requests from one origin. Routes below `/_fake/` are never allowed."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
SHOWN = ("Date", "Retry-After", "X-Fake-AIHub", "X-Fake-Journal", "X-Fake-Unsupported")


def allow_origin(app: ASGIApp, origin: str) -> ASGIApp:
    """Wrap an app so that browsers allow requests to its API from an origin, or from every origin for `*`."""
    open_app = CORSMiddleware(
        app, allow_origins=[origin], allow_methods=METHODS, allow_headers=["*"], expose_headers=SHOWN
    )

    async def allowed(scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["path"].startswith("/api/")
        await (open_app if is_api else app)(scope, receive, send)

    return allowed
