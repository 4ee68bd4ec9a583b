"""Two clones apply with different `--only` and `--limit` at once: no file is paid for twice, and none is lost."""

from __future__ import annotations

from typing import Any

import pytest

from support.proxy import BATCHES, FILE, RUNS, Proxy, before, meet
from support.world import check_paid_once

from .conftest import Project, apply_at_once, check_all_done

pytestmark = pytest.mark.matrix

FILES = 5
SELECTIONS = {
    "apart": (("--only", "in/0000[01].txt"), ("--only", "in/0000[2-4].txt")),
    "overlap": (("--only", "in/0000[0-2].txt"), ("--only", "in/0000[2-4].txt")),
    "limits": (("--limit", "2"), ("--limit", "3")),
    "limit and all": (("--limit", "2"), ()),
    "only and limit": (("--only", "in/0000[1-3].txt"), ("--limit", "2")),
}
POINTS = {"create": ("POST", BATCHES), "send": ("PUT", FILE), "start": ("POST", RUNS)}


def check_nothing_lost(project: Project, *clones: Project) -> None:
    """Apply to the end in each clone, without a selection: each file was paid once, and all have its results."""
    check_paid_once(project.fake)
    check_all_done(*clones)
    check_paid_once(project.fake, FILES)
    for clone in clones:
        assert {line["path"] for line in clone.documents} == {f"in/{number:05}.txt" for number in range(FILES)}


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("point", POINTS)
def test_clone_that_applies_in_the_middle_of_another(
    project: Project, proxy: Proxy, selection: str, point: str
) -> None:
    project.write_files(FILES)
    other = project.clone("other")
    mine, theirs = SELECTIONS[selection]
    ended: list[Any] = []
    meanwhile = before(lambda: ended.append(other.start("apply", "job.toml", *theirs).communicate(timeout=60)))
    proxy.on(*POINTS[point], meanwhile)
    outcome = project.run_alone("apply", "job.toml", *mine)
    assert ended
    assert outcome.code in (0, 6, 7), outcome.text
    proxy.clear()
    check_nothing_lost(project, project, other)


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("point", POINTS)
def test_clones_that_meet_at_a_request(project: Project, proxy: Proxy, selection: str, point: str) -> None:
    project.write_files(FILES)
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    other = project.clone("other")
    proxy.on(*POINTS[point], meet(2, timeout_s=1.5), times=2)
    ended = apply_at_once(project, other, options=SELECTIONS[selection])
    assert {code for code, _ in ended} <= {0, 6, 7}, ended
    proxy.clear()
    check_nothing_lost(project, project, other)
