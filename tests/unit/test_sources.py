"""Scanning local files: what is taken, what is set aside, what is never a source."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.model import CachedDigest, Scan
from runner.sources import scan_sources
from runner.spec import parse_spec

NOW_NS = 1_800_000_000_000_000_000


def scan(folder: Path, files: str, cache: dict[str, CachedDigest] | None = None, extra: str = "", **how: bool) -> Scan:
    spec = parse_spec(f'files = {files}\napp_name = "A"\n{extra}', Path("job.toml"))
    return scan_sources(spec, folder / "job.toml", cache or {}, now_ns=NOW_NS, **how)


def write(folder: Path, *paths: str, content: str = "x") -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)


def paths(found: Scan) -> list[str]:
    return [source.path for source in found.sources]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ('"**/*.pdf"', ["a.pdf", "in/b.PDF", "in/deep/c.pdf"]),
        ('"*.pdf"', ["a.pdf"]),
        ('"in/*"', ["in/b.PDF", "in/d.txt"]),
        ('"in/**/*"', ["in/b.PDF", "in/d.txt", "in/deep/c.pdf"]),
        ('"in/{b,d}.{pdf,txt}"', ["in/b.PDF", "in/d.txt"]),
        ('["**/*", "!in/**"]', ["a.pdf"]),
        ('["**/*.pdf", "!**/c.*"]', ["a.pdf", "in/b.PDF"]),
        ('["in/?.txt", "in/[a-d].pdf"]', ["in/b.PDF", "in/d.txt"]),
        ('"./in/*.txt"', ["in/d.txt"]),
        ('".hidden/*"', [".hidden/e.pdf"]),
    ],
)
def test_globs_take_what_they_say(tmp_path: Path, files: str, expected: list[str]) -> None:
    write(tmp_path, "a.pdf", "in/b.PDF", "in/deep/c.pdf", "in/d.txt", ".hidden/e.pdf", "in/.f.pdf")
    assert paths(scan(tmp_path, files)) == expected


def test_globs_match_whatever_the_normal_form(tmp_path: Path) -> None:
    write(tmp_path, "Gro\u0308ße.txt")
    assert paths(scan(tmp_path, '"Größe.txt"')) == ["Gro\u0308ße.txt"]


def test_our_own_files_are_never_sources(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "job.state.db.txt", "x.lock", ".env.txt", "out/.aihub-results", "out/b.txt")
    write(tmp_path, "job.fake/c.txt", ".git/d.txt", content="x")
    write(tmp_path, "job.toml", content='files = "x"\napp_name = "A"\n')
    write(tmp_path, "data.toml", content="x = 1\n")
    found = scan(tmp_path, '["**/*", "**/.*"]', extra='[limits]\non_unsupported = "send"\n')
    assert paths(found) == ["a.txt", "data.toml"]
    assert found.set_aside == ()


def test_what_cannot_be_sent_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.wav", "README")
    write(tmp_path, "empty.txt", content="")
    write(tmp_path, "large.csv", content="x" * 2000)
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    found = scan(tmp_path, '"**/*"', extra="[limits]\nspreadsheet_size_mb = 0.001\n")
    assert paths(found) == ["a.txt"]
    assert [(item.path, item.reason) for item in found.set_aside] == [
        ("README", "unsupported type"),
        ("b.wav", "unsupported type"),
        ("empty.txt", "empty"),
        ("gone.txt", "vanished"),
        ("large.csv", "too large"),
    ]


def test_limits_are_exact(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", content="x" * 1024 * 1024)
    assert paths(scan(tmp_path, '"*.txt"', extra="[limits]\nfile_size_mb = 1\n")) == ["a.txt"]
    write(tmp_path, "a.csv", content="x" * 1024 * 1024)
    found = scan(tmp_path, '"*.csv"', extra="[limits]\nspreadsheet_size_mb = 1\n")
    assert [item.reason for item in found.set_aside] == ["too large"]


def test_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    assert paths(scan(tmp_path, '"*"')) == ["a.txt"]


def test_circles_of_links_end(tmp_path: Path) -> None:
    write(tmp_path, "in/a.txt")
    (tmp_path / "in/self").symlink_to(tmp_path / "in")
    assert paths(scan(tmp_path, '"**/*"')) == ["in/a.txt"]


@pytest.mark.parametrize("files", ['"../*.txt"', '"/etc/*"', '"in/../../*.txt"'])
def test_what_leads_outside_is_refused(tmp_path: Path, files: str) -> None:
    write(tmp_path, "job/in/a.txt", "b.txt")
    with pytest.raises(InputError, match="leads outside"):
        scan(tmp_path / "job", files)


def test_outside_is_outside_the_work_tree(tmp_path: Path) -> None:
    write(tmp_path, "repo/.git/HEAD", "repo/specs/x.txt", "repo/b.txt")
    assert paths(scan(tmp_path / "repo/specs", '"../*.txt"')) == ["../b.txt"]


def test_digests_are_of_the_bytes_and_saved_by_the_cache(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", content="hello")
    first = scan(tmp_path, '"*.txt"')
    assert first.sources[0].digest == "sha256:" + hashlib.sha256(b"hello").hexdigest()
    stored = {path: replace(entry, digest="sha256:cached", scanned_ns=NOW_NS) for path, entry in first.cache.items()}
    assert scan(tmp_path, '"*.txt"', stored).sources[0].digest == "sha256:cached"


def test_cache_is_not_believed_after_a_change_or_right_after_a_touch(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", content="hello")
    entry = scan(tmp_path, '"*.txt"').cache["a.txt"]
    right = "sha256:" + hashlib.sha256(b"hello").hexdigest()
    racy = replace(entry, digest="sha256:stale", scanned_ns=entry.stat.ctime_ns + 1_000_000_000)
    assert scan(tmp_path, '"*.txt"', {"a.txt": racy}).sources[0].digest == right
    other = replace(entry, digest="sha256:stale", stat=replace(entry.stat, inode=entry.stat.inode + 1))
    assert scan(tmp_path, '"*.txt"', {"a.txt": other}).sources[0].digest == right


def test_passwords_belong_to_the_first_pattern_that_fits_a_pdf(tmp_path: Path) -> None:
    write(tmp_path, "in/a.pdf", "in/b.PDF", "in/c.txt")
    extra = '[run.pdf_passwords]\n"in/a.*" = { env = "AIHUB_SECRET_A" }\n"in/*" = { env = "AIHUB_SECRET_B" }\n'
    found = scan(tmp_path, '"in/*"', extra=extra)
    assert [source.password for source in found.sources] == ["AIHUB_SECRET_A", "AIHUB_SECRET_B", ""]
    assert found.sources[0].identity.endswith("+AIHUB_SECRET_A")


def test_scan_tells_how_far_it_is(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt", content="12345")
    told: list[tuple[int, int, int, int]] = []
    spec = parse_spec('files = "*.txt"\napp_name = "A"\n', Path("job.toml"))
    scan_sources(spec, tmp_path / "job.toml", {}, now_ns=time.time_ns(), on_progress=lambda *far: told.append(far))
    assert told[-1] == (2, 2, 10, 10)
