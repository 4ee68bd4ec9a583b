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


def open_session(hub: Hub, name: str, size: Any) -> dict[str, Any]:
    """Open a session for a file in the shared batch."""
    answer = hub.target.send("POST", SESSIONS, json={"batch_id": hub.batch, "filename": name, "file_size": size})
    check_equal("status", hub.remember("session", answer, "session_id").status, 201)
    session: dict[str, Any] = answer.json()
    return session


def part_size_of(hub: Hub) -> int:
    """Return the part size. Raises Skipped if it is too large to try."""
    size: int = open_session(hub, hub.new_name(".bin"), 5)["part_size"]
    if size > MAX_PART_BYTES:
        raise Skipped(f"parts of {size} bytes are too large to try")
    return size


def put_part(hub: Hub, session: dict[str, Any], number: int, body: bytes) -> dict[str, Any]:
    """Upload a part and return its entry for the commit."""
    part: dict[str, Any] = hub.ask(201, "PUT", PART, session["session_id"], number, data=body)
    return {"part_num": part["part_num"], "part_id": part["part_id"]}


def end(hub: Hub, session: dict[str, Any], action: str, *parts: dict[str, Any]) -> Answer:
    """Commit or abort."""
    body = {"action": action} | ({"parts": list(parts)} if action == "commit" else {})
    answer = hub.target.send("POST", SESSION, session["session_id"], json=body)
    if answer.status == 201:
        hub.forget("session", session["session_id"])
    return answer


def names(hub: Hub) -> list[str]:
    """List the names in the shared batch."""
    return [node["name"] for node in hub.files(hub.batch)]


def session_tells_its_part_size(hub: Hub) -> None:
    session = open_session(hub, hub.new_name(".bin"), 5)
    check_that("session_id", isinstance(session["session_id"], str), session["session_id"], "a text")
    size = session["part_size"]
    check_that("part_size", type(size) is int and size > 0, size, "a whole number above 0")


def session_has_a_location(hub: Hub) -> None:
    body = {"batch_id": hub.batch, "filename": hub.new_name(".bin"), "file_size": 5}
    answer = hub.remember("session", hub.target.send("POST", SESSIONS, json=body), "session_id")
    location, wanted = answer.headers.get("Location", ""), SESSION.format(answer.json()["session_id"])
    check_that("Location", location.endswith(wanted), location, f"…{wanted}")


def session_for_an_unknown_batch_is_404(hub: Hub) -> None:
    body = {"batch_id": NO_BATCH, "filename": "a.bin", "file_size": 5}
    hub.refused(hub.remember("session", hub.target.send("POST", SESSIONS, json=body), "session_id"), 404)


def session_without_a_size_is_400(hub: Hub) -> None:
    body = {"batch_id": hub.batch, "filename": hub.new_name(".bin"), "file_size": None}
    hub.refused(hub.remember("session", hub.target.send("POST", SESSIONS, json=body), "session_id"), 400)


def part_has_its_number_and_an_id(hub: Hub) -> None:
    part = put_part(hub, open_session(hub, hub.new_name(".bin"), 5), 1, b"12345")
    check_equal("part_num", part["part_num"], 1)
    check_that("part_id", isinstance(part["part_id"], str) and part["part_id"] != "", part["part_id"], "a text")


def part_0_is_refused(hub: Hub) -> None:
    session = open_session(hub, hub.new_name(".bin"), 5)
    hub.refuses([], "PUT", PART, session["session_id"], 0, data=b"12345")


def file_is_there_after_the_commit(hub: Hub) -> None:
    name = hub.new_name(" 50%2F é.bin")
    session = open_session(hub, name, 5)
    part = put_part(hub, session, 1, b"12345")
    check_that("names before the commit", name not in names(hub), name, "not in the list")
    check_equal("status", end(hub, session, "commit", part).status, 201)
    check_equal("size", hub.find_file(hub.batch, name)["metadata"]["size"], 5)


