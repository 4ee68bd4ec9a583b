"""Faults on demand: what each script does to an exchange."""

from __future__ import annotations

import pytest
import requests

from fake_server import FakeAIHub

NAMES = [f"{number:02}" for number in range(8)]


@pytest.fixture
def batch_id(http: requests.Session, fake: FakeAIHub) -> int:
    ids = [http.post(f"{fake.root}/v2/batches", json={"name": name}).json()["id"] for name in NAMES]
    for name in NAMES:
        http.put(
            f"{fake.root}/v2/batches/{ids[0]}/files/{name}",
            data=b"x",
            headers={"Content-Type": "application/octet-stream"},
        )
    for name in NAMES:
        body = {"app_name": "Any", "batch_id": ids[0], "settings": {"tags": [name]}}
        http.post(f"{fake.root}/v2/apps/runs", json=body)
    return int(ids[0])


def page(http: requests.Session, fake: FakeAIHub, operation: str, batch_id: int, offset: int) -> list[str]:
    """Names on a page of three."""
    if operation == "listFiles":
        asked = {"page_size": 3, "start_token": offset}
        return [
            node["name"] for node in http.get(f"{fake.root}/v2/batches/{batch_id}/files", params=asked).json()["nodes"]
        ]
    asked = {"limit": 3, "offset": offset}
    if operation == "listBatches":
        return [batch["name"] for batch in http.get(f"{fake.root}/v2/batches", params=asked).json()["batches"]]
    runs = http.get(f"{fake.root}/v2/apps/runs", params={**asked, "order": "ASCENDING"}).json()["runs"]
    return [run["tags"][0] for run in runs]


@pytest.mark.parametrize("operation", ["listBatches", "listFiles", "listRuns"])
@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ({"do": "repeat_page"}, ["00", "01", "02"]),
        ({"do": "shift_page"}, ["04", "05", "06"]),
        ({"do": "shift_page", "items": -2}, ["01", "02", "03"]),
    ],
)
def test_page_that_moves_shows_other_entries(
    http: requests.Session,
    fake: FakeAIHub,
    batch_id: int,
    operation: str,
    script: dict[str, object],
    seen: list[str],
) -> None:
    fake.faults.add(operation=operation, nth=2, **script)
    assert page(http, fake, operation, batch_id, 0) == ["00", "01", "02"]
    assert page(http, fake, operation, batch_id, 3) == seen
    assert page(http, fake, operation, batch_id, 3) == ["03", "04", "05"]


@pytest.mark.parametrize("operation", ["listBatches", "listFiles", "listRuns"])
def test_listing_that_lags_shows_what_is_old_enough(
    http: requests.Session, fake: FakeAIHub, batch_id: int, operation: str
) -> None:
    fake.faults.add(operation=operation, do="lag", seconds=60, times=2)
    assert page(http, fake, operation, batch_id, 0) == []
    fake.clock.advance(61)
    assert page(http, fake, operation, batch_id, 0) == ["00", "01", "02"]


def test_knob_of_another_operation_is_refused(fake: FakeAIHub) -> None:
    with pytest.raises(ValueError, match="lag is for listBatches"):
        fake.faults.add(operation="runApp", do="lag")
