"""S3 as moto's server shows it: keys that hurt, versions, and a store that fails."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aihub_runner.sources import stores
from aihub_runner.system.extras import EXTRAS
from support.stores import Bucket, S3Server
from support.world import check_paid_once, payments

from .conftest import Outcome, Project

pytestmark = pytest.mark.slow

GOOD_KEYS = [
    "plain.txt",
    "a b.txt",
    "a+b.txt",
    "a%2Fb.txt",
    "a%20b.txt",
    "\u00fcml\u00e4ut.txt",
    "u\u0308ml.txt",
    "\U0001f4c4.txt",
    "Case.txt",
    "case.txt",
    "sub/case.txt",
    "a;b&c=d?e#f.txt",
    "star*[x]{y}.txt",
    "quote'\".txt",
    "back\\slash.txt",
    f"{'long' * 60}.txt",
    f"{'deep/' * 40}x.txt",
]
SKIPPED_KEYS = {
    "empty.txt": "empty",
    "tool.exe": "unsupported type",
    "x//y.txt": "name",
    "x/../y.txt": "name",
    "x/./y.txt": "name",
    "bell\x07.txt": "name",
    "line\nbreak.txt": "name",
    "v?versionId=1.txt": "name",
}
LEFT_OUT = [
    "folder/",
    ".hidden.txt",
    ".env.txt",
    "job.lock.toml",
    "~$draft.docx",
    "old/.aihub-results",
    "old/raw/a.txt",
]


@pytest.fixture
def bucket(s3: S3Server, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket that the spec names. Attempts follow each other at once."""
    monkeypatch.setattr(stores, "PAUSES_S", (0.0, 0.0))
    made = Bucket(s3)
    project.env |= made.env
    project.change_spec('"in/**/*"', f'"{made.url}/in/**/*"')
    s3.clear()
    yield made
    s3.clear()


def apply(project: Project, bucket: Bucket, *args: str) -> Outcome:
    return project.apply("--allow-remote", bucket.url, *args)


def fill(bucket: Bucket, count: int) -> None:
    for number in range(count):
        bucket.put(f"in/{number:05}.txt", f"document number {number}".encode())


def test_keys_that_hurt_are_right_or_skipped_with_a_reason(project: Project, bucket: Bucket) -> None:
    for number, key in enumerate([*GOOD_KEYS, *SKIPPED_KEYS, *LEFT_OUT]):
        put = bucket.put if key in GOOD_KEYS else bucket.put_as_it_is
        put(f"in/{key}", b"" if key in ("empty.txt", "folder/") else f"document {number}".encode())
    outcome = apply(project, bucket, "--json")
    assert outcome.code == 3, outcome.text
    by_path = {line["path"]: line["sha256"] for line in project.documents}
    expected = {f"{bucket.url}/in/{key}": f"document {number}" for number, key in enumerate(GOOD_KEYS)}
    assert by_path == {path: hashlib.sha256(text.encode()).hexdigest() for path, text in expected.items()}
    skipped = {item["path"].removeprefix(f"{bucket.url}/in/"): item["reason"] for item in outcome.json["skipped"]}
    shown = {key.replace("\x07", "\\x07").replace("\n", "\\n"): why for key, why in SKIPPED_KEYS.items()}
    assert skipped == shown
    inside = [path for path in (project.folder / "results").rglob("*") if path.is_file()]
    assert all(path.resolve().is_relative_to(project.folder.resolve() / "results/job") for path in inside)
    check_paid_once(project.fake, len(GOOD_KEYS))


def test_second_apply_lists_and_reads_no_object(project: Project, bucket: Bucket) -> None:
    fill(bucket, 3)
    assert apply(project, bucket).code == 0
    assert len([uri for uri in bucket.server.reads() if "00001" in uri]) == 3  # HEAD, GET, HEAD
    bucket.server.clear()
    project.forget_requests()
    assert apply(project, bucket).code == 0
    assert (list(project.fake.journal), bucket.server.reads()) == ([], [])
    assert len(bucket.server.calls) == 1


