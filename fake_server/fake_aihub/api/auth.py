"""Who asks, and in which world."""

from __future__ import annotations

from starlette.requests import Request

from fake_aihub.contract.evidence import rule
from fake_aihub.world.entities import ApiError


@rule("docs", "every request carries Authorization: Bearer and a token; without, 401", status=401)
@rule("guess", "a token that does not begin with fake- is refused as a bad one", status=401)
def check_token(request: Request, any_token: bool) -> None:
    """Check that a request may be made, with a token of the fake's or with `any_token`. Raises ApiError 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or not (any_token or token.startswith("fake-")):
        raise ApiError(401, "Unauthorized. The fake takes tokens that begin with fake-, and no others.")


@rule("docs", "IB-Context names the account or organisation; what one made, another does not see", status=404)
def context_of(request: Request) -> str:
    """Return the context that a request is made in; the community account's is empty."""
    return str(request.headers.get("IB-Context", ""))


@rule("guess", "a token that begins with fake-service- is that of a service account")
def user_of(request: Request) -> str:
    """Return who asks, by the token: `fake-service-…` is a service account."""
    token = request.headers.get("Authorization", "").partition(" ")[2]
    return "service" if token.startswith("fake-service-") else "fake-user"
