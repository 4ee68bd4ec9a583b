"""When to ask for the status of a run: by how long it has run, and by how long others took."""

from __future__ import annotations

from collections.abc import Sequence

LATE = 0.1  # the end of a run is seen late by this part of its time at most
POLLS_PER_S = 20.0  # for all open runs together
MARGIN_S = 0.1  # after the expected end, to find the run ended


def poll_delay_s(age_s: float, open_runs: float, between_s: tuple[float, float], seen_s: Sequence[float] = ()) -> float:
    """Return when to ask again for a run that is `age_s` old, where others took `seen_s`.

    The pause grows with the age, within `between_s`. If others ended within that pause, ask when they did.
    """
    least_s, most_s = between_s
    delay_s = max(least_s, min(most_s, LATE * age_s), open_runs / POLLS_PER_S)
    expected_s = [ended_s + MARGIN_S - age_s for ended_s in seen_s]
    return min((each_s for each_s in expected_s if least_s <= each_s < delay_s), default=delay_s)
