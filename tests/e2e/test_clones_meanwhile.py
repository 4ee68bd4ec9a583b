"""A clone that shares neither state nor lock file applies in the middle of an apply: each file is paid once."""

from __future__ import annotations

import shutil
from threading import Event
from typing import Any

import pytest

from support.proxy import BATCHES, RUN_LIST, Proxy, after, before
from support.world import check_paid_once

from .conftest import Project

LINEAGES = ["nothing", "both know the past", "one knows the past", "another group"]
REQUESTS = [*(("GET", nth) for nth in range(1, 10)), ("POST", 1), ("POST", 2), ("PUT", 1)]


def prepare(project: Project, lineage: str) -> tuple[Project, Project]:
    """Return two clones with the same new version of a file, each with a lock file of its own, if any."""
    project.write_files(3)
    if lineage == "nothing":
        return project, project.clone("other")
    assert project.apply().code == 0
    (project.folder / "job.lock.toml").unlink()
    other = project.clone("other", *["job.state.db"] * (lineage != "one knows the past"))
    if lineage != "one knows the past":
        shutil.copytree(project.folder / "results", other.folder / "results")
    for clone in (project, other):
        clone.write("in/00001.txt", "a new version")
    if lineage == "another group":
        other.write("in/00003.txt", "one more")
    return project, other


@pytest.mark.matrix(gate=8)
@pytest.mark.parametrize("lineage", LINEAGES)
@pytest.mark.parametrize(("method", "nth"), REQUESTS)
@pytest.mark.slow
def test_clone_that_applies_in_the_middle_of_another_pays_once(
    project: Project, proxy: Proxy, lineage: str, method: str, nth: int
) -> None:
    """Whatever request of the first one is under way: the other applies from beginning to end before it arrives."""
    first, other = prepare(project, lineage)
    ended: list[Any] = []
    proxy.on(method, ".*", before(lambda: ended.append(other.run_alone("apply", "job.toml"))), nth=nth)
    outcome = first.run_alone("apply", "job.toml")
    proxy.clear()
    assert ended, "so many requests are not sent"
    assert outcome.code in (0, 7), outcome.text
    check_paid_once(project.fake)
    for clone, args in ((first, []), (other, []), (first, ["--adopt"]), (other, ["--adopt"])):
        outcome = clone.apply(*args)
        check_paid_once(project.fake)
        may_ask = not args or lineage in ("one knows the past", "another group")  # a run on files that it does not have
        assert outcome.code == 0 or (outcome.code == 7 and may_ask), outcome.text


@pytest.mark.slow
def test_batch_that_is_made_and_run_while_runs_are_listed_is_no_batch_that_was_compared(
    project: Project, proxy: Proxy
) -> None:
    """Both lists are read at the same time. The list of batches lacks it, and the list of runs names it."""
    first, other = prepare(project, "another group")
    is_listed, ended = Event(), list[Any]()

    def apply_other() -> None:
        is_listed.wait(20)
        ended.append(other.run_alone("apply", "job.toml"))

    proxy.on("GET", BATCHES, after(is_listed.set))
    proxy.on("GET", RUN_LIST, before(apply_other))
    outcome = first.run_alone("apply", "job.toml")
    assert ended[0].code == 0, ended[0].text
    check_paid_once(project.fake, 5)
    assert (outcome.code, "of another client holds 00001.txt, too" in outcome.err) == (7, True), outcome.text
