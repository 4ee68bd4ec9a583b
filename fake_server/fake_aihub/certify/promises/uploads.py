"""Promises about multipart uploads. The service sets the part size, usually 10 MB."""

from __future__ import annotations

from typing import Any

from fake_aihub.certify.http import Answer
from fake_aihub.certify.promise import NO_BATCH, NO_UUID, Check, Skipped, check_equal, check_that
from fake_aihub.certify.session import Hub

SESSIONS = "/v2/batches/multipart-upload"
SESSION = SESSIONS + "/sessions/{}"
PART = SESSION + "/parts/{}"
MAX_PART_BYTES = 100 * 1_048_576


def ask_for_session(hub: Hub, **body: Any) -> Answer:
    """Ask for a session for a file in the shared batch, or as the body says."""
    whole = {"batch_id": hub.batch, "filename": hub.new_name(".bin"), "file_size": 5} | body
    return hub.remember("session", hub.target.send("POST", SESSIONS, json=whole), "session_id")


class Upload:
    """A multipart upload of a new file to the shared batch."""

    def __init__(self, hub: Hub, size: object = 5, suffix: str = ".bin") -> None:
        self.hub, self.name = hub, hub.new_name(suffix)
        answer = ask_for_session(hub, filename=self.name, file_size=size)
        check_equal("status", answer.status, 201)
        self.session: dict[str, Any] = answer.json()
        self.id = self.session["session_id"]

    def put(self, number: int = 1, body: bytes = b"12345") -> dict[str, Any]:
        """Upload a part and return its entry for the commit."""
        part: dict[str, Any] = self.hub.ask(201, "PUT", PART, self.id, number, data=body)
        return {"part_num": part["part_num"], "part_id": part["part_id"]}

    def end(self, action: str, *parts: dict[str, Any]) -> Answer:
        """Commit or abort."""
        body = {"action": action} | ({"parts": list(parts)} if action == "commit" else {})
        answer = self.hub.target.send("POST", SESSION, self.id, json=body)
        if answer.status == 201:
            self.hub.forget("session", self.id)
        return answer

    def commit(self, *parts: dict[str, Any]) -> Answer:
        """Commit, and check that it succeeds."""
        answer = self.end("commit", *parts)
        check_equal("status", answer.status, 201)
        return answer

    def refuse(self, *parts: dict[str, Any]) -> None:
        """Check that a commit is rejected."""
        self.hub.refused(self.end("commit", *parts))

    def is_nowhere(self) -> None:
        """Check that the file is not in the batch."""
        names = [node["name"] for node in self.hub.files(self.hub.batch)]
        check_that("names", self.name not in names, self.name, "not in the list")

    def has_size(self, size: int) -> None:
        """Check the size of the file in the batch."""
        check_equal("size", self.hub.find_file(self.hub.batch, self.name)["metadata"]["size"], size)


def open_large(hub: Hub) -> tuple[Upload, int]:
    """Open an upload of a whole part and three bytes; return the part size, too. Raises Skipped if it is too large."""
    size: int = Upload(hub).session["part_size"]
    if size > MAX_PART_BYTES:
        raise Skipped(f"parts of {size} bytes are too large to try")
    return Upload(hub, size + 3), size


def session_has_a_part_size(hub: Hub) -> None:
    session = Upload(hub).session
    check_that("session_id", isinstance(session["session_id"], str), session["session_id"], "a text")
    size = session["part_size"]
    check_that("part_size", type(size) is int and size > 0, size, "a whole number above 0")


def session_has_a_location(hub: Hub) -> None:
    answer = ask_for_session(hub)
    location, wanted = answer.headers.get("Location", ""), SESSION.format(answer.json()["session_id"])
    check_that("Location", location.endswith(wanted), location, f"…{wanted}")


def part_has_its_number_and_an_id(hub: Hub) -> None:
    part = Upload(hub).put()
    check_equal("part_num", part["part_num"], 1)
    check_that("part_id", isinstance(part["part_id"], str) and part["part_id"] != "", part["part_id"], "a text")


def file_is_there_after_the_commit(hub: Hub) -> None:
    upload = Upload(hub, suffix=" 50%2F é.bin")
    part = upload.put()
    upload.is_nowhere()
    upload.commit(part)
    upload.has_size(5)


def commit_has_no_body(hub: Hub) -> None:
    upload = Upload(hub)
    check_equal("body", upload.commit(upload.put()).body, b"")


def several_parts_make_one_file(hub: Hub) -> None:
    upload, part_size = open_large(hub)
    upload.commit(upload.put(1, b"a" * part_size), upload.put(2, b"end"))
    upload.has_size(part_size + 3)


def parts_out_of_order_are_refused(hub: Hub) -> None:
    upload, part_size = open_large(hub)
    last, first = upload.put(2, b"end"), upload.put(1, b"a" * part_size)
    upload.refuse(last, first)
    upload.is_nowhere()


def short_part_becomes_no_file(hub: Hub) -> None:
    upload, _ = open_large(hub)
    answer = hub.target.send("PUT", PART, upload.id, 1, data=b"short")
    if answer.status == 201:
        part = {"part_num": 1, "part_id": answer.json()["part_id"]}
        answer = upload.end("commit", part, upload.put(2, b"end"))
    hub.refused(answer)
    upload.is_nowhere()


def commit_without_all_parts_is_refused(hub: Hub) -> None:
    upload = Upload(hub)
    upload.put()
    upload.refuse()
    upload.is_nowhere()


def second_commit_is_refused(hub: Hub) -> None:
    upload = Upload(hub)
    part = upload.put()
    upload.commit(part)
    upload.refuse(part)


def abort_leaves_nothing(hub: Hub) -> None:
    upload = Upload(hub)
    part = upload.put()
    check_equal("status", upload.end("abort").status, 201)
    upload.is_nowhere()
    upload.refuse(part)
    hub.refuses([], "PUT", PART, upload.id, 1, data=b"12345")


def multipart_upload_overwrites(hub: Hub) -> None:
    upload = Upload(hub)
    hub.put(hub.batch, upload.name, b"the first")
    upload.commit(upload.put())

    def sizes() -> list[int]:
        return [node["metadata"]["size"] for node in hub.files(hub.batch) if node["name"] == upload.name]

    hub.eventually("a file that is sent again has its new size", lambda: sizes() == [5])


CHECKS: dict[str, Check] = {
    "session-takes-its-size-as-text": lambda hub: Upload(hub, "5"),
    "session-for-an-unknown-batch-is-404": lambda hub: hub.refused(ask_for_session(hub, batch_id=NO_BATCH), 404),
    "session-without-a-size-is-400": lambda hub: hub.refused(ask_for_session(hub, file_size=None), 400),
    "part-0-is-refused": lambda hub: hub.refuses([], "PUT", PART, Upload(hub).id, 0, data=b"12345"),
    "part-of-an-unknown-session-is-refused": lambda hub: hub.refuses([], "PUT", PART, NO_UUID, 1, data=b"12345"),
    "commit-of-a-part-never-sent-is-refused": lambda hub: Upload(hub).refuse({"part_num": 1, "part_id": hub.mark}),
    "unknown-action-is-400": lambda hub: hub.refused(Upload(hub).end("certify"), 400),
}
