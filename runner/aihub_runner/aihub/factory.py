"""Where workers get their client: a client has locks and sockets, and stays in its process."""

from __future__ import annotations

from functools import cache

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.connection import Connection


class ClientFactory:
    """Returns the client of this process. It can travel to another process, and returns that one's client there.

    The other process knows nothing of a Ctrl-C here: its client is not stopped with ours.
    """

    def __init__(self, connection: Connection, client: AIHub | None = None) -> None:
        self._connection, self._client = connection, client

    def __call__(self) -> AIHub:
        return self._client or _client_of_this_process(self._connection)

    def __reduce__(self) -> tuple[type[ClientFactory], tuple[Connection]]:
        return ClientFactory, (self._connection,)


@cache
def _client_of_this_process(connection: Connection) -> AIHub:
    return AIHub(connection)