def commit_has_no_body(hub: Hub) -> None:
    session = open_session(hub, hub.new_name(".bin"), 5)
    answer = end(hub, session, "commit", put_part(hub, session, 1, b"12345"))
    check_equal("body", answer.body, b"")


def several_parts_make_one_file(hub: Hub) -> None:
    name = hub.new_name(".bin")
    part_size = part_size_of(hub)
    session = open_session(hub, name, part_size + 3)
    parts = [put_part(hub, session, 1, b"a" * part_size), put_part(hub, session, 2, b"end")]
    check_equal("status", end(hub, session, "commit", *parts).status, 201)
    check_equal("size", hub.find_file(hub.batch, name)["metadata"]["size"], part_size + 3)


def parts_out_of_order_are_refused(hub: Hub) -> None:
    name = hub.new_name(".bin")
    part_size = part_size_of(hub)
    session = open_session(hub, name, part_size + 3)
    last, first = put_part(hub, session, 2, b"end"), put_part(hub, session, 1, b"a" * part_size)
    hub.refused(end(hub, session, "commit", last, first))
    check_that("names", name not in names(hub), name, "not in the list")


def short_part_becomes_no_file(hub: Hub) -> None:
    name = hub.new_name(".bin")
    part_size = part_size_of(hub)
    session = open_session(hub, name, part_size + 3)
    answer = hub.target.send("PUT", PART, session["session_id"], 1, data=b"short")
    if answer.status == 201:
        part = {"part_num": 1, "part_id": answer.json()["part_id"]}
        answer = end(hub, session, "commit", part, put_part(hub, session, 2, b"end"))
    hub.refused(answer)
    check_that("names", name not in names(hub), name, "not in the list")


def commit_without_all_parts_is_refused(hub: Hub) -> None:
    name = hub.new_name(".bin")
    session = open_session(hub, name, 5)
    put_part(hub, session, 1, b"12345")
    hub.refused(end(hub, session, "commit"))
    check_that("names", name not in names(hub), name, "not in the list")


def commit_of_a_part_never_sent_is_refused(hub: Hub) -> None:
    session = open_session(hub, hub.new_name(".bin"), 5)
    hub.refused(end(hub, session, "commit", {"part_num": 1, "part_id": f"certify-{hub.mark}"}))


def second_commit_is_refused(hub: Hub) -> None:
    session = open_session(hub, hub.new_name(".bin"), 5)
    part = put_part(hub, session, 1, b"12345")
    check_equal("status", end(hub, session, "commit", part).status, 201)
    hub.refused(end(hub, session, "commit", part))


def abort_leaves_nothing(hub: Hub) -> None:
    name = hub.new_name(".bin")
    session = open_session(hub, name, 5)
    part = put_part(hub, session, 1, b"12345")
    check_equal("status", end(hub, session, "abort").status, 201)
    check_that("names", name not in names(hub), name, "not in the list")
    hub.refused(end(hub, session, "commit", part))
    hub.refuses([], "PUT", PART, session["session_id"], 1, data=b"12345")


def unknown_action_is_400(hub: Hub) -> None:
    session = open_session(hub, hub.new_name(".bin"), 5)
    hub.refused(end(hub, session, "certify"), 400)


def multipart_upload_overwrites(hub: Hub) -> None:
    name = hub.new_name(".bin")
    hub.put(hub.batch, name, b"the first")
    session = open_session(hub, name, 5)
    check_equal("status", end(hub, session, "commit", put_part(hub, session, 1, b"12345")).status, 201)

    def sizes() -> list[int]:
        return [node["metadata"]["size"] for node in hub.files(hub.batch) if node["name"] == name]

    hub.eventually("a file that is sent again has its new size", lambda: sizes() == [5])


CHECKS: dict[str, Check] = {
    "session-takes-its-size-as-text": lambda hub: open_session(hub, hub.new_name(".bin"), "5"),
    "part-of-an-unknown-session-is-refused": lambda hub: hub.refuses([], "PUT", PART, NO_UUID, 1, data=b"12345"),
}
