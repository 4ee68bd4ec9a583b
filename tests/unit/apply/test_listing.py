"""Where a run is: its batch, from the run itself or its results."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx

from aihub_runner.aihub.client import AIHub
from aihub_runner.apply.listing import find_batch_of
from aihub_runner.errors import ServiceError

RUN: dict[str, Any] = {"id": "r", "status": "COMPLETE"}
PAGE: dict[str, Any] = {"id": "r", "files": [], "has_more": False}


@pytest.mark.parametrize(
    ("told", "page", "batch"),
    [
        pytest.param(RUN | {"batch_id": 7}, None, 7, id="the run names it"),
        pytest.param(RUN, PAGE | {"batch_id": "7"}, 7, id="its results name it"),
        pytest.param(RUN, PAGE | {"batch_id": 7}, 7, id="its results name it as a number"),
        pytest.param(None, PAGE | {"batch_id": "7"}, 7, id="the run is gone"),
        pytest.param(RUN, PAGE, 0, id="nobody names it"),
        pytest.param(RUN, PAGE | {"batch_id": "\u0667"}, 0, id="another script's digit"),
        pytest.param(RUN, PAGE | {"batch_id": "seven"}, 0, id="a word"),
        pytest.param(RUN, None, 0, id="no results"),
        pytest.param(None, None, 0, id="all is gone"),
    ],
)
def test_batch_of_a_run_is_taken_from_the_run_or_its_results(
    hub: AIHub, router: respx.MockRouter, told: dict[str, Any] | None, page: dict[str, Any] | None, batch: int
) -> None:
    for path, answer in (("/v2/apps/runs/r/results", page), ("/v2/apps/runs/r", told)):
        router.get(path).mock(httpx.Response(404) if answer is None else httpx.Response(200, json=answer))
    assert find_batch_of(hub, "r") == batch


def test_run_that_cannot_be_asked_about_is_not_called_gone(hub: AIHub, router: respx.MockRouter) -> None:
    router.get("/v2/apps/runs/r").respond(403)
    with pytest.raises(ServiceError):
        find_batch_of(hub, "r")
