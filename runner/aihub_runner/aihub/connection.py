"""Where the service is, and how to connect to it."""

from __future__ import annotations

from msgspec import Struct

from aihub_runner.model import Secret
from aihub_runner.settings import Settings


class Connection(Struct, frozen=True):
    """Where the service is and how to connect to it. `settings` are those to read a refused token again."""

    root: str
    token: Secret
    context: str
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 120.0
    pool_size: int = 32
    retry_wait_s: float = 0.5
    secrets: tuple[Secret, ...] = ()
    settings: Settings | None = None
