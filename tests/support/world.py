"""What the tests about payment judge by: the fake's world, over all states and clones."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fake_aihub import FakeAIHub

NOT_IN_THE_KEY = ("batch_id", "tags", "webhook_config")


def payments(fake: FakeAIHub) -> Counter[tuple[str, str]]:
    """Count how often each content was paid for with the same settings, by any client on any batch."""
    paid: Counter[tuple[str, str]] = Counter()
    for run in list(fake.world.runs.values()):
        request = {key: value for key, value in run.request.items() if key not in NOT_IN_THE_KEY}
        inner = {
            key: value for key, value in (request.pop("settings", None) or {}).items() if key not in NOT_IN_THE_KEY
        }
        settings = json.dumps([run.context, request, inner], sort_keys=True)
        paid.update((file.digest, settings) for file in run.files)
    return paid


def check_paid_once(fake: FakeAIHub, files: int | None = None) -> None:
    """Fail if anything was paid twice, or if the number of paid files is wrong."""
    paid = payments(fake)
    shown = "\n".join(
        f"paid {times} times: {digest[:19]} with {settings}" for (digest, settings), times in paid.items()
    )
    print(shown)  # noqa: T201
    assert set(paid.values()) <= {1}, shown
    assert files is None or len(paid) == files, shown or "nothing was paid"


def keep(folder: Path, place: Path, *names: str) -> None:
    """Copy files, as a backup or a CI cache does. A state is copied between two commits: an apply may be at work."""
    place.mkdir(exist_ok=True)
    for name in names:
        if name.endswith(".db") and (folder / name).exists():
            with closing(sqlite3.connect(folder / name)) as live, closing(sqlite3.connect(place / name)) as copy:
                live.backup(copy)
        elif (folder / name).exists():
            shutil.copy2(folder / name, place / name)


def bring_back(folder: Path, place: Path, *names: str) -> None:
    """Restore the copy, and remove files that were not in it."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
        if (place / name).exists():
            shutil.copy2(place / name, folder / name)


def lose(folder: Path, *names: str) -> None:
    """Delete files, and everything that was fetched."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "results", ignore_errors=True)
