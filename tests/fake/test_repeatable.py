"""With a frozen clock, the same requests get the same responses; and checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests

import fake_aihub
from fake_aihub import FakeAIHub
from fake_aihub.api.service import Service
from fake_aihub.world.clock import FROZEN_AT_S, Clock, parse_clock
from fake_aihub.world.world import World

READS_TIME_OR_CHANCE = re.compile(
    r"\btime\.(time|monotonic|perf_counter|localtime|gmtime|strftime|ctime)|"
    r"\b(datetime|date)\.(now|utcnow|today)\(|loop\(?\)?\.time\(\)|formatdate\(\)|"
    r"\buuid[14]?\(|\burandom\(|\btoken_(hex|bytes|urlsafe)\(|\brandom\.(random|choice|randint|shuffle)\(|Random\(\)"
)
# These are outside the fake: one names a test's world, the others look at a service from without.
OUTSIDE = {
    "pytest_plugin.py",
    "certify/cli.py",
    "certify/http.py",
    "certify/promises/access.py",
    "certify/report.py",
}


def control(fake: FakeAIHub, path: str) -> str:
    return f"{fake.root.removesuffix('/api')}/_fake/{path}"


def make_batch(http: requests.Session, fake: FakeAIHub, name: str) -> int:
    return int(http.post(f"{fake.root}/v2/batches", json={"name": name}).json()["id"])


def put(http: requests.Session, fake: FakeAIHub, batch_id: int, name: str, body: bytes = b"content") -> None:
    headers = {"Content-Type": "application/octet-stream"}
    http.put(f"{fake.root}/v2/batches/{batch_id}/files/{name}", data=body, headers=headers).raise_for_status()


def start(http: requests.Session, fake: FakeAIHub, batch_id: int) -> dict[str, Any]:
    body = {"app_name": "Any", "batch_id": batch_id, "settings": {"tags": ["t"]}}
    run: dict[str, Any] = http.post(f"{fake.root}/v2/apps/runs", json=body).json()
    return run


def test_only_the_clock_reads_the_time() -> None:
    home = Path(fake_aihub.__path__[0])
    found = [
        f"{path}: {line.strip()}"
        for path in sorted(home.rglob("*.py"))
        if path.relative_to(home).as_posix() not in OUTSIDE | {"world/clock.py"}
        for line in path.read_text(encoding="utf-8").splitlines()
        if READS_TIME_OR_CHANCE.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "now_s"),
    [
        ("frozen", FROZEN_AT_S),
        ("2026-01-01", FROZEN_AT_S),
        ("2026-01-01T01:00:00+01:00", FROZEN_AT_S),
        ("2026-01-01T00:00:01Z", FROZEN_AT_S + 1),
    ],
)
def test_clock_stands_where_it_is_told(text: str, now_s: float) -> None:
    clock = parse_clock(text)
    assert clock.now_s() == now_s
    clock.advance(5)
    assert clock.now_s() == now_s + 5


def test_clock_is_moved_by_a_request_and_everything_with_it(http: requests.Session) -> None:
    with FakeAIHub(run_seconds=3600) as fake:
        run = start(http, fake, (batch_id := make_batch(http, fake, "a")) and put_one(http, fake, batch_id))
        assert run["status"] == "RUNNING"
        before_s = http.get(control(fake, "clock")).json()["now_s"]
        told = http.post(control(fake, "clock"), json={"advance_s": 86_400}).json()
        assert told["offset_s"] == 86_400
        assert told["now_s"] >= before_s + 86_400
        assert http.get(f"{fake.root}/v2/apps/runs/{run['id']}").json()["status"] == "COMPLETE"
        assert make_batch(http, fake, "later")
        first, later = fake.batches()
        assert later["created_at_ms"] - first["created_at_ms"] >= 86_400_000


def put_one(http: requests.Session, fake: FakeAIHub, batch_id: int) -> int:
    put(http, fake, batch_id, "a.txt")
    return batch_id


@pytest.mark.parametrize("text", ["", "noon", "9999-12-31", "1969-12-31", "0001-01-01T00:00:00+14:00"])
def test_clock_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: real, frozen, 2026"):
        parse_clock(text)


@pytest.mark.parametrize(
    "body", [{"advance_s": 1e300}, {"advance_s": -1e10}, {"offset_s": 10**400}, {"advance": 5}, {"advance_s": "1"}]
)
def test_clock_cannot_be_moved_to_nowhere(http: requests.Session, fake: FakeAIHub, body: dict[str, object]) -> None:
    assert http.post(control(fake, "clock"), json=body).status_code == 400
    assert fake.clock.offset_s == 0


def play(folder: Path | None, seed: int) -> list[bytes]:
    """Use a bit of everything, and return the bytes of every response and of every observation."""
    fake = FakeAIHub(folder)
    frozen = Clock(FROZEN_AT_S)
    world = World(frozen, folder / "world" if folder else None)
    world.set_seed(seed)
    fake.service = Service(frozen, world, requests_per_s=1000)
    answers: list[bytes] = []
    with fake, requests.Session() as http:
        http.headers.update({"Authorization": "Bearer fake-test", "Host": "fake"})
        http.hooks["response"].append(lambda found, **_: answers.append(str(found.headers).encode() + found.content))
        batch_id = make_batch(http, fake, "one")
        put(http, fake, batch_id, "a.txt")
        http.post(control(fake, "clock"), json={"advance_s": 60})
        run_id = start(http, fake, batch_id)["id"]
        http.get(f"{fake.root}/v2/apps/runs/{run_id}/results")
        http.get(f"{fake.root}/v2/apps/runs")
        http.delete(f"{fake.root}/v2/apps/runs/{run_id}")
        session = {"batch_id": batch_id, "filename": "b", "file_size": 5}
        http.post(f"{fake.root}/v2/batches/multipart-upload", json=session)
        for path in ("journal", "journal?format=har", "coverage", "ledger", "clock"):
            http.get(control(fake, path))
    return answers


def test_same_seed_and_requests_give_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    first = play(None, 7)
    assert first == play(None, 7)
    assert first == play(tmp_path, 7)
    assert first != play(None, 8)


def test_seed_changes_no_id_that_was_made(tmp_path: Path) -> None:
    world = World(Clock(), tmp_path)
    world.set_seed(7)
    made = world.start_job("").id
    world.close()
    again = World(Clock(), tmp_path)
    again.set_seed(8)
    assert list(again.jobs) == [made]
    again.close()


@pytest.fixture(params=["in memory", "in a folder"])
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with FakeAIHub(tmp_path if request.param == "in a folder" else None) as server:
        yield server


def told(http: requests.Session, fake: FakeAIHub) -> list[object]:
    """Everything that the fake reports about itself."""
    found = [fake.batches(), fake.runs(), fake.ledger, list(fake.world.next_runs), fake.clock.offset_s]
    found += [fake.world.units_left, fake.world._counter, http.get(control(fake, "faults")).json()]
    return [*found, [entry["path"] for entry in fake.journal]]


def do_much(http: requests.Session, fake: FakeAIHub) -> list[str]:
    batch_id = make_batch(http, fake, "much")
    put(http, fake, batch_id, "a.txt", b"changed")
    run = start(http, fake, batch_id)
    http.delete(f"{fake.root}/v2/batches/{batch_id}")
    http.post(control(fake, "clock"), json={"advance_s": 500})
    http.get(f"{fake.root}/v2/batches")
    return [str(batch_id), run["id"]]


def test_rewinding_takes_everything_back_and_the_same_comes_again(http: requests.Session, fake: FakeAIHub) -> None:
    put(http, fake, make_batch(http, fake, "one"), "a.txt")
    fake.faults.add(operation="listBatches", do="status", nth=2)
    fake.next_run(status="FAILED")
    http.post(control(fake, "units"), json={"left": 5})
    name = http.post(control(fake, "checkpoint")).json()["name"]
    before = told(http, fake)
    made = do_much(http, fake)
    after = told(http, fake)
    assert after != before
    for _ in range(2):
        assert http.post(control(fake, "rewind"), json={"name": name}).json() == {"name": name}
        assert told(http, fake) == before
        assert do_much(http, fake) == made


def test_rewound_folder_is_the_same_after_a_restart(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        make_batch(http, fake, "one")
        http.post(control(fake, "checkpoint"), json={"name": "here"})
        do_much(http, fake)
        http.post(control(fake, "rewind"))
        make_batch(http, fake, "two")
        ids = [(batch["id"], batch["name"]) for batch in fake.batches()]
    with FakeAIHub(tmp_path) as fake:
        assert [(batch["id"], batch["name"]) for batch in fake.batches()] == ids
        assert make_batch(http, fake, "three") == ids[-1][0] + 1


def test_rewinding_forgets_later_checkpoints(http: requests.Session, fake: FakeAIHub) -> None:
    assert http.post(control(fake, "rewind")).status_code == 404
    for name in ("one", "two", "three"):
        make_batch(http, fake, name)
        fake.checkpoint(name)
    fake.rewind("two")
    assert [batch["name"] for batch in fake.batches()] == ["one", "two"]
    assert http.get(control(fake, "checkpoint")).json() == {"checkpoints": ["one", "two"]}
    found = http.post(control(fake, "rewind"), json={"name": "three"})
    assert found.status_code == 404
    assert "one, two" in found.json()["message"]
    assert http.post(control(fake, "rewind"), json={"nam": "one"}).status_code == 400


def test_rewinding_while_a_body_comes_refuses_what_is_gone(http: requests.Session, fake: FakeAIHub) -> None:
    fake.checkpoint()
    batch_id = make_batch(http, fake, "one")

    def body() -> Any:
        yield b"first"
        fake.rewind()
        yield b"second"

    headers = {"Content-Type": "application/octet-stream"}
    found = http.put(f"{fake.root}/v2/batches/{batch_id}/files/a", data=body(), headers=headers)
    assert found.status_code == 404
    assert fake.batches() == []
