"""How a kept batch must change: what is sent, replaced, deleted, left, and what stands in the way, as a table."""

from __future__ import annotations

import pytest

from aihub_runner.model import FOREIGN, OWN, Goal, Listed, Look, Member
from aihub_runner.plan.contents import Evidence, Placed, find_changes
from aihub_runner.plan.identity import mark_place, short_identity

A = Member("a", "in/a", 1, "sha256:a")
HERE, OTHER_SIZE, LATER = Listed("a", 1, 100), Listed("a", 2, 100), Listed("a", 1, 200)
TIMELESS = Listed("a", None, None)
NO_PLACED: dict[str, Placed] = {}


def goal(kind: str, *, exact: bool = False, adopts: bool = False) -> Goal:
    return Goal("key", "target", "plain", 1000, {}, kept=kind, follows=True, exact=exact, adopts=adopts)


def decide(
    found: Listed | None, placed: Placed | None, proof: str, wanted: Member | None, given: Goal
) -> dict[str, list[str]]:
    """Return what happens to the file `a`, by the names of the fields of the changes that list it."""
    known = {mark_place("a", found.size, found.modified_s): short_identity(proof)} if found and proof else {}
    evidence = Evidence({"a": placed} if placed else {}, known)
    look = Look(5, {"a": found} if found else {})
    changes = find_changes(given, [wanted] if wanted else [], look, evidence)
    lists = {name: getattr(changes, name) for name in ("add", "replace", "delete", "others", "foreign", "doubtful")}
    return {name: [getattr(one, "name", one) for one in found] for name, found in lists.items() if found}


@pytest.mark.parametrize(
    ("found", "placed", "proof", "wanted", "happens"),
    [
        (None, None, "", A, "add"),
        (None, Placed("sha256:a", 100), "", A, "add"),
        (HERE, Placed("sha256:a", 100), "", A, ""),
        (HERE, Placed("sha256:a", 0), "", A, "replace"),  # nobody saw it arrive: it may be another one
        (TIMELESS, Placed("sha256:a", 0), "", A, ""),  # a service that lists no times
        (TIMELESS, Placed("sha256:a", 100), "", A, "replace"),
        (HERE, Placed("sha256:x", 100), "", A, "replace"),
        (HERE, Placed("", 0), "", A, "replace"),
        (OTHER_SIZE, Placed("sha256:a", 100), "", A, "replace"),
        (LATER, Placed("sha256:a", 100), "", A, "replace"),
        (LATER, Placed("sha256:a", 100), "sha256:a", A, ""),  # another clone sent the same bytes
        (HERE, Placed("sha256:x", 100), "sha256:a", A, "replace"),  # our own record is newer than any proof
        (HERE, None, "sha256:a", A, ""),
        (HERE, None, "sha256:x", A, "replace"),
        (HERE, None, "", A, "doubtful"),
        (TIMELESS, None, "sha256:a", A, "doubtful"),  # a place without a time proves nothing
        (HERE, Placed("sha256:a", 100), "", None, "delete"),
        (HERE, Placed("", 0), "", None, "delete"),
    ],
)
@pytest.mark.parametrize("kind", [OWN, FOREIGN])
def test_file_in_a_batch(
    kind: str, found: Listed | None, placed: Placed | None, proof: str, wanted: Member | None, happens: str
) -> None:
    assert decide(found, placed, proof, wanted, goal(kind)) == ({happens: ["a"]} if happens else {})


@pytest.mark.parametrize(
    ("found", "placed", "proof", "own", "foreign"),
    [
        (HERE, None, "", "doubtful", "others"),
        (HERE, None, "sha256:a", "delete", "others"),
        (LATER, Placed("sha256:a", 100), "", "doubtful", "others"),
        (TIMELESS, Placed("sha256:a", 100), "", "doubtful", "others"),
    ],
)
def test_file_that_is_not_selected(found: Listed, placed: Placed | None, proof: str, own: str, foreign: str) -> None:
    assert decide(found, placed, proof, None, goal(OWN)) == {own: ["a"]}
    assert decide(found, placed, proof, None, goal(FOREIGN)) == {foreign: ["a"]}


def test_files_of_others_go_on_request_only() -> None:
    exact, adopts = goal(FOREIGN, exact=True), goal(FOREIGN, adopts=True)
    assert decide(HERE, None, "", None, exact) == {"delete": ["a"], "foreign": ["a"]}
    assert decide(HERE, None, "", A, exact) == {"replace": ["a"], "foreign": ["a"]}
    assert decide(HERE, Placed("sha256:a", 100), "", None, exact) == {"delete": ["a"]}
    assert decide(HERE, None, "", A, adopts) == {"replace": ["a"]}
    assert decide(HERE, None, "", None, adopts) == {"others": ["a"]}
    assert decide(HERE, None, "", None, goal(OWN, adopts=True)) == {"doubtful": ["a"]}