def test_another_etag_of_the_same_bytes_is_read_and_sends_nothing(project: Project, bucket: Bucket) -> None:
    fill(bucket, 3)
    assert apply(project, bucket).code == 0
    bucket.put_in_parts("in/00001.txt", b"document number 1")
    bucket.server.clear()
    project.forget_requests()
    assert (apply(project, bucket).code, project.sent()) == (0, [])
    assert {uri.partition("?")[0][-9:] for uri in bucket.server.reads()} == {"00001.txt"}
    bucket.server.clear()
    assert (apply(project, bucket).code, bucket.server.reads()) == (0, [])


@pytest.mark.parametrize("size", [20, 1_500_000])
def test_object_that_is_overwritten_while_it_is_read_is_read_again(project: Project, bucket: Bucket, size: int) -> None:
    project.change_spec("[limits]", "[limits]\npart_threshold_mb = 0.5")
    old, new = b"o" * size, b"n" * size
    bucket.put("in/a.txt", old)
    seen: list[int] = []

    def overwrite() -> None:
        seen.append(1)
        if len(seen) == 1:
            bucket.put("in/a.txt", new)

    bucket.server.on("GET .*a.txt", overwrite)
    assert apply(project, bucket).code == 0
    assert len(seen) > 1
    assert [line["sha256"] for line in project.documents] == [hashlib.sha256(new).hexdigest()]
    check_paid_once(project.fake, 1)
    bucket.server.clear()
    assert (apply(project, bucket).code, bucket.server.reads()) == (0, [])


def test_object_that_is_overwritten_while_a_changed_one_is_hashed(project: Project, bucket: Bucket) -> None:
    bucket.put("in/a.txt", b"first")
    assert apply(project, bucket).code == 0
    bucket.put("in/a.txt", b"second")
    seen: list[int] = []

    def overwrite() -> None:
        seen.append(1)
        if len(seen) == 1:
            bucket.put("in/a.txt", b"third!")

    bucket.server.on("GET .*a.txt", overwrite)
    assert apply(project, bucket).code == 0
    assert [line["sha256"] for line in project.documents] == [hashlib.sha256(b"third!").hexdigest()]
    check_paid_once(project.fake, 2)


def test_slow_down_is_tried_again(project: Project, bucket: Bucket) -> None:
    fill(bucket, 3)
    left = iter([(503, "SlowDown")] * 2)
    bucket.server.on("(GET|HEAD) ", lambda: next(left, None))
    assert apply(project, bucket).code == 0
    check_paid_once(project.fake, 3)


@pytest.mark.parametrize("pattern", ["**/*.txt", "*.txt"])
def test_page_of_a_long_list_that_fails_is_asked_for_again(project: Project, bucket: Bucket, pattern: str) -> None:
    project.change_spec("/in/**/*", f"/in/{pattern}")
    for number in range(2_100):
        bucket.put_as_it_is(f"in/{number:05}.txt", b"some text")
    left = iter([(503, "SlowDown")] * 2)
    bucket.server.on("GET .*continuation-token", lambda: next(left, None))
    outcome = project.run("plan", "--allow-remote", bucket.url, "--json")
    assert (outcome.code, outcome.json["files"]) == (0, 2_100)
    assert len(bucket.server.calls) == 5


@pytest.mark.parametrize(
    ("answer", "words", "hint"),
    [
        ((503, "SlowDown"), "cannot be read, although it was tried again", "check the address and the network"),
        ((500, "InternalError"), "cannot be read, although it was tried again", "check the address and the network"),
        ((403, "AccessDenied"), "the store refuses to show it", "check the credentials and what they may read"),
        ((403, "ExpiredToken"), "the store refuses to show it", "check the credentials and what they may read"),
    ],
)
@pytest.mark.parametrize("where", ["GET .*list-type", "(GET|HEAD) .*0000[24]"])
def test_failing_store_is_a_clear_error_and_nothing_is_lost(
    project: Project, bucket: Bucket, answer: tuple[int, str], words: str, hint: str, where: str
) -> None:
    fill(bucket, 6)
    bucket.server.on(where, lambda: answer)
    outcome = apply(project, bucket)
    assert outcome.code == 4, outcome.text
    assert f"{bucket.url}/in" in outcome.text
    assert words in outcome.text
    assert hint in outcome.text
    assert payments(project.fake) == {}
    bucket.server.clear()
    assert apply(project, bucket).code == 0
    check_paid_once(project.fake, 6)
    arrived = [entry for entry in project.fake.journal if entry["operation"] == "addFileToBatch"]
    assert len(arrived) == 6, "a file was sent twice"


