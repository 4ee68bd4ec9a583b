"""Writing whole files, on file systems that lack some features."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from aihub_runner.errors import InputError, StateError
from aihub_runner.files import explain_late, write_file


def refuse_folders(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the system answer the request to bring a folder to the disk as some file systems do."""
    fsync = os.fsync

    def answer(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", answer)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_folder_that_cannot_be_brought_to_the_disk_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_folders(monkeypatch, number)
    write_file(tmp_path / "made", [b"content"])
    assert (tmp_path / "made").read_bytes() == b"content"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EBADF])
def test_other_errors_over_a_folder_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    refuse_folders(monkeypatch, number)
    with pytest.raises((InputError, StateError), match="cannot be written"):
        write_file(tmp_path / "made", [b"content"])


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("explain", [nullcontext, explain_late])
def test_failing_disk_is_no_mistake_of_the_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    explain: Callable[[], AbstractContextManager[None]],
) -> None:
    refuse_folders(monkeypatch, number)
    with pytest.raises(StateError, match="cannot be written"), explain():
        write_file(tmp_path / "made", [b"content"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/made", "file: is not a folder"),
        ("pipe/deeper/made", "pipe: is not a folder"),
        ("loop/made", "loop: is not a folder"),
        ("folder", "folder: cannot be written, Is a directory"),
    ],
)
def test_what_is_in_the_way_is_named_and_to_be_moved(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError) as raised:
        write_file(tmp_path / path, [b"content"])
    assert (raised.value.message, raised.value.hint) == (f"{tmp_path}/{message}", "move it away")


def test_mode_that_a_file_system_does_not_keep_is_no_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (tmp_path / "made").write_text("before")
    monkeypatch.setattr(os, "fchmod", refuse)
    write_file(tmp_path / "made", [b"content"])
    assert (tmp_path / "made").read_bytes() == b"content"
