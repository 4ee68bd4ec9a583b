"""Fault scripts: what each one does to an exchange."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from fake_aihub import FakeAIHub
from fake_aihub.api.batches import make_token
from fake_aihub.controls.faults import Faults

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
        asked = {"page_size": 3, "start_token": make_token(offset)}
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
    with pytest.raises(ValueError, match="allowed: listBatches, listFiles, listRuns"):
        fake.faults.add(operation="runApp", do="lag")


def control(fake: FakeAIHub, path: str) -> str:
    return f"{fake.root.removesuffix('/api')}/_fake/{path}"


def ask(http: requests.Session, fake: FakeAIHub, fault: str) -> requests.Response:
    return http.post(f"{fake.root}/v2/batches", json={"name": "asked"}, headers={"X-Fake-Fault": fault}, timeout=5)


@pytest.mark.parametrize(
    ("script", "named", "allowed"),
    [
        ({"opration": "runApp"}, "opration", "operation, nth"),
        ({"operation": "runapp"}, "operation", "runApp"),
        ({"do": "magic"}, "do", "garbage"),
        ({"when": "during"}, "when", "before, after"),
        ({"nth": 0}, "nth", "from 1"),
        ({"times": "2"}, "times", "from 1"),
        ({"times": True}, "times", "from 1"),
        ({"status": 99}, "status", "200 to 599"),
        ({"headers": {"a": "b\r\nc: d"}}, "headers", "ASCII"),
        ({"headers": {"Content-Length": "5"}}, "headers", "ASCII"),
        ({"bytes": -1}, "bytes", "from 0"),
        ({"do": "stall", "seconds": -1}, "seconds", "from 0"),
        ({"do": "skew", "seconds": 1e99}, "seconds", "number of seconds"),
        ({"calls": 1}, "calls", "operation, nth"),
        ({"do": "lag"}, "lag", "listBatches"),
        ([], "table", "operation"),
    ],
)
def test_wrong_script_is_refused_naming_the_key_and_what_is_allowed(
    http: requests.Session, fake: FakeAIHub, script: object, named: str, allowed: str
) -> None:
    good = {"operation": "runApp"}
    found = http.post(control(fake, "faults"), json={"faults": [good, script]})
    assert found.status_code == 400
    message = found.json()["message"]
    assert named in message
    assert allowed in message
    assert fake.faults.scripts == [], "all or none"


def test_header_makes_one_request_go_wrong(http: requests.Session, fake: FakeAIHub) -> None:
    with pytest.raises(requests.ConnectionError):
        ask(http, fake, "reset")
    assert fake.batches() == []
    with pytest.raises(requests.ConnectionError):
        ask(http, fake, "after reset")
    assert len(fake.batches()) == 1
    found = ask(http, fake, "status status=429")
    assert (found.status_code, found.json()) == (429, {"message": "scripted"})
    found = ask(http, fake, '{"do": "status", "status": 418, "headers": {"Retry-After": "9"}, "body": "tea"}')
    assert (found.status_code, found.headers["Retry-After"], found.text) == (418, "9", "tea")
    assert ask(http, fake, "status status=204").content == b""
    assert len(fake.batches()) == 1
    assert http.post(f"{fake.root}/v2/batches", json={"name": "not asked"}).status_code == 200


@pytest.mark.parametrize(
    "fault", ["explode", "status=99", "nth=2", "after reset operation=runApp", "{", "{" * 3000, "lag", "seconds=x"]
)
def test_header_that_is_wrong_is_refused(http: requests.Session, fake: FakeAIHub, fault: str) -> None:
    found = ask(http, fake, fault)
    assert found.status_code == 400
    assert found.json()["message"].startswith("X-Fake-Fault: ")
    assert fake.batches() == []


def test_header_makes_one_listing_lag(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    url = f"{fake.root}/v2/batches"
    assert http.get(url, headers={"X-Fake-Fault": "lag seconds=60"}).json() == {"batches": []}
    assert len(http.get(url).json()["batches"]) == len(NAMES)


def test_request_that_is_cut_has_no_effect(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    fake.faults.add(operation="addFileToBatch", do="cut", bytes=1000)
    with pytest.raises(requests.ConnectionError):
        http.put(f"{fake.root}/v2/batches/{batch_id}/files/cut", data=b"x" * 1_000_000, timeout=5)
    assert "cut" not in fake.files(batch_id)


def test_answer_that_is_slow_arrives_whole(http: requests.Session, fake: FakeAIHub, batch_id: int) -> None:
    whole = http.get(f"{fake.root}/v2/batches").content
    fake.faults.add(operation="listBatches", do="slow", bytes=7)
    assert http.get(f"{fake.root}/v2/batches").content == whole
    assert fake.faults.unused() == []


def test_clock_that_is_off_is_so_for_its_call_only(http: requests.Session, fake: FakeAIHub) -> None:
    day_ms = 86_400_000
    fake.faults.add(operation="createBatch", do="skew", seconds=-86_400)
    for name in ("off", "right"):
        http.post(f"{fake.root}/v2/batches", json={"name": name})
    off, right = fake.batches()
    assert 0 <= right["created_at_ms"] - off["created_at_ms"] - day_ms < day_ms


def test_faults_of_a_file_are_those_that_it_says(tmp_path: Path) -> None:
    file = tmp_path / "faults.toml"
    file.write_text('[[fault]]\noperation = "runApp"\nwhen = "after"\n[[fault]]\ndo = "slow"\nbytes = 5\n')
    faults = Faults()
    faults.load(file)
    assert [(fault.operation, fault.when, fault.do) for fault in faults.scripts] == [
        ("runApp", "after", "reset"),
        ("*", "before", "slow"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[fault]]\n[[fault]]\nnht = 2", r"fault 2: unknown key 'nht'; allowed: operation, nth"),
        ("[[faults]]", r"unknown key 'faults'; allowed: \[\[fault\]\]"),
        ("fault = 3", r"unknown key 'fault'; allowed: \[\[fault\]\]"),
        ("[[fault", r"faults.toml: "),
    ],
)
def test_faults_of_a_wrong_file_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "faults.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        Faults().load(file)
