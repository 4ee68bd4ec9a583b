"""Promises about files in drives. They write only below the folder of --folder."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

from fake_aihub.certify.http import Answer
from fake_aihub.certify.promise import Check, check_equal, check_has, check_that
from fake_aihub.certify.promises.access import service_time
from fake_aihub.certify.promises.uploads import open_large
from fake_aihub.certify.session import Hub

FOLDER = ("folder",)
FILE = "/v2/files/{}"
NEW = {"If-None-Match": "*"}
BINARY = "application/octet-stream"


def new_path(hub: Hub, name: str = ".bin") -> str:
    """Return the path of a new file, in a folder of our own."""
    folder = f"{hub.options.folder.rstrip('/')}/certify-{hub.mark}"
    if ("folder", folder) not in hub.everything:
        hub.note("folder", folder)
    return f"{folder}/{hub.new_name(name)}"


def write(hub: Hub, path: str, body: bytes) -> None:
    """Write a file, or overwrite an existing one."""
    hub.ask(204, "PUT", FILE, path, data=body)


def new_file(hub: Hub, body: bytes) -> str:
    """Write a new file and return its path."""
    path = new_path(hub)
    write(hub, path, body)
    return path


def read(hub: Hub, path: str, byte_range: str = "", kind: str = "file") -> Answer:
    """Read a file, or a range of its bytes."""
    headers = {"Range": byte_range} if byte_range else {}
    return hub.target.send("GET", FILE, path, params={"expect-node-type": kind}, headers=headers)


def file_is_read_back(hub: Hub) -> None:
    path, body = new_path(hub), b"\x00\xff\r\n\x1a" * 2000
    write(hub, path, body)
    answer = read(hub, path)
    check_equal("status", answer.status, 200)
    check_that("bytes", answer.body == body, len(answer.body), f"the {len(body)} bytes that were written")
    check_has(answer.headers, **{"Content-Type": BINARY, "Content-Length": str(len(body))})


def file_written_again_is_overwritten(hub: Hub) -> None:
    path = new_file(hub, b"the first")
    write(hub, path, b"second")
    check_equal("bytes", read(hub, path).body, b"second")


def file_paths_are_kept_as_sent(hub: Hub) -> None:
    for name in (" 50% & #1?.txt", "%2F%41.txt", " é e\u0301 请求书.txt"):
        path = new_path(hub, name)
        write(hub, path, name.encode())
        check_equal("bytes", read(hub, path).body, name.encode())


def slashes_may_be_escaped_or_not(hub: Hub) -> None:
    path = new_file(hub, b"content")
    plain = "/v2/files" + quote(path)
    answer = hub.answer(200, "GET", plain, params={"expect-node-type": "file"})
    check_equal("bytes", answer.body, b"content")


def folders_are_made(hub: Hub) -> None:
    folder = new_path(hub, "")
    write(hub, f"{folder}/deeper/a.txt", b"content")
    hub.ask(200, "HEAD", FILE, folder)


def new_file_is_201_when_it_must_be_new(hub: Hub) -> None:
    answer = hub.answer(201, "PUT", FILE, new_path(hub), data=b"content", headers=NEW)
    location = answer.headers.get("Location", "")
    check_that("Location", "/v2/files/" in location, location, "the URL of the file")


def file_that_is_there_is_412_when_it_must_be_new(hub: Hub) -> None:
    path = new_file(hub, b"the first")
    hub.ask(412, "PUT", FILE, path, data=b"second", headers=NEW)
    check_equal("bytes", read(hub, path).body, b"the first")


def _check_range(hub: Hub, asked: str, body: bytes, span: str) -> None:
    answer = read(hub, new_file(hub, b"0123456789"), f"bytes={asked}")
    check_equal("status", answer.status, 206)
    check_equal("bytes", answer.body, body)
    check_equal("Content-Range", answer.headers.get("Content-Range"), f"bytes {span}/10")


def metadata_has_length_and_time(hub: Hub) -> None:
    path = new_file(hub, b"0123456789")
    answer = hub.answer(200, "HEAD", FILE, path)
    check_has(answer.headers, **{"Content-Type": BINARY, "Content-Length": "10"})
    modified = datetime.fromisoformat(answer.headers.get("Last-Modified", "")).timestamp()
    check_that("Last-Modified", abs(modified - service_time(hub)) < 86_400, modified, "the current time")


def metadata_has_the_type_of_a_folder(hub: Hub) -> None:
    path = new_file(hub, b"content")
    answer = hub.answer(200, "HEAD", FILE, path.rsplit("/", 1)[0])
    check_equal("Content-Type", answer.headers.get("Content-Type", ""), "application/json")


def _delete(hub: Hub, path: str) -> None:
    answer = hub.answer(202, "DELETE", FILE, path)
    location = answer.headers.get("Location", "")
    check_that("Location", "/v2/jobs/" in location, location, "the URL of the job")
    hub.job_ends(location.rsplit("/", 1)[1])


def deleted_file_in_a_drive_is_gone(hub: Hub) -> None:
    path = new_file(hub, b"content")
    _delete(hub, path)
    hub.eventually("a deleted file in a drive is gone", lambda: read(hub, path).status == 404)


def deleted_folder_takes_its_files_along(hub: Hub) -> None:
    folder = new_path(hub, "")
    write(hub, f"{folder}/a.txt", b"content")
    _delete(hub, folder)
    hub.eventually("a deleted file in a drive is gone", lambda: read(hub, f"{folder}/a.txt").status == 404)


def file_of_a_batch_is_read_by_its_path(hub: Hub) -> None:
    name, body = hub.new_name(" é.bin"), bytes(range(256)) * 10
    hub.put(hub.batch, name, body)
    answer = read(hub, hub.find_file(hub.batch, name)["full_path"])
    check_equal("status", answer.status, 200)
    check_that("bytes", answer.body == body, answer.body[:20].hex(), "the bytes that were sent")


def parts_are_joined_in_order(hub: Hub) -> None:
    upload, part_size = open_large(hub)
    last, first = upload.put(2, b"end"), upload.put(1, b"a" * part_size)
    upload.commit(first, last)
    path = hub.find_file(hub.batch, upload.name)["full_path"]
    check_equal("last bytes", read(hub, path, f"bytes={part_size - 2}-").body, b"aaend")


CHECKS: dict[str, Check] = {
    "missing-file-is-404": lambda hub: hub.refused(read(hub, new_path(hub)), 404),
    "metadata-of-nothing-is-404": lambda hub: hub.ask(404, "HEAD", FILE, new_path(hub)),
    "deleting-nothing-is-202": lambda hub: hub.ask(202, "DELETE", FILE, new_path(hub)),
    "range-includes-both-ends": lambda hub: _check_range(hub, "2-4", b"234", "2-4"),
    "range-without-an-end-goes-to-the-end": lambda hub: _check_range(hub, "7-", b"789", "7-9"),
    "range-ends-with-the-file": lambda hub: _check_range(hub, "8-1000", b"89", "8-9"),
    "range-behind-the-file-is-416": lambda hub: hub.refused(read(hub, new_file(hub, b"0123"), "bytes=4-"), 416),
    "file-is-no-folder": lambda hub: hub.refused(read(hub, new_file(hub, b"content"), kind="folder")),
}
