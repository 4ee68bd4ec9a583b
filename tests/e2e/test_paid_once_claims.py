"""Several clones know one batch and start another run on it: a claim decides which of them pays."""

from __future__ import annotations

import pytest

from support.proxy import (
    BATCHES,
    RUNS,
    Act,
    Proxy,
    answer_instead,
    drop,
    forward_and_drop,
    forward_twice,
    meet,
)

from .conftest import Project, apply_at_once, check_all_done

pytestmark = pytest.mark.matrix

CHANGES = ("version", "retry", "refused")


def share_a_batch(project: Project, proxy: Proxy, change: str) -> tuple[str, ...]:
    """Apply once, so that clones know the batch from the lock file; return the options for the next apply."""
    project.write_files(1)
    if change == "retry":
        project.fake.next_run(status="FAILED")
    if change == "refused":
        proxy.on("POST", RUNS, answer_instead(403))
    project.apply()
    return ("--retry-failed",) if change == "retry" else ()


def want_another_run(project: Project, change: str) -> None:
    if change == "version":
        project.change_spec("[limits]", '[run]\nversion = "2.0"\n[limits]')


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("has_creator", [False, True])
def test_clones_at_once_on_a_batch_that_both_know_pay_once(
    project: Project, proxy: Proxy, change: str, has_creator: bool
) -> None:
    """Both have the batch from the lock file, or one of them created it: then its request must not take `settle_s`."""
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    options = share_a_batch(project, proxy, change)
    paid = len(project.fake.runs())
    clones = project.clone("one"), project.clone("two")
    if has_creator:
        clones = project, clones[1]
    for each in clones:
        each.apply("--max-runs", "0")
        want_another_run(each, change)
    proxy.on("POST", RUNS, meet(2, timeout_s=1 if has_creator else 4), times=2)
    ended = apply_at_once(*clones, options=(options, options))
    assert len(project.fake.runs()) == paid + 1, ended
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended
    proxy.clear()
    check_all_done(*clones, options=options)
    assert len(project.fake.runs()) == paid + 1


@pytest.mark.slow
@pytest.mark.parametrize("at", ["POST", "GET"])
def test_creator_and_clone_that_meet_at_the_list_of_batches_pay_once(project: Project, proxy: Proxy, at: str) -> None:
    """The creator lists batches before it pays, the clone claims the run: whoever comes first."""
    project.change_spec("settle_s = 0.2", "settle_s = 2")
    share_a_batch(project, proxy, "version")
    other = project.clone("other")
    other.apply("--max-runs", "0")
    for each in (project, other):
        want_another_run(each, "version")
    proxy.on(at, BATCHES, meet(2, timeout_s=1.5), nth=1 if at == "POST" else 5, times=4)
    ended = apply_at_once(project, other)
    assert len(project.fake.runs()) == 2, ended
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.slow
def test_fresh_clone_alone_starts_another_run_at_once(project: Project, proxy: Proxy, change: str) -> None:
    """The usual CI job. There is no other clone, so it waits once."""
    options = share_a_batch(project, proxy, change)
    paid = len(project.fake.runs())
    for number in range(2):
        clone = project.clone(str(number))
        want_another_run(clone, change)
        outcome = clone.apply(*options)
        assert outcome.code == 0, outcome.text
        assert len(project.fake.runs()) == paid + 1


def test_state_that_created_the_batch_claims_nothing(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    want_another_run(project, "version")
    assert project.apply().code == 0
    assert len(project.fake.batches()) == 1


def die_before_it_pays(project: Project, proxy: Proxy) -> None:
    want_another_run(project, "version")
    proxy.on("POST", RUNS, answer_instead(403))
    assert project.apply().code == 4


@pytest.mark.slow
def test_claim_whose_owner_does_not_pay_stops_others_until_told(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    die_before_it_pays(project.clone("dead"), proxy)
    other = project.clone("other")
    want_another_run(other, "version")
    outcome = other.apply()
    assert outcome.code == 7, outcome.text
    assert "--adopt" in outcome.text
    assert len(project.fake.runs()) == 1
    outcome = other.apply("--adopt")
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2


def test_claim_of_yesterday_stops_nobody(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    die_before_it_pays(project.clone("dead"), proxy)
    project.fake.clock.advance(90_000)
    other = project.clone("other")
    want_another_run(other, "version")
    outcome = other.apply()
    assert outcome.code == 0, outcome.text
    assert len(project.fake.runs()) == 2


@pytest.mark.slow
def test_claim_of_our_own_is_used_again(project: Project, proxy: Proxy) -> None:
    share_a_batch(project, proxy, "version")
    clone = project.clone("clone")
    die_before_it_pays(clone, proxy)
    assert clone.apply().code == 0
    assert len(project.fake.runs()) == len(project.fake.batches()) == 2


@pytest.mark.parametrize("how", [forward_and_drop, forward_twice, drop, answer_instead(429), answer_instead(403)])
def test_claim_whose_answer_is_lost_or_refused_is_paid_once(project: Project, proxy: Proxy, how: Act) -> None:
    share_a_batch(project, proxy, "version")
    clone = project.clone("clone")
    want_another_run(clone, "version")
    proxy.on("POST", BATCHES, how)
    outcome = clone.apply()
    assert outcome.code in (0, 4), outcome.text
    assert clone.apply().code == 0
    assert len(project.fake.runs()) == 2
