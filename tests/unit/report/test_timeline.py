"""How long each phase took, as far as it is known."""

from msgspec.structs import replace

from aihub_runner.model import Batch, Member, Run, Shard
from aihub_runner.report.timeline import make_timeline, total_pause_s, total_s

NS = 10**9
BATCH = Batch(1, "target", "name", 100.0, 77, {}, sent_s=130.0)
RUN = Run(1, 1, "key", 1, "tag", 1, 140.0, "run-1", "", "COMPLETE", "", 142 * NS, 200 * NS, {"plain": 210.0})
SHARD = Shard(1, "f", (Member("a", "a", 1, "sha256:a"),), (BATCH,), (RUN,))


def test_timeline_of_a_finished_run_has_all_phases() -> None:
    [bar] = make_timeline([SHARD], "key", "plain")
    assert (bar.batch, bar.begun_s, bar.durations_s()) == (77, 100.0, [30.0, 12.0, 58.0, 10.0])
    assert total_s([bar, bar]) == {"upload": 60.0, "wait": 24.0, "run": 116.0, "fetch": 20.0}


def test_timeline_of_a_state_without_the_times_has_the_run_alone() -> None:
    old = replace(SHARD, batches=(replace(BATCH, sent_s=0.0),), runs=(replace(RUN, fetched={"plain": 0.0}),))
    [bar] = make_timeline([old], "key", "plain")
    assert (bar.begun_s, bar.durations_s()) == (140.0, [0.0, 2.0, 58.0, None])


def test_timeline_of_a_run_that_was_taken_up_begins_with_it() -> None:
    taken = replace(SHARD, batches=(replace(BATCH, intent_s=0.0, sent_s=0.0),), runs=(replace(RUN, intent_s=0.0),))
    [bar] = make_timeline([taken], "key", "plain")
    assert (bar.begun_s, bar.durations_s()) == (142.0, [0.0, 0.0, 58.0, 10.0])


def test_timeline_of_a_second_run_has_no_upload_of_its_own() -> None:
    second = replace(RUN, id=2, attempt=2, intent_s=500.0, started_ns=501 * NS, finished_ns=0, status="RUNNING")
    bars = make_timeline([replace(SHARD, runs=(RUN, replace(second, fetched={})))], "key", "plain")
    assert [bar.durations_s() for bar in bars][1] == [0.0, 1.0, None, None]


def test_timeline_ends_where_results_were_first_fetched() -> None:
    again = replace(RUN, fetched={"plain": 210.0, "confidence": 9000.0})
    [bar] = make_timeline([replace(SHARD, runs=(again,))], "key", "confidence")
    assert bar.durations_s()[-1] == 10.0


def test_timeline_never_goes_back() -> None:
    early = replace(RUN, started_ns=139 * NS, finished_ns=139 * NS, fetched={"plain": 138.9})
    [bar] = make_timeline([replace(SHARD, runs=(early,))], "key", "plain")
    assert bar.durations_s() == [30.0, 9.0, 0.0, 0.0]


def test_time_when_no_apply_worked_is_in_no_phase_but_the_run() -> None:
    pauses = [(50.0, 105.0), (110.0, 120.0), (132.0, 136.0), (150.0, 190.0), (202.0, 9000.0)]
    [bar] = make_timeline([SHARD], "key", "plain", pauses)
    assert bar.spans_s() == [30.0, 12.0, 58.0, 10.0]
    assert bar.paused_s == (15.0, 4.0, 0.0, 8.0)
    assert bar.durations_s() == [15.0, 8.0, 58.0, 2.0]
    assert total_pause_s([bar, bar]) == 54.0


def test_pauses_that_overlap_are_not_longer_than_a_phase() -> None:
    [bar] = make_timeline([SHARD], "key", "plain", [(90.0, 140.0), (100.0, 130.0)])
    assert bar.durations_s()[0] == 0.0
