"""A fake AI Hub: the same requests, the same responses, faults on demand. It never costs anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_aihub.server.embedded import FakeAIHub
    from fake_aihub.world.event_log import FolderInUseError

__all__ = ["FakeAIHub", "FolderInUseError"]


def __getattr__(name: str) -> Any:
    if name == "FakeAIHub":
        from fake_aihub.server.embedded import FakeAIHub

        return FakeAIHub
    if name == "FolderInUseError":
        from fake_aihub.world.event_log import FolderInUseError

        return FolderInUseError
    raise AttributeError(name)
