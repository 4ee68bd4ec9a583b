"""Authentication, and the context of a request."""

from __future__ import annotations

from starlette.requests import Request

from fake_aihub.controls.faults import token_of
from fake_aihub.world.entities import ApiError


def check_token(request: Request, any_token: bool) -> None:
    """Check the token of a request. `any_token` accepts every token. Raises ApiError 401."""
    token = token_of(request.scope)
    if not token or not (any_token or token.startswith("fake-")):
        raise ApiError(401, "Unauthorized. The fake accepts only tokens that start with fake-.")


def context_of(request: Request) -> str:
    """Return the context of a request. The community account has an empty context."""
    return str(request.headers.get("IB-Context", ""))


def user_of(request: Request) -> str:
    """Return the user of a request's token: `fake-service-…` is a service account."""
    return "service" if token_of(request.scope).startswith("fake-service-") else "fake-user"
