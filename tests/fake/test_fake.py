"""What the fake returns, stores, and breaks on demand, with plain requests."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from fake_aihub import FakeAIHub

APP = {"app_name": "Invoice Extraction"}
BINARY = {"Content-Type": "application/octet-stream"}


def make_batch(http: requests.Session, fake: FakeAIHub, *names: str) -> int:
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "batch"}).json()["id"]
    for name in names:
        put(http, fake, batch_id, name)
    return int(batch_id)


def put(http: requests.Session, fake: FakeAIHub, batch_id: int, name: str, body: bytes = b"content") -> int:
    url = f"{fake.root}/v2/batches/{batch_id}/files/{quote(name, safe='')}"
    return http.put(url, data=body, headers=BINARY).status_code


def start(http: requests.Session, fake: FakeAIHub, batch: int, **body: object) -> requests.Response:
    return http.post(f"{fake.root}/v2/apps/runs", json=APP | {"batch_id": batch} | body)


@pytest.mark.parametrize(("missing", "status"), [("", 200), ("/api", 501)])
def test_fake_signs_each_answer_and_wants_the_whole_root(
    http: requests.Session, fake: FakeAIHub, missing: str, status: int
) -> None:
    found = http.get(f"{fake.root.removesuffix(missing)}/v2/batches")
    assert (found.status_code, found.headers["X-Fake-AIHub"]) == (status, "1")
    assert found.headers["Date"].endswith("GMT")


@pytest.mark.parametrize("header", ["", "Bearer real", "Basic fake-x", "fake-x"])
def test_fake_refuses_tokens_that_are_not_its_own(fake: FakeAIHub, header: str) -> None:
    found = requests.get(f"{fake.root}/v2/batches", headers={"Authorization": header} if header else {}, timeout=5)
    assert found.status_code == 401
    assert "fake-" in found.json()["message"]


def test_fake_tells_of_an_unknown_route_what_there_is(http: requests.Session, fake: FakeAIHub) -> None:
    found = http.get(f"{fake.root}/v2/nowhere")
    assert found.status_code == 501
    assert "/v2/batches" in found.json()["message"]
    assert http.patch(f"{fake.root}/v2/batches").status_code == 405


def test_fake_keeps_contexts_apart(http: requests.Session, fake: FakeAIHub) -> None:
    acme = {"IB-Context": "acme"}
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "secret"}, headers=acme).json()["id"]
    assert http.get(f"{fake.root}/v2/batches/{batch_id}", headers=acme).status_code == 200
    assert http.get(f"{fake.root}/v2/batches/{batch_id}").status_code == 404
    assert http.get(f"{fake.root}/v2/batches").json() == {"batches": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b"{}", "name is required"),
        (b'{"name": null}', "name is required"),
        (b'{"name": 5}', "name must be a text"),
        (b'{"name": ""}', "1 to 255"),
        (b'{"name": "' + b"x" * 256 + b'"}', "1 to 255"),
    ],
)
def test_fake_refuses_wrong_bodies(http: requests.Session, fake: FakeAIHub, body: bytes, message: str) -> None:
    found = http.post(f"{fake.root}/v2/batches", data=body, headers={"Content-Type": "application/json"})
    assert found.status_code == 400
    assert message in found.json()["message"]


@pytest.mark.parametrize("name", ["a b", "#", "50%", "%2F", "?", "&=+", "请求书.pdf", "e\u0301.txt", "x" * 255, "..."])
def test_fake_keeps_names_as_they_are_sent(http: requests.Session, fake: FakeAIHub, name: str) -> None:
    batch_id = make_batch(http, fake)
    assert put(http, fake, batch_id, name) == 204
    assert list(fake.files(batch_id)) == [name]


@pytest.mark.parametrize("name", ["a/b", "x" * 256, "a\0b"])
def test_fake_refuses_names_that_are_none(http: requests.Session, fake: FakeAIHub, name: str) -> None:
    batch_id = make_batch(http, fake)
    assert put(http, fake, batch_id, name) == 400
    assert fake.files(batch_id) == {}


def test_fake_refuses_to_commit_a_file_told_to_be_huge_at_once(http: requests.Session, fake: FakeAIHub) -> None:
    body = {"batch_id": make_batch(http, fake), "filename": "huge.bin", "file_size": 10**17}
    session = http.post(f"{fake.root}/v2/batches/multipart-upload", json=body).headers["Location"]
    assert http.post(session, json={"action": "commit", "parts": []}, timeout=5).status_code == 400


@pytest.mark.parametrize(("size", "part"), [(0, 1), (1000, 2), (2000, 4)])
def test_fake_refuses_parts_behind_the_last(http: requests.Session, fake: FakeAIHub, size: int, part: int) -> None:
    body = {"batch_id": make_batch(http, fake), "filename": "a.bin", "file_size": size}
    session = http.post(f"{fake.root}/v2/batches/multipart-upload", json=body).headers["Location"]
    headers = {"Content-Type": "application/octet-stream"}
    assert http.put(f"{session}/parts/{part}", data=b"", headers=headers).status_code == 400


@pytest.mark.parametrize("count", [1, 9, 10, 11, 21])
def test_fake_pages_results_by_ten_without_loss(http: requests.Session, fake: FakeAIHub, count: int) -> None:
    batch_id = make_batch(http, fake, *(f"{number}.txt" for number in range(count)))
    run_id = start(http, fake, batch_id).json()["id"]
    names: list[str] = []
    has_more = True
    while has_more:
        url = f"{fake.root}/v2/apps/runs/{run_id}/results"
        page = http.get(url, params={"file_offset": len(names)}).json()
        names += [file["original_file_name"] for file in page["files"]]
        has_more = page["has_more"]
    assert sorted(names) == sorted(f"{number}.txt" for number in range(count))


def test_fake_pages_listed_files_by_token(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake, *"abcde")
    names, token = [], None
    while True:
        page = http.get(
            f"{fake.root}/v2/batches/{batch_id}/files", params={"page_size": 2, "start_token": token}
        ).json()
        names += [node["name"] for node in page["nodes"]]
        if not page["has_more"]:
            break
        token = page["next_page_token"]
    assert names == list("abcde")


def test_fake_gives_the_same_documents_for_the_same_bytes(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake, "a.txt", "b.txt")
    put(http, fake, batch_id, "c.txt", b"other")
    run_id = start(http, fake, batch_id).json()["id"]
    every = dict.fromkeys(("include_confidence_scores", "include_source_info", "include_review_results"), "true")
    files = http.get(f"{fake.root}/v2/apps/runs/{run_id}/results", params=every).json()["files"]
    assert files[0]["documents"] == files[1]["documents"]
    assert files[0]["documents"] != files[2]["documents"]
    assert files[0]["documents"][0]["fields"][0]["source_coordinates"]


def test_fake_runs_take_time_and_have_results_only_when_complete(http: requests.Session) -> None:
    with FakeAIHub(run_seconds=60) as fake:
        run = start(http, fake, make_batch(http, fake, "a.txt")).json()
        assert (run["status"], run["finish_timestamp"]) == ("RUNNING", None)
        results = f"{fake.root}/v2/apps/runs/{run['id']}/results"
        assert http.get(results).status_code == 400
        fake.clock.advance(61)
        done = http.get(f"{fake.root}/v2/apps/runs/{run['id']}").json()
        assert done["status"] == "COMPLETE"
        assert done["finish_timestamp"] > done["start_timestamp"] > 1e18
        assert http.get(results).status_code == 200


def test_fake_run_of_more_than_1000_files_fails(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake)
    batch = fake.world.batches[batch_id]
    for number in range(1001):
        fake.world.put_file(batch.id, f"{number}.txt", "0" * 64, 1)
    run = start(http, fake, batch_id).json()
    assert run["status"] == "FAILED"
    assert "1000" in run["msg"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"app_id": "x"}, 400),
        ({"app_name": None}, 400),
        ({"batch_id": 999}, 404),
        ({"batch_id": "999"}, 404),
        ({"batch_id": "1x"}, 400),
        ({"settings": {"tags": ["x" * 501]}}, 400),
        ({"settings": {"tags": "x"}}, 400),
    ],
)
def test_fake_refuses_wrong_runs(http: requests.Session, fake: FakeAIHub, body: dict[str, object], status: int) -> None:
    batch_id = make_batch(http, fake, "a.txt")
    assert start(http, fake, batch_id, **body).status_code == status
    assert fake.runs() == []


def test_fake_without_units_answers_403(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake, "a.txt")
    http.post(f"{fake.root.removesuffix('/api')}/_fake/units", json={"left": 1})
    assert start(http, fake, batch_id).status_code == 200
    assert start(http, fake, batch_id).status_code == 403


def test_fake_service_accounts_must_name_a_workspace(http: requests.Session, fake: FakeAIHub) -> None:
    http.headers["Authorization"] = "Bearer fake-service-x"
    assert http.post(f"{fake.root}/v2/batches", json={"name": "x"}).status_code == 400
    assert http.post(f"{fake.root}/v2/batches", json={"name": "x", "workspace": "w"}).status_code == 200


def test_fake_lists_runs_of_the_last_day_unless_told(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake, "a.txt")
    old = start(http, fake, batch_id).json()["id"]
    fake.clock.advance(86_500)
    new = start(http, fake, batch_id, settings={"tags": ["t"]}).json()["id"]
    url = f"{fake.root}/v2/apps/runs"
    assert [run["id"] for run in http.get(url).json()["runs"]] == [new]
    assert [run["id"] for run in http.get(url, params={"from_timestamp": 0}).json()["runs"]] == [new, old]
    ascending = {"from_timestamp": 0, "order": "ASCENDING", "limit": 1}
    assert [run["id"] for run in http.get(url, params=ascending).json()["runs"]] == [old]
    assert http.get(url, params={"status": ["FAILED", "CANCELLED"]}).json()["runs"] == []


def test_fake_parts_must_fit_and_be_complete(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake)
    url = f"{fake.root}/v2/batches/multipart-upload"
    session = http.post(url, json={"batch_id": batch_id, "filename": "x.pdf", "file_size": 1500})
    assert session.headers["Location"].endswith(session.json()["session_id"])
    one = f"{url}/sessions/{session.json()['session_id']}"
    binary = {"Content-Type": "application/octet-stream"}
    assert http.put(f"{one}/parts/1", data=b"x" * 999, headers=binary).status_code == 400
    part = http.put(f"{one}/parts/1", data=b"x" * 1000, headers=binary).json()
    assert http.post(one, json={"action": "commit", "parts": [part]}).status_code == 400
    assert fake.files(batch_id) == {}
    last = http.put(f"{one}/parts/2", data=b"y" * 500, headers=binary).json()
    assert http.post(one, json={"action": "commit", "parts": [last, part]}).status_code == 400
    assert http.post(one, json={"action": "commit", "parts": [part, last]}).status_code == 201
    assert list(fake.files(batch_id)) == ["x.pdf"]


def test_fake_with_a_folder_keeps_its_world_and_no_bodies_in_memory(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(data_dir=tmp_path) as fake:
        batch_id = make_batch(http, fake, "a.txt", "b.txt")
        run_id = start(http, fake, batch_id).json()["id"]
        before = (fake.files(batch_id), fake.ledger)
        assert not fake.world.blobs._memory
    with (tmp_path / "events.jsonl").open("a") as log:
        log.write('{"what": "file", "batch_id"')  # a kill in the middle of a line
    with FakeAIHub(data_dir=tmp_path) as fake:
        assert (fake.files(batch_id), fake.ledger) == before
        assert http.get(f"{fake.root}/v2/apps/runs/{run_id}/results").status_code == 200
        assert make_batch(http, fake) == batch_id + 2
    with FakeAIHub(data_dir=tmp_path) as fake:
        assert len(fake.batches()) == 2


def test_fake_ledger_counts_side_effects(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake, "a.txt", "a.txt")
    start(http, fake, batch_id, settings={"tags": ["t"]})
    ledger = http.get(f"{fake.root.removesuffix('/api')}/_fake/ledger").json()
    assert ledger["uploads"] == {f"{batch_id}/a.txt": 2}
    assert (ledger["runs"], ledger["tags"]) == ({str(batch_id): 1}, {"t": 1})


def test_fake_ledger_counts_all_uploads_and_keeps_the_last_digests(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake)
    bodies = [b"%d" % number for number in range(25)]
    for body in bodies:
        put(http, fake, batch_id, "a.txt", body)
        http.put(f"{fake.root}/v2/files/org/space/fs/drive/a.txt", data=body, headers=BINARY)
    [counts, digests] = [fake.ledger[kind].values() for kind in ("uploads", "digests")]
    assert list(counts) == [25, 25]
    assert list(digests) == [[hashlib.sha256(body).hexdigest() for body in bodies[-20:]]] * 2


@pytest.mark.parametrize("do", ["reset", "truncate"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_fake_faults_lose_answers(http: requests.Session, fake: FakeAIHub, do: str, when: str) -> None:
    fake.faults.add(operation="createBatch", nth=2, do=do, when=when, bytes=3)
    make_batch(http, fake)
    with pytest.raises(requests.RequestException):
        http.post(f"{fake.root}/v2/batches", json={"name": "lost"}, timeout=5)
    assert len(fake.batches()) == (2 if when == "after" else 1)
    make_batch(http, fake)
    assert fake.faults.unused() == []


def test_fake_faults_answer_anything_and_tell_which_were_not_used(http: requests.Session, fake: FakeAIHub) -> None:
    control = f"{fake.root.removesuffix('/api')}/_fake/faults"
    scripts = [
        {"operation": "listBatches", "do": "status", "status": 429, "headers": {"Retry-After": "7"}},
        {"operation": "listBatches", "do": "garbage", "nth": 2},
        {"operation": "runApp", "do": "reset"},
    ]
    assert http.post(control, json={"faults": scripts}).status_code == 200
    first, second = (http.get(f"{fake.root}/v2/batches") for _ in range(2))
    assert (first.status_code, first.headers["Retry-After"]) == (429, "7")
    assert second.text.startswith("<html>")
    assert [fault["operation"] for fault in http.get(control).json()["unused"]] == ["runApp"]
    assert http.post(control, json={"faults": [{"do": "magic"}]}).status_code == 400


def test_fake_journal_has_no_token(http: requests.Session, fake: FakeAIHub) -> None:
    make_batch(http, fake)
    entries = http.get(f"{fake.root.removesuffix('/api')}/_fake/journal").text
    assert "createBatch" in entries
    assert "fake-test" not in entries


@pytest.mark.slow
def test_fake_takes_uploads_from_many_at_once(fake: FakeAIHub) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = "Bearer fake-test"
        batch_id = make_batch(session, fake)

    def work(worker: int) -> None:
        with requests.Session() as session:
            session.headers["Authorization"] = "Bearer fake-test"
            for number in range(20):
                put(session, fake, batch_id, f"{worker}-{number}.txt", f"{worker}-{number}".encode() * 100)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fake.files(batch_id)) == 320
    assert len(set(fake.files(batch_id).values())) == 320


def test_fake_gives_the_same_bytes_for_the_same_requests() -> None:
    def play() -> list[bytes]:
        with FakeAIHub() as fake, requests.Session() as http:
            http.headers["Authorization"] = "Bearer fake-test"
            batch_id = make_batch(http, fake, "a.txt")
            run_id = start(http, fake, batch_id).json()["id"]
            page = http.get(f"{fake.root}/v2/apps/runs/{run_id}/results").json()
            return [run_id.encode(), str(page["files"]).encode()]

    assert play() == play()


def test_fake_on_its_own_prints_its_root_and_answers_there() -> None:
    command = [sys.executable, "-m", "fake_aihub", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        root = process.stdout.readline().strip()
        found = requests.get(f"{root}/v2/batches", headers={"Authorization": "Bearer fake-x"}, timeout=5)
        process.terminate()
    assert found.json() == {"batches": []}


def test_fake_on_a_port_that_is_taken_says_so(fake: FakeAIHub) -> None:
    port = fake.root.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "fake_aihub", "--port", port]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert result.returncode == 1
    assert "cannot listen" in result.stderr


def test_fake_takes_a_batch_id_that_is_a_string_of_digits(http: requests.Session) -> None:
    with FakeAIHub() as fake:  # its journal is not held against the description, which has whole numbers only
        batch_id = make_batch(http, fake)
        put(http, fake, batch_id, "a.txt")
        for path, named in (("apps/runs", {"app_name": "Any"}), ("apps/deployments/d-1/runs", {})):
            run = http.post(f"{fake.root}/v2/{path}", json={"batch_id": str(batch_id), **named}).json()
            assert run["batch_id"] == batch_id
            refused = http.post(f"{fake.root}/v2/{path}", json={"batch_id": f"{batch_id}x", **named})
            assert (refused.status_code, refused.json()["message"]) == (400, "batch_id must be a whole number.")


def test_fake_gives_page_tokens_that_say_nothing_and_refuses_others(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = make_batch(http, fake)
    for name in ("a", "b", "c"):
        put(http, fake, batch_id, name)
    url = f"{fake.root}/v2/batches/{batch_id}/files"
    token = http.get(url, params={"page_size": 1}).json()["next_page_token"]
    assert not token.isdecimal()
    asked = {"page_size": 1, "start_token": token}
    assert [node["name"] for node in http.get(url, params=asked).json()["nodes"]] == ["b"]
    for wrong in ("1", "", "é", token[:-1], token + "A", token.lower(), "ZmlsZXMgZnJvbSAtMQ=="):
        assert http.get(url, params={"start_token": wrong}).status_code == 400, wrong


def test_fake_writes_header_names_as_the_service_does(http: requests.Session, fake: FakeAIHub) -> None:
    url = f"{fake.root}/v2/files/org/docs/fs/drive/a.txt"
    http.put(url, data=b"abc", headers={"Content-Type": "application/octet-stream"})
    sent = [name for name, _ in http.head(url).raw.headers.items()]
    assert {"Content-Type", "Content-Length", "last-modified", "Date", "X-Fake-AIHub"} <= set(sent)
    missing = [name for name, _ in http.get(f"{fake.root}/v2/batches/9", timeout=5).raw.headers.items()]
    assert {"Content-Type", "Content-Length"} <= set(missing)
