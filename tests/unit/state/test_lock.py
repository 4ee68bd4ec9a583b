"""The lock beside a state file, where the file system has none."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from threading import Event

import pytest

from aihub_runner.errors import StateError
from aihub_runner.state.lock import hold_locks


@pytest.mark.parametrize(
    ("number", "what", "hint"),
    [
        (errno.ENOSYS, "this file system has no locks", "use --state with a path on a local disk"),
        (errno.ENOLCK, "No locks available", "check the folder's permissions, or use --state with another path"),
    ],
)
def test_lock_that_the_file_system_refuses_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str, hint: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    state = tmp_path / "job.state.db"
    with pytest.raises(StateError) as raised, hold_locks((tmp_path / "job.toml", state, state), 0, str, Event()):
        pass
    assert (raised.value.message, raised.value.hint) == (f"job.state.db: cannot be locked, {what}", hint)
