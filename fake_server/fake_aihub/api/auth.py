"""Authentication, and the context of a request."""

from __future__ import annotations

from starlette.requests import Request

from fake_aihub.world.entities import ApiError


def check_token(request: Request, any_token: bool) -> None:
    """Check the token of a request. `any_token` accepts every token. Raises ApiError 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or not (any_token or token.startswith("fake-")):
        raise ApiError(401, "Unauthorized. The fake accepts only tokens that start with fake-.")


def context_of(request: Request) -> str:
    """Return the context of a request. The community account has an empty context."""
    return str(request.headers.get("IB-Context", ""))


def user_of(request: Request) -> str:
    """Return the user of a request's token: `fake-service-…` is a service account."""
    token = request.headers.get("Authorization", "").partition(" ")[2]
    return "service" if token.startswith("fake-service-") else "fake-user"
