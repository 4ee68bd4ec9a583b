"""A fake AI Hub: the same requests, the same answers, faults on demand. Nothing here ever costs anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_server.history import FolderInUseError
    from fake_server.serve import FakeAIHub

__all__ = ["FakeAIHub", "FolderInUseError"]


def __getattr__(name: str) -> Any:
    if name == "FakeAIHub":
        from fake_server.serve import FakeAIHub

        return FakeAIHub
    if name == "FolderInUseError":
        from fake_server.history import FolderInUseError

        return FolderInUseError
    raise AttributeError(name)
