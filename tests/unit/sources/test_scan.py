"""Scanning local files: what is taken, what is skipped, what is never a source."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from aihub_runner.errors import InputError
from aihub_runner.model import MB, Allowed, CachedDigest, CacheRow, Scan
from aihub_runner.sources.exclude import check_inside
from aihub_runner.sources.scan import scan_sources
from aihub_runner.sources.walk import find_files
from aihub_runner.spec.parsing import parse_spec
from aihub_runner.spec.patterns import compile_globs

NOBODY = 65_534
NOW_NS = 1_800_000_000_000_000_000


def scan(
    folder: Path, files: str, cache: dict[str, CachedDigest] | None = None, extra: str = "", *, outside: bool = False
) -> Scan:
    spec = parse_spec(f'files = {files}\napp_name = "A"\n{extra}', Path("job.toml"))
    return scan_sources(spec, folder / "job.toml", rows(cache or {}), now_ns=NOW_NS, allowed=Allowed(outside))


def rows(cache: dict[str, CachedDigest]) -> list[CacheRow]:
    """Return a stat cache as the state would."""
    return [(path, one.digest, one.scanned_ns, *astuple(one.stat)) for path, one in sorted(cache.items())]


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
    assert found.skipped == ()


def test_what_cannot_be_sent_is_skipped_with_its_reason(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.wav", "README")
    write(tmp_path, "empty.txt", content="")
    write(tmp_path, "large.csv", content="x" * 2000)
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    found = scan(tmp_path, '"**/*"', extra="[limits]\nspreadsheet_size_mb = 0.001\n")
    assert paths(found) == ["a.txt"]
    assert [(item.path, item.reason) for item in found.skipped] == [
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
    assert [item.reason for item in found.skipped] == ["too large"]


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
    scan_sources(spec, tmp_path / "job.toml", (), now_ns=time.time_ns(), on_progress=lambda *far: told.append(far))
    assert told[-1] == (2, 2, 10, 10)


def told(folder: Path, files: str, extra: str = "", **how: bool) -> InputError:
    with pytest.raises(InputError) as caught:
        scan(folder, files, extra=extra, **how)
    return caught.value


NAMES = st.sampled_from(["a", "b", "A.txt", "b.TXT", ".c", "d*", "ä", "a\u0308", "x.fake", "e\n", os.fsdecode(b"\xe9")])
PATTERNS = st.sampled_from(
    ["**", "*", "**/*.txt", "a/*", "*/b/**", "a/**/b", ".*", "**/.*/**", "../**", "b/", "d\\*", "{a,b}/{a,b}*", "ä/*"]
)
LEFT_OUT = st.sampled_from(["!a", "!**/b", "!*.txt", "!a/**", "!**/.*", "!../**/A.txt"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=8),
    st.lists(PATTERNS, min_size=1, max_size=3),
    st.lists(LEFT_OUT, max_size=2),
)
@pytest.mark.slow
def test_walk_finds_exactly_what_the_patterns_match(
    tree: list[list[str]], patterns: list[str], left_out: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as top:
        folder = Path(os.path.realpath(top), "w/specs")
        folder.mkdir(parents=True)
        for names in tree:
            with contextlib.suppress(OSError):  # a file stands where a folder is wanted
                write(folder if names[-1] != "b" else folder.parent, "/".join(names))
        everything = [
            os.path.relpath(os.path.join(at, name), folder) for at, _, files in os.walk(folder.parent) for name in files
        ]
        take, leave = compile_globs([*patterns, *left_out], str(folder))
        expected = {path for path in everything if take.matches(path) and not leave.matches(path)}
        # `../specs/a` is another way to write `a`.
        expected |= {
            path
            for path in everything
            if take.matches(f"../specs/{path}") and not leave.matches(f"../specs/{path}") and not leave.matches(path)
        }
        found = find_files([*patterns, *left_out], str(folder), folder / "job.toml", allow_outside=True)
        assert found.paths == expected
        assert found.skipped == set()


@pytest.mark.parametrize("files", ['["in/*", "in/../in/*", "./in/*.txt"]', '["in/*", "../job/in/*", "../*/in/*"]'])
def test_file_that_several_patterns_select_is_one_source(tmp_path: Path, files: str) -> None:
    write(tmp_path, ".git/HEAD", "job/in/a.txt")
    assert paths(scan(tmp_path / "job", files)) == ["in/a.txt"]


def test_absolute_pattern_finds_files_under_their_relative_paths(tmp_path: Path) -> None:
    write(tmp_path, "job/in/a.txt", "out/b.txt")
    files = f'["{tmp_path}/job/in/*", "{tmp_path}/out/*"]'
    assert paths(scan(tmp_path / "job", files, outside=True)) == ["../out/b.txt", "in/a.txt"]
    assert "leads outside" in told(tmp_path / "job", files).message


def test_spec_in_a_symlinked_folder_scans_where_the_link_leads(tmp_path: Path) -> None:
    write(tmp_path, "real/deep/job/in/a.txt", "real/deep/b.txt", "b.txt")
    (tmp_path / "job").symlink_to("real/deep/job")
    assert paths(scan(tmp_path / "job", '["in/*", "../b.txt"]', outside=True)) == ["../b.txt", "in/a.txt"]


@pytest.mark.parametrize(
    "files", ['".git/**"', '"out/raw/*"', '"job.fake/**"', '"sub/.git/*"', '"**/*"', '"link.*"', '"{r,g,e,s}-link/**"']
)
def test_our_own_files_are_no_sources_by_any_way(tmp_path: Path, files: str) -> None:
    write(tmp_path, ".git/a.txt", "sub/.git/a.txt", "out/.aihub-results", "out/raw/b.json", "job.fake/c.txt", ".env")
    write(tmp_path, "job.toml", "other.toml", content='files = "x"\napp_id = "A"\n')
    write(tmp_path, "broken.toml", content='files = "x"\napp_id = "A\n')
    for name, target in {"txt": ".env", "md": "other.toml", "json": "out/raw/b.json", "csv": ".git/a.txt"}.items():
        (tmp_path / f"link.{name}").symlink_to(target)
    for name, target in {"r": "out/raw", "g": ".git", "e": "job.fake", "s": "sub/.git"}.items():
        (tmp_path / f"{name}-link").symlink_to(target)
    assert "no file matches" in told(tmp_path, files, '[limits]\non_unsupported = "send"\n').message


def test_spec_is_no_source_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path, "job.txt", "a.txt")
    spec = parse_spec('files = "*"\napp_name = "A"\n', Path("job.txt"))
    assert paths(scan_sources(spec, tmp_path / "job.txt", (), now_ns=NOW_NS)) == ["a.txt"]


def test_pipe_that_looks_like_a_spec_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.toml")
    os.mkfifo(tmp_path / "pipe.txt")
    found = scan(tmp_path, '"*"')
    assert [(item.path, item.reason) for item in found.skipped] == [
        ("pipe.toml", "unsupported type"),
        ("pipe.txt", "unreadable"),
    ]


def test_links_that_lead_nowhere_or_to_themselves_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    (tmp_path / "self.txt").symlink_to("self.txt")
    found = scan(tmp_path, '"*"')
    assert [(item.path, item.reason) for item in found.skipped] == [
        ("gone.txt", "vanished"),
        ("self.txt", "unreadable"),
    ]


def test_linked_folder_is_entered_where_a_pattern_names_it(tmp_path: Path) -> None:
    write(tmp_path, "in/a.txt")
    (tmp_path / "link").symlink_to("in")
    assert paths(scan(tmp_path, '"link/*"')) == ["link/a.txt"]
    assert paths(scan(tmp_path, '["*/*", "**/*"]')) == ["in/a.txt"]


def test_all_that_leads_outside_is_listed(tmp_path: Path) -> None:
    write(tmp_path, "out/a.txt", "job/in/b.txt")
    (tmp_path / "job/in/x.txt").symlink_to("../../out/a.txt")
    (tmp_path / "job/y").symlink_to("../out")
    error = told(tmp_path / "job", '["in/*", "y/*", "../out/*", "/nowhere/*"]')
    assert error.message == f"{tmp_path}/job/job.toml: files leads outside, ../out, /nowhere/*, in/x.txt, y"
    assert error.hint == "pass --allow-outside to allow it"
    assert paths(scan(tmp_path / "job", '["in/*", "!in/x.txt"]')) == ["in/b.txt"]


@contextlib.contextmanager
def as_plain_user() -> Iterator[None]:
    """Be a user who may not read everything, as root may."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_folder_that_cannot_be_listed_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:  # others cannot reach `tmp_path`
        folder = Path(name)
        folder.chmod(0o755)
        write(folder, "in/a.txt", "shut/b.txt", "c.txt")
        (folder / "shut").chmod(0)
        (folder / "c.txt").chmod(0)
        with as_plain_user():
            found = scan(folder, '"**/*"')
        (folder / "shut").chmod(0o700)
    assert paths(found) == ["in/a.txt"]
    assert [(item.path, item.reason) for item in found.skipped] == [("c.txt", "unreadable"), ("shut/", "unreadable")]


