"""Files by SFTP, from the sshd of Debian."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aihub_runner.sources import stores
from support.proxy import BATCHES, FILE, Answer, Call, Proxy
from support.stores import Sshd
from support.world import check_paid_once

from .conftest import Outcome, Project

pytestmark = pytest.mark.slow


@pytest.fixture
def server(sshd: str, tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A server whose folder the spec names. Attempts follow each other at once."""
    monkeypatch.setattr(stores, "PAUSES_S", (0.0, 0.0))
    made = Sshd(sshd, tmp_path / "home", tmp_path / "elsewhere")
    project.env |= made.env
    project.change_spec('"in/**/*"', f'"{made.url}/in/**/*"')
    yield made
    made.stop()


@pytest.fixture
def patient(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try for as long as a server takes to start."""
    monkeypatch.setattr(stores, "PAUSES_S", (0.1,) * 100)


def apply(project: Project, server: Sshd, *args: str) -> Outcome:
    return project.apply("--allow-remote", server.url, *args)


def fill(server: Sshd, count: int) -> None:
    for number in range(count):
        server.put(f"in/{number:05}.txt", f"document number {number}".encode())


def test_files_are_sent_once_and_names_that_hurt_are_right_or_skipped(project: Project, server: Sshd) -> None:
    good = ["a b+c%2F.txt", "sub/\u00fc #?.txt", "Case.txt", "case.txt", "star*[x].txt"]
    for number, name in enumerate([*good, "bell\x07.txt"]):
        server.put(f"in/{name}", f"document {number}".encode())
    server.put("in/empty.txt", b"")
    (server.folder / "in/link.txt").symlink_to("case.txt")
    (server.folder / "in/up").symlink_to("..")
    (server.folder / "in" / b"latin\xe4.txt".decode("utf-8", "surrogateescape")).write_bytes(b"latin")
    outcome = apply(project, server, "--json")
    assert outcome.code == 3, outcome.text
    assert {line["path"].removeprefix(f"{server.url}/in/") for line in project.documents} == set(good)
    skipped = {item["path"].removeprefix(f"{server.url}/in/"): item["reason"] for item in outcome.json["skipped"]}
    reasons = {
        "bell\\x07.txt": "name",
        "empty.txt": "empty",
        "link.txt": "unreadable",
        "up": "unreadable",
        "latin\\xe4.txt": "name",
    }
    assert skipped == reasons
    project.forget_requests()
    assert (apply(project, server).code, project.sent()) == (3, [])
    check_paid_once(project.fake, len(good))


def test_large_file_is_sent_in_parts_and_one_that_changes_or_vanishes_is_noticed(
    project: Project, server: Sshd, proxy: Proxy
) -> None:
    project.change_spec("[limits]", "[limits]\npart_threshold_mb = 0.5")
    server.put("in/large.txt", b"large" * 300_000)
    fill(server, 3)

    def vanish(call: Call) -> Answer:
        server.delete("in/00001.txt")
        return call.forward()

    def overwrite(call: Call) -> Answer:
        server.put("in/00002.txt", b"other bytes, and more of them")
        return call.forward()

    proxy.on("POST", BATCHES, vanish)
    proxy.on("PUT", f"{FILE[:-5]}00002.txt", overwrite)
    outcome = apply(project, server)
    assert (outcome.code, "00001.txt: vanished" in outcome.out) == (3, True), outcome.text
    check_paid_once(project.fake, 3)
    assert apply(project, server).code == 0
    check_paid_once(project.fake, 3)


def test_server_that_goes_away_is_a_clear_error_and_nothing_is_lost(
    project: Project, server: Sshd, proxy: Proxy
) -> None:
    fill(server, 4)

    def stop(call: Call) -> Answer:
        server.stop()
        return call.forward()

    proxy.on("POST", BATCHES, stop)
    outcome = apply(project, server)
    assert outcome.code == 4, outcome.text
    assert "apply again; nothing is lost" in outcome.text
    assert apply(project, server).code == 4
    server.start()
    assert apply(project, server).code == 0
    check_paid_once(project.fake, 4)


def test_connection_that_breaks_is_opened_again(project: Project, server: Sshd, proxy: Proxy, patient: None) -> None:
    fill(server, 4)

    def restart(call: Call) -> Answer:
        server.stop()
        server.start()
        return call.forward()

    proxy.on("POST", BATCHES, restart)
    outcome = apply(project, server)
    assert outcome.code == 0, outcome.text
    check_paid_once(project.fake, 4)


def test_connection_that_breaks_while_a_file_is_read_is_opened_again(
    project: Project, server: Sshd, proxy: Proxy, patient: None
) -> None:
    project.change_spec("[limits]", "[limits]\npart_threshold_mb = 0.5")
    data = bytes(range(256)) * 4 * 1024 * 24
    server.put("in/large.txt", data)

    def restart(call: Call) -> Answer:
        server.stop()
        server.start()
        return call.forward()

    proxy.on("PUT", "/v2/batches/multipart-upload/.*/parts/1", restart)
    outcome = apply(project, server)
    assert outcome.code == 0, outcome.text
    assert [line["sha256"] for line in project.documents] == [hashlib.sha256(data).hexdigest()]
    check_paid_once(project.fake, 1)


def test_unknown_host_and_missing_key_and_folder_are_refused(project: Project, server: Sshd) -> None:
    fill(server, 1)
    keys = server.folder.parent / "home/.ssh"
    (keys / "known_hosts").write_text("")
    unknown = apply(project, server)
    assert (unknown.code, "host key" in unknown.err.lower()) == (4, True), unknown.text
    server.trust()
    (keys / "id_ed25519").rename(keys / "away")
    nobody = apply(project, server)
    assert (nobody.code, "credentials" in nobody.err) == (4, True), nobody.text
    (keys / "away").rename(keys / "id_ed25519")
    project.change_spec("/in/", "/none/")
    nothing = apply(project, server)
    assert (nothing.code, "no file matches" in nothing.err) == (2, True)
    assert project.sent() == []
