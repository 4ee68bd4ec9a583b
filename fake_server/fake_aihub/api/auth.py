"""Authentication, and the context of a request."""

from __future__ import annotations

from starlette.requests import Request

from fake_aihub.contract.evidence import rule
from fake_aihub.world.entities import ApiError


@rule("docs", "every request needs Authorization: Bearer and a token; otherwise 401", status=401)
@rule("guess", "a token that does not start with fake- is invalid", status=401)
def check_token(request: Request, any_token: bool) -> None:
    """Check the token of a request. `any_token` accepts every token. Raises ApiError 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or not (any_token or token.startswith("fake-")):
        raise ApiError(401, "Unauthorized. The fake accepts only tokens that start with fake-.")


@rule("docs", "IB-Context names the account or organisation; contexts are isolated from each other", status=404)
def context_of(request: Request) -> str:
    """Return the context of a request. The community account has an empty context."""
    return str(request.headers.get("IB-Context", ""))


@rule("guess", "a token that starts with fake-service- belongs to a service account")
def user_of(request: Request) -> str:
    """Return the user of a request's token: `fake-service-…` is a service account."""
    token = request.headers.get("Authorization", "").partition(" ")[2]
    return "service" if token.startswith("fake-service-") else "fake-user"