def test_paid_results_are_fetched_while_the_store_fails_and_nothing_is_paid(project: Project, bucket: Bucket) -> None:
    project.env["AIHUB_SECRET_PDF"] = "hidden"
    password = f'[run.pdf_passwords]\n"{bucket.url}/in/b.pdf" = {{ env = "AIHUB_SECRET_PDF" }}\n'
    project.change_spec("[limits]", f"{password}[limits]")
    fill(bucket, 2)
    bucket.put("in/b.pdf", b"%PDF- with a password")
    project.fake.next_run(after_polls=1)
    assert apply(project, bucket, "--no-wait").code == 6
    bucket.put("in/new.txt", b"new")
    bucket.server.on("GET .*list-type", lambda: (503, "SlowDown"))
    outcome = apply(project, bucket)
    assert (outcome.code, "SlowDown" in outcome.text) == (4, True), outcome.text
    assert [line["present"] for line in project.documents] == [True] * 3
    check_paid_once(project.fake, 3)
    bucket.server.clear()
    assert apply(project, bucket).code == 0
    check_paid_once(project.fake, 4)


def test_check_lists_and_reads_the_store(project: Project, bucket: Bucket) -> None:
    fill(bucket, 2)
    outcome = project.run("check", "--allow-remote", bucket.url)
    assert (outcome.code, f"{bucket.url}: lists 2 files, and shows them" in outcome.out) == (0, True), outcome.text
    bucket.server.on("(GET|HEAD) .*00000", lambda: (403, "AccessDenied"))
    refused = project.run("check", "--allow-remote", bucket.url)
    assert (refused.code, "the store refuses to show it" in refused.text) == (4, True), refused.text


def test_missing_bucket_wrong_port_and_missing_credentials_are_clear_errors(
    project: Project, bucket: Bucket, tmp_path: Path
) -> None:
    fill(bucket, 1)
    gone = f"{bucket.url}x"
    project.change_spec(bucket.url, gone)
    missing = project.apply("--allow-remote", gone)
    assert (missing.code, f"{gone}: does not exist" in missing.err) == (4, True)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    project.change_spec(gone, f"{gone}y")
    project.env["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    unreachable = project.apply("--allow-remote", f"{gone}y")
    assert (unreachable.code, "cannot be read, although it was tried again" in unreachable.err) == (4, True)
    project.change_spec(f"{gone}y", f"{gone}z")
    nothing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"}
    project.env |= nothing | {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": bucket.server.root}
    nobody = project.apply("--allow-remote", f"{gone}z")
    assert (nobody.code, "no valid credentials" in nobody.err, "profile" in nobody.err) == (4, True, True)
    assert project.sent() == []


def test_store_that_hangs_is_left_after_a_while(
    project: Project, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "READ_S", 0.2)
    fill(bucket, 2)
    ended = threading.Event()
    bucket.server.on("GET .*00001", lambda: ended.wait(20) and None)
    outcome = apply(project, bucket)
    ended.set()
    assert outcome.code == 4, outcome.text
    assert "cannot be read, although it was tried again" in outcome.text
    bucket.server.clear()
    assert apply(project, bucket).code == 0
    check_paid_once(project.fake, 2)


def test_missing_extra_names_the_command(project: Project, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "s3", ("no_such_module", "s3fs"))  # type: ignore[index]
    outcome = apply(project, bucket)
    assert outcome.code == 2
    assert "s3 needs s3fs, which is not installed" in outcome.err
    assert "pip install 'aihub-runner[s3]'" in outcome.err
