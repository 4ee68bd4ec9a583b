"""The files API: written files are returned, whole or in part, and runs can use them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from aihub import AIHub
from aihub.exceptions import NotFoundException

from fake_aihub import FakeAIHub
from support.contract import check_journal

FOLDER = "acme/space/fs/drive/in"
BINARY = {"Content-Type": "application/octet-stream"}
TOKEN = {"Authorization": "Bearer fake-test"}


@pytest.fixture(params=["in memory", "on disk"])
def fake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeAIHub]:
    with FakeAIHub(tmp_path if request.param == "on disk" else None, page_files=10) as server:
        yield server
        check_journal([entry for entry in server.journal if entry["operation"]])


def ask(
    http: requests.Session, fake: FakeAIHub, method: str, path: str, body: bytes = b"", **headers: str
) -> requests.Response:
    sent = (BINARY if method == "PUT" else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
    query = "?expect-node-type=file" if method == "GET" else ""
    return http.request(method, f"{fake.root}/v2/files/{path}{query}", data=body, headers=sent)


def test_file_comes_back_as_it_was_written_last(http: requests.Session, fake: FakeAIHub) -> None:
    for body in (b"first", bytes(range(256)) * 5000):
        assert ask(http, fake, "PUT", f"{FOLDER}/a.bin", body).status_code == 204
        found = ask(http, fake, "GET", f"{FOLDER}/a.bin")
        assert (found.status_code, found.content) == (200, body)
        assert found.headers["Content-Type"] == "application/octet-stream"
        assert found.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("config", ["{retries:600,backoff-seconds:0.05}", "{'retries': 600, 'backoff-seconds': 0.05}"])
def test_file_that_is_not_there_yet_is_waited_for_where_that_is_asked(
    http: requests.Session, fake: FakeAIHub, config: str
) -> None:
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(ask, requests.Session(), fake, "GET", f"{FOLDER}/a", **TOKEN, IB_Retry_Config=config)
        while not any(entry["operation"] == "readFile" for entry in fake.journal):
            assert not reading.done()
        assert ask(http, fake, "PUT", f"{FOLDER}/a", b"late").status_code == 204
        assert (reading.result().status_code, reading.result().content) == (200, b"late")


@pytest.mark.parametrize(
    ("config", "status"),
    [("{retries:2,backoff-seconds:0}", 404), ("{retries:100,backoff-seconds:100}", 400), ("retries", 400), ("", 400)],
)
def test_file_that_never_comes_is_not_there(http: requests.Session, fake: FakeAIHub, config: str, status: int) -> None:
    for method in ("GET", "HEAD"):
        assert ask(http, fake, method, f"{FOLDER}/a", IB_Retry_Config=config).status_code == status


@pytest.mark.parametrize(
    ("asked", "body", "told"),
    [
        ("bytes=0-4", b"01234", "bytes 0-4/10"),
        ("bytes=8-", b"89", "bytes 8-9/10"),
        ("bytes=9-9", b"9", "bytes 9-9/10"),
        ("bytes=5-999999", b"56789", "bytes 5-9/10"),
    ],
)
def test_file_comes_in_part_where_a_range_asks(
    http: requests.Session, fake: FakeAIHub, asked: str, body: bytes, told: str
) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/a", b"0123456789")
    found = ask(http, fake, "GET", f"{FOLDER}/a", Range=asked)
    assert (found.status_code, found.content, found.headers["Content-Range"]) == (206, body, told)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=10-", 416),
        ("bytes=4-2", 416),
        ("bytes=-3", 400),
        ("bytes=0-1,3-4", 400),
        ("lines=0-4", 400),
        ("bytes=" + "9" * 400 + "-", 400),
    ],
)
def test_file_range_that_is_none_is_refused(http: requests.Session, fake: FakeAIHub, asked: str, status: int) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/a", b"0123456789")
    found = ask(http, fake, "GET", f"{FOLDER}/a", Range=asked)
    assert (found.status_code, list(found.json())) == (status, ["message"])


def test_file_without_bytes_has_no_range(http: requests.Session, fake: FakeAIHub) -> None:
    assert ask(http, fake, "PUT", f"{FOLDER}/empty").status_code == 204
    assert ask(http, fake, "GET", f"{FOLDER}/empty").content == b""
    assert ask(http, fake, "GET", f"{FOLDER}/empty", Range="bytes=0-").status_code == 416


def test_file_is_only_made_where_none_is_if_asked_for_that(http: requests.Session, fake: FakeAIHub) -> None:
    made = ask(http, fake, "PUT", f"{FOLDER}/ä b.txt", b"one", If_None_Match="*")
    assert made.status_code == 201
    assert http.get(f"{made.headers['Location']}?expect-node-type=file").content == b"one"
    assert ask(http, fake, "PUT", f"{FOLDER}/ä b.txt", b"two", If_None_Match="*").status_code == 412
    assert ask(http, fake, "GET", f"{FOLDER}/ä b.txt").content == b"one"
    other = ask(http, fake, "PUT", f"{FOLDER}/ä b.txt", b"two", If_None_Match='"tag"')
    assert (other.status_code, other.headers["X-Fake-Unsupported"]) == (400, "If-None-Match")


def test_metadata_tells_files_from_folders(http: requests.Session, fake: FakeAIHub) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/deep/a", b"12345")
    file = ask(http, fake, "HEAD", f"{FOLDER}/deep/a")
    assert (file.headers["Content-Type"], file.headers["Content-Length"]) == ("application/octet-stream", "5")
    assert file.headers["last-modified"].endswith("Z")
    for path in (f"{FOLDER}/deep", f"{FOLDER}/deep/", "acme"):
        folder = ask(http, fake, "HEAD", path)
        assert (folder.status_code, folder.headers["Content-Type"]) == (200, "application/json")
        assert not {"content-length", "last-modified"} & {name.lower() for name in folder.headers}
    assert ask(http, fake, "HEAD", f"{FOLDER}/dee").status_code == 404


def test_folder_is_not_read_as_a_file_nor_the_other_way_round(http: requests.Session, fake: FakeAIHub) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/a", b"12345")
    url = f"{fake.root}/v2/files"
    assert http.get(f"{url}/{FOLDER}?expect-node-type=file").status_code == 404
    assert http.get(f"{url}/{FOLDER}/a?expect-node-type=folder").status_code == 404
    assert http.get(f"{url}/{FOLDER}?expect-node-type=folder").status_code == 501
    assert http.get(f"{url}/{FOLDER}/a?expect-node-type=link").status_code == 400
    assert http.get(f"{url}/{FOLDER}/a").status_code == 400


@pytest.mark.parametrize("path", [f"{FOLDER}/a", FOLDER, f"{FOLDER}/nothing"])
def test_deletion_is_accepted_whether_or_not_something_is_there(
    http: requests.Session, fake: FakeAIHub, path: str
) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/a", b"a")
    ask(http, fake, "PUT", f"{FOLDER}/b/c", b"c")
    ask(http, fake, "PUT", "acme/space/fs/drive/input", b"its name begins alike")
    gone = ask(http, fake, "DELETE", path)
    assert (gone.status_code, gone.content) == (202, b"")
    fake.clock.advance(1)
    assert http.get(gone.headers["Location"]).json()["state"] == "COMPLETE"
    left = {f"{FOLDER}/a": ["b/c"], FOLDER: [], f"{FOLDER}/nothing": ["a", "b/c"]}[path]
    assert list(fake.world.trees[""]) == [*(f"/{FOLDER}/{name}" for name in left), "/acme/space/fs/drive/input"]


@pytest.mark.parametrize("path", [f"{FOLDER}/a/b", FOLDER])
def test_write_is_refused_where_a_file_and_a_folder_would_be_one(
    http: requests.Session, fake: FakeAIHub, path: str
) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/a", b"a")
    if path == FOLDER:
        path = "acme/space/fs/drive/in"
    assert ask(http, fake, "PUT", path, b"b").status_code == 409
    assert list(fake.world.trees[""]) == [f"/{FOLDER}/a"]


@pytest.mark.parametrize(
    "path",
    [
        "acme/space/fs/drive/%2E%2E/a",
        "acme/space/fs/drive/%2e/a",
        "acme/space/fs/drive//a",
        "acme/space/fs/drive/a%00",
        "acme/space/fs/drive/%FF",
        "acme/space/fs/drive/" + "x" * 256,
        "acme/space/fs/drive/" + "x/" * 2500,
        "acme/space/fs/drive",
        "acme/space/other/drive/a",
        "etc/passwd",
        "%2F%2Fetc/passwd",
        "..%2f..%2fevents.jsonl",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "HEAD"])
def test_path_that_is_none_of_a_file_is_refused(
    http: requests.Session, fake: FakeAIHub, method: str, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", int(fake.root.split(":")[2].split("/")[0])), timeout=5) as raw:
        query = "?expect-node-type=file" if method == "GET" else ""
        head = f"{method} /api/v2/files/{path}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        raw.sendall(f"{head}Authorization: Bearer fake-x\r\nContent-Length: 0\r\n\r\n".encode())
        status = int(raw.makefile("rb").read().split()[1])
    no_such = {"GET": 404, "HEAD": 404, "DELETE": 202}
    fine = path in ("acme/space/fs/drive", "acme/space/other/drive/a", "etc/passwd")
    assert status == (no_such.get(method, 400) if fine else 400)
    assert fake.world.trees == {}


def test_path_is_the_same_with_and_without_its_leading_slash(http: requests.Session, fake: FakeAIHub) -> None:
    ask(http, fake, "PUT", f"/{FOLDER}/a", b"one")
    ask(http, fake, "PUT", quote(f"/{FOLDER}/a", safe=""), b"two")
    assert ask(http, fake, "GET", f"{FOLDER}/a").content == b"two"
    assert list(fake.world.trees[""]) == [f"/{FOLDER}/a"]


def test_run_on_a_folder_has_results_of_all_files_below_it(http: requests.Session, fake: FakeAIHub) -> None:
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        ask(http, fake, "PUT", f"{FOLDER}/{name}", name.encode())
    ask(http, fake, "PUT", "acme/space/fs/drive/other.txt", b"not in the folder")
    body = {"app_name": "Invoice Extraction", "input_dir": f"/{FOLDER}/"}
    run = http.post(f"{fake.root}/v2/apps/runs", json=body).json()
    assert (run["input_dir"], run["batch_id"]) == (f"/{FOLDER}", None)
    results = http.get(f"{fake.root}/v2/apps/runs/{run['id']}/results").json()
    assert [file["original_file_name"] for file in results["files"]] == ["a.txt", "b.txt", "deep/c.txt"]
    assert results["files"][0]["input_file_path"] == f"/{FOLDER}/a.txt"
    assert "batch_id" not in results
    http.delete(f"{fake.root}/v2/apps/runs/{run['id']}")
    assert list(fake.world.trees[""]) == ["/acme/space/fs/drive/other.txt"]


@pytest.mark.parametrize(
    ("folder", "status"),
    [(f"/{FOLDER}/a", 400), ("/acme/space/fs/drive/none", 404), ("/../fs/x", 400), ("", 400), ("/etc", 400)],
)
def test_run_on_what_is_no_folder_is_refused(http: requests.Session, fake: FakeAIHub, folder: str, status: int) -> None:
    ask(http, fake, "PUT", f"{FOLDER}/a", b"a")
    body = {"app_name": "Invoice Extraction", "input_dir": folder}
    assert http.post(f"{fake.root}/v2/apps/runs", json=body).status_code == status
    assert fake.runs() == []


def test_files_are_there_after_a_restart(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        ask(http, fake, "PUT", f"{FOLDER}/a", b"0123456789")
        body = {"app_name": "Invoice Extraction", "input_dir": f"/{FOLDER}"}
        run = http.post(f"{fake.root}/v2/apps/runs", json=body).json()
        ask(http, fake, "DELETE", f"{FOLDER}/a")
        ask(http, fake, "PUT", f"{FOLDER}/b", b"0123456789")
    with FakeAIHub(tmp_path) as fake:
        assert ask(http, fake, "GET", f"{FOLDER}/a").status_code == 404
        assert ask(http, fake, "GET", f"{FOLDER}/b", Range="bytes=2-3").content == b"23"
        results = http.get(f"{fake.root}/v2/apps/runs/{run['id']}/results").json()
        assert [file["original_file_name"] for file in results["files"]] == ["a"]


def test_file_of_a_batch_is_read_where_it_is_said_to_lie(http: requests.Session, fake: FakeAIHub) -> None:
    batch_id = http.post(f"{fake.root}/v2/batches", json={"name": "b"}).json()["id"]
    http.put(f"{fake.root}/v2/batches/{batch_id}/files/a%20b.txt", data=b"0123456789", headers=BINARY)
    [node] = http.get(f"{fake.root}/v2/batches/{batch_id}/files").json()["nodes"]
    path = quote(node["full_path"], safe="")
    assert ask(http, fake, "GET", path, Range="bytes=2-3").content == b"23"
    assert ask(http, fake, "HEAD", path).headers["Content-Length"] == "10"
    assert ask(http, fake, "GET", path, IB_Context="other").status_code == 404
    assert ask(http, fake, "PUT", path, b"other").status_code == 400
    ask(http, fake, "DELETE", path)
    assert list(fake.files(batch_id)) == ["a b.txt"]


def test_sdk_writes_reads_and_deletes_files(fake: FakeAIHub) -> None:
    sdk = AIHub(api_key="fake-sdk", ib_context="acme", api_root=fake.root)
    path = f"/{FOLDER}/a b#%.txt"
    sdk.files.write(path, b"0123456789")
    assert sdk.files.read(path) == b"0123456789"
    assert sdk.files.read(path, range="bytes=0-4", ib_retry_config="{retries:3,backoff-seconds:5}") == b"01234"
    assert sdk.files.get_file_metadata(path).headers["Content-Length"] == "10"
    assert sdk.files.get_file_metadata(f"/{FOLDER}").headers["Content-Type"] == "application/json"
    sdk.files.delete(path)
    [job_id] = fake.world.jobs
    fake.clock.advance(1)
    assert sdk.jobs.status(job_id).state == "COMPLETE"
    assert list(fake.world.trees["acme"]) == []
    with pytest.raises(NotFoundException):
        sdk.files.read(path)
    sdk.client.rest_client.pool_manager.clear()


def test_file_that_many_make_at_once_is_made_once(fake: FakeAIHub) -> None:
    def make(number: int) -> int:
        with requests.Session() as http:
            http.headers["Authorization"] = "Bearer fake-test"
            return ask(http, fake, "PUT", f"{FOLDER}/one", b"%d" % number * 100_000, If_None_Match="*").status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(make, range(16)))
    assert sorted(statuses) == [201] + [412] * 15
    assert fake.ledger["uploads"] == {f"/{FOLDER}/one": 1}