def test_folder_that_cannot_be_listed_for_its_name_is_told(tmp_path: Path) -> None:
    deep = "d" * 200
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):  # longer than any path may be
        os.mkdir(deep, dir_fd=at)
        at, above = os.open(deep, os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    write(tmp_path, "a.txt")
    found = scan(tmp_path, '"**/*"')
    assert paths(found) == ["a.txt"]
    assert [item.reason for item in found.skipped] == ["unreadable"]


def test_names_that_cannot_be_shown_are_escaped(tmp_path: Path) -> None:
    write(tmp_path, os.fsdecode(b"a\xff.txt"), "b\x1b[31m.txt", "c\n.txt", "d ü.txt")
    found = scan(tmp_path, '"*"')
    assert paths(found) == ["d ü.txt"]
    assert [(item.path, item.reason) for item in found.skipped] == [
        ("a\\xff.txt", "name"),
        ("b\\x1b[31m.txt", "name"),
        ("c\\n.txt", "name"),
    ]


@pytest.mark.parametrize(
    ("choice", "sources", "aside"),
    [("report", ["a.txt"], ["b.wav", "c"]), ("ignore", ["a.txt"], []), ("send", ["a.txt", "b.wav", "c"], [])],
)
def test_unsupported_types_are_treated_as_the_spec_says(
    tmp_path: Path, choice: str, sources: list[str], aside: list[str]
) -> None:
    write(tmp_path, "a.txt", "b.wav", "c")
    found = scan(tmp_path, '"*"', extra=f'[limits]\non_unsupported = "{choice}"\n')
    assert (paths(found), [item.path for item in found.skipped]) == (sources, aside)


@pytest.mark.parametrize(
    ("files", "hint"),
    [('"*.pdf"', "check files in the spec, and that the documents exist"), ('"in"', 'set files = "in/**" to match')],
)
def test_no_file_at_all_is_an_error_with_a_way_out(tmp_path: Path, files: str, hint: str) -> None:
    write(tmp_path, "in/a.txt")
    error = told(tmp_path, files)
    assert error.message == f"{tmp_path}/job.toml: no file matches {files[1:-1]} in {os.path.realpath(tmp_path)}"
    assert error.hint.startswith(hint)
    assert error.exit_code == 2


def test_no_file_but_ignored_ones_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a.wav", "b.wav")
    assert "except 2 of unsupported types" in told(tmp_path, '"*"', '[limits]\non_unsupported = "ignore"\n').message


def test_file_that_is_written_after_the_last_scan_began_is_hashed(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", content="hello")
    entry = scan(tmp_path, '"*.txt"').cache["a.txt"]
    stale = replace(entry, digest="sha256:stale", scanned_ns=entry.stat.ctime_ns - 60_000_000_000)
    assert scan(tmp_path, '"*.txt"', {"a.txt": stale}).sources[0].digest != "sha256:stale"


def test_file_that_keeps_changing_is_skipped_and_one_that_rests_is_not(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt", content="x" * 2 * MB)
    grown: list[int] = []

    def grow(files: int, _: int, read: int, __: int) -> None:
        if files == 0 and read:
            grown.append(read)
            with (tmp_path / "a.txt").open("a") as file:
                file.write("y")

    spec = parse_spec('files = "*.txt"\napp_name = "A"\n', Path("job.toml"))
    found = scan_sources(spec, tmp_path / "job.toml", (), now_ns=NOW_NS, on_progress=grow)
    assert [(item.path, item.reason) for item in found.skipped] == [("a.txt", "vanished")]
    assert paths(found) == ["b.txt"]
    assert list(found.cache) == ["b.txt"]


def test_file_that_vanishes_or_becomes_a_pipe_while_others_are_read_is_skipped(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt", "c.txt", "d.txt")

    def remove(files: int, *_: int) -> None:
        if files == 1:
            (tmp_path / "b.txt").unlink(missing_ok=True)
            (tmp_path / "c.txt").unlink(missing_ok=True)
            os.mkfifo(tmp_path / "c.txt")

    spec = parse_spec('files = "*.txt"\napp_name = "A"\n', Path("job.toml"))
    found = scan_sources(spec, tmp_path / "job.toml", (), now_ns=NOW_NS, on_progress=remove)
    assert [(item.path, item.reason) for item in found.skipped] == [("b.txt", "vanished"), ("c.txt", "unreadable")]
    assert paths(found) == ["a.txt", "d.txt"]


def test_progress_never_goes_back_and_ends_at_the_total(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", content="x" * (3 * MB + 5))
    write(tmp_path, "b.txt", "c.txt", content="y")
    seen: list[tuple[int, int, int, int]] = []
    spec = parse_spec('files = "*.txt"\napp_name = "A"\n', Path("job.toml"))
    scan_sources(spec, tmp_path / "job.toml", (), now_ns=NOW_NS, on_progress=lambda *far: seen.append(far))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ((0, 3, 0, 3 * MB + 7), (3, 3, 3 * MB + 7, 3 * MB + 7))
    assert len(seen) < 10


def test_cached_files_are_not_reported_as_progress(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    cache = scan(tmp_path, '"*.txt"').cache
    spec = parse_spec('files = "*.txt"\napp_name = "A"\n', Path("job.toml"))
    seen: list[int] = []
    scan_sources(spec, tmp_path / "job.toml", rows(cache), now_ns=NOW_NS, on_progress=lambda *far: seen.extend(far))
    assert seen == []


def test_inside_is_judged_for_paths_that_do_not_exist_yet(tmp_path: Path) -> None:
    spec_path = tmp_path / "repo/specs/job.toml"
    write(tmp_path, "repo/.git/HEAD", "repo/specs/job.toml")
    (tmp_path / "repo/away").symlink_to(tmp_path)
    check_inside(spec_path.parent / "../results/x", spec_path, "results.dir", False)
    for path in ("repo/specs/../../x", "repo/away/x"):
        with pytest.raises(InputError, match=r"results\.dir leads outside"):
            check_inside(tmp_path / path, spec_path, "results.dir", False)
        check_inside(tmp_path / path, spec_path, "results.dir", True)


def test_entry_whose_kind_its_disk_does_not_tell_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems do not tell the kind in a listing, so that it is asked for, and may fail."""
    write(tmp_path, "a.txt", "b.txt")
    scandir, stat = os.scandir, os.stat

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def is_dir(self, *, follow_symlinks: bool = True) -> bool:
            if self.name == "b.txt":
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self._entry.is_dir(follow_symlinks=follow_symlinks)

        def is_symlink(self) -> bool:
            return self._entry.is_symlink()

    def failing(path: str, *args: object, **how: object) -> os.stat_result:
        if str(path).endswith("b.txt"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, *args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", failing)
    monkeypatch.setattr(os, "scandir", lambda path: contextlib.nullcontext(map(Entry, scandir(path))))
    found = scan(tmp_path, '"*.txt"')
    assert paths(found) == ["a.txt"]
    assert [(item.path, item.reason) for item in found.skipped] == [("b.txt", "unreadable")]
