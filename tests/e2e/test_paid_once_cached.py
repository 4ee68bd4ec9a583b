"""A cache between us and the service responds with lists from before: each file is paid once all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from support.proxy import BATCHES, RUN_LIST, Answer, Call, Proxy
from support.waiting import wait_for
from support.world import bring_back, check_paid_once, keep

from .conftest import Project, apply_at_once, check_all_done, end

pytestmark = pytest.mark.matrix

STATE, LOCK = "job.state.db", "job.lock.toml"


class Cache:
    """Keeps the first response to each URL. While it `responds`, the service is not asked for those again."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self.headers = headers
        self.responds = False
        self._kept: dict[str, Answer] = {}

    def __call__(self, call: Call) -> Answer:
        url = json.dumps([call.path, call.query])
        if self.responds and url in self._kept:
            kept = self._kept[url]
            return replace(kept, headers=(*kept.headers, *self.headers))
        answer = call.forward()
        self._kept.setdefault(url, answer)
        return answer

    def join(self, proxy: Proxy) -> None:
        for path in (BATCHES, RUN_LIST):
            proxy.always("GET", path, self)


def lose(project: Project) -> None:
    for name in (STATE, LOCK):
        (project.folder / name).unlink()


def restore(project: Project) -> None:
    bring_back(project.folder, project.folder / "backup", STATE, LOCK)


@pytest.mark.parametrize("forget", [lose, restore])
@pytest.mark.parametrize(
    ("headers", "code", "text"),
    [((), 7, "is not in the list of batches"), ((("Age", "7"),), 4, "a cache responds instead of the service, 7 s")],
    ids=["silent", "aged"],
)
@pytest.mark.slow
def test_kept_lists_do_not_prove_that_nothing_was_paid(
    project: Project,
    proxy: Proxy,
    forget: Callable[[Project], None],
    headers: tuple[tuple[str, str], ...],
    code: int,
    text: str,
) -> None:
    project.write_files(1)
    if forget is restore:
        assert project.apply().code == 0
        keep(project.folder, project.folder / "backup", STATE, LOCK)
        project.write_files(1, start=1)
    cache = Cache(*headers)
    cache.join(proxy)
    assert project.apply().code == 0
    cache.responds = True
    forget(project)
    outcome = project.apply()
    assert outcome.code == code, outcome.text
    assert text in outcome.err
    check_paid_once(project.fake)
    proxy.clear()
    check_all_done(project)
    check_paid_once(project.fake, 1 + (forget is restore))


def test_clones_that_see_kept_lists_pay_nothing_until_they_see_new_ones(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    other = project.clone("other")
    cache = Cache()
    cache.responds = True
    cache.join(proxy)
    ended = apply_at_once(project, other)
    assert {code for code, _ in ended} == {7}, ended
    check_paid_once(project.fake, 0)
    proxy.clear()
    check_all_done(project, other)
    check_paid_once(project.fake, 1)


@pytest.mark.slow
def test_list_that_shows_our_batch_later_is_waited_for(project: Project, proxy: Proxy) -> None:
    """As it shows our batch, it shows the older one of a clone, too."""
    project.write_files(1)
    project.change_spec("settle_s = 0.2", "settle_s = 5")
    other = project.clone("other")
    cache = Cache()
    cache.responds = True
    cache.join(proxy)
    started = [each.start("apply", each.spec_name) for each in (project, other)]
    wait_for(lambda: proxy.count("POST", BATCHES) == 2)
    proxy.clear()
    ended = end(started)
    assert {code for code, _ in ended} in ({0}, {0, 7}), ended
    check_paid_once(project.fake, 1)


def test_batch_that_is_in_no_list_is_run_on_request(project: Project, proxy: Proxy) -> None:
    project.write_files(1)
    cache = Cache()
    cache.responds = True
    cache.join(proxy)
    assert project.apply().code == 7
    outcome = project.apply("--adopt")
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 1)
