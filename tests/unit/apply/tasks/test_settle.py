"""A list is trusted once two readings agree that nothing has disappeared."""

from __future__ import annotations

import pytest

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.tasks import settle
from aihub_runner.apply.tasks.settle import READINGS, is_settled

WANTED = "wanted"


@pytest.mark.parametrize(
    ("readings", "settled", "count"),
    [
        pytest.param(["", ""], True, 2, id="nothing twice"),
        pytest.param(["a", "a"], True, 2, id="the same twice"),
        pytest.param(["a", "a b"], True, 2, id="others start runs meanwhile"),
        pytest.param(["a b", "a", "a"], True, 3, id="one disappears"),
        pytest.param(["a", "b"] * READINGS, False, READINGS + 1, id="something disappears every time"),
        pytest.param(["wanted"], True, 1, id="the first shows what is wanted"),
        pytest.param(["a", "wanted"], True, 2, id="the second shows what is wanted"),
    ],
)
def test_list_is_trusted_once_two_readings_agree_or_show_what_is_wanted(
    hub: AIHub, monkeypatch: pytest.MonkeyPatch, readings: list[str], settled: bool, count: int
) -> None:
    monkeypatch.setattr(settle, "LOOK_EVERY_S", 0.0)
    read: list[dict[str, int]] = []

    def reading() -> dict[str, int]:
        read.append(dict.fromkeys(readings[len(read)].split(), 1))
        return read[-1]

    assert is_settled(hub, reading, 0.0, lambda: WANTED in read[-1]) is settled
    assert len(read) == count
