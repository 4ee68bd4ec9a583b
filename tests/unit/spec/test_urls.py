"""Patterns for files elsewhere: what may be written, where they begin, and what a prefix allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihub_runner.errors import SpecErrors
from aihub_runner.spec.parsing import parse_spec
from aihub_runner.spec.patterns import find_idle_parts
from aihub_runner.spec.urls import is_below, list_roots, parse_prefix, place_of

GOOD = [
    "s3://bucket/inbox/**/*.pdf",
    "s3://bucket/",
    "s3://bucket/**",
    "s3://bucket/a b+c%2F?.pdf",
    "s3://bucket/{a,b}/*.pdf",
    "gs://bucket/x.pdf",
    "az://container/x/*.pdf",
    "sftp://me@host:2222/in/*.pdf",
    "file:///data/in/",
]
BAD = {
    "http://host/a.pdf": "names a place that is not supported, http://",
    "https://host/a.pdf": "names a place that is not supported, https://",
    "S3://bucket/a.pdf": "names a place that is not supported, S3://",
    "{s3,gs}://bucket/a.pdf": "names a place that is not supported",
    "zip::s3://bucket/a.zip": "chains places with ::",
    "s3://bucket/a.zip::file:///etc/passwd": "chains places with ::",
    "s3://key:hidden@bucket/a.pdf": "contains a user or password",
    "https://me:hidden@host/a.pdf": "contains a user or password",
    "sftp://me:hidden@host/a.pdf": "contains a user or password",
    "gs://me@bucket/a.pdf": "contains a user or password",
    "az://container/a.pdf?sig=hidden": "contains a query",
    "s3://bucket/a.pdf?versionId=1": "contains a query",
    "s3://bucket": "names no files in it",
    "s3:///a.pdf": "names no bucket",
    "s3://*/a.pdf": "names no bucket",
    "s3://{a,b}/a.pdf": "names no bucket",
    "file://host/a.pdf": "names a host after file://",
    "s3://bucket/a/../b.pdf": "names a folder that is empty, . or ..",
    "s3://bucket/a//b.pdf": "names a folder that is empty, . or ..",
    "s3://bucket/./b.pdf": "names a folder that is empty, . or ..",
    "s3://bucket/{a,..}/b.pdf": "names a folder that is empty, . or ..",
    r"file:///data/\.\./etc/*": "names a folder that is empty, . or ..",
}


def spec(files: str) -> str:
    return f"files = {files}\napp_name = 'A'\n"


@pytest.mark.parametrize("pattern", GOOD)
def test_places_of_all_kinds_are_taken(pattern: str) -> None:
    assert parse_spec(spec(f"['{pattern}', '!{pattern}']"), Path("x.toml")).files[0] == pattern


@pytest.mark.parametrize("sign", ["", "!"])
@pytest.mark.parametrize("pattern", BAD)
def test_other_places_are_mistakes_that_show_the_line_but_no_secret(pattern: str, sign: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        parse_spec(spec(f"['in/*', '{sign}{pattern}']"), Path("x.toml"))
    [mistake] = caught.value.mistakes
    assert mistake.message.startswith(f"x.toml:1:1: entry 2 of files {BAD[pattern]}")
    assert mistake.hint != "see docs/reference.md"
    assert "^^^^^" in mistake.excerpt  # type: ignore[attr-defined]
    assert "hidden" not in mistake.message + mistake.hint + mistake.excerpt  # type: ignore[attr-defined]


def test_line_with_a_password_is_hidden_for_its_other_mistakes_too() -> None:
    with pytest.raises(SpecErrors) as caught:
        parse_spec(spec("['http://x/y', 's3://a:hidden@b/c']"), Path("x.toml"))
    assert len(caught.value.mistakes) == 2
    assert "hidden" not in "".join(mistake.excerpt for mistake in caught.value.mistakes)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "files", ["['s3://a/x', 's3://b/x']", "['s3://a/x', 'in/*']", "['s3://a/x', '!in/*']", "['gs://a/x', 's3://a/x']"]
)
def test_places_are_not_mixed(files: str) -> None:
    with pytest.raises(SpecErrors, match="files mixes places"):
        parse_spec(spec(files), Path("x.toml"))


def test_pages_elsewhere_cannot_be_limited() -> None:
    with pytest.raises(SpecErrors, match="max_pages needs local files"):
        parse_spec(spec("'s3://a/x.pdf'") + "[limits]\nmax_pages = 5\n", Path("x.toml"))


def test_roots_end_before_the_first_wildcard_and_the_name_of_the_file() -> None:
    assert list_roots(["s3://b/in/*/x/*.pdf", "!s3://b/in/tmp/**"]) == ["s3://b/in"]
    assert list_roots(["s3://b/a.pdf", "s3://b/x/*.pdf"]) == ["s3://b"]
    assert list_roots(["s3://b/{x,y}/*.pdf", "s3://b/x/z/*.pdf"]) == ["s3://b/x", "s3://b/y"]
    assert list_roots([r"s3://b/a\*b/*.pdf"]) == ["s3://b/a*b"]
    assert list_roots(["file:///data/in/*.pdf"]) == ["file:///data/in"]
    assert list_roots(["file:///*.pdf"]) == ["file:///"]
    assert place_of("sftp://host:22/a/b") == "sftp://host:22"


def test_prefixes_allow_by_whole_names() -> None:
    assert is_below("s3://b/inbox/a", parse_prefix("s3://b/inbox/"))
    assert is_below("s3://b/inbox", parse_prefix("s3://b"))
    assert is_below("file:///data", parse_prefix("file:///"))
    assert not is_below("s3://b/inbox2", parse_prefix("s3://b/inbox"))
    assert not is_below("s3://b2/inbox", parse_prefix("s3://b"))
    assert not is_below("s3://b", parse_prefix("s3://b/inbox"))
    for wrong in ("inbox", "http://x/", "s3://b/../c", "s3://a:b@c/", "s3://b//c"):
        with pytest.raises(ValueError, match=r"is|names|contains"):
            parse_prefix(wrong)


def test_parts_that_match_nothing_are_named_as_urls() -> None:
    busy, idle = find_idle_parts(["s3://b/{x,y}/*.pdf"], "/", ["s3://b/x/a.pdf"])
    assert (busy, idle) == (["s3://b/x/*.pdf"], ["s3://b/y/*.pdf"])
    assert find_idle_parts(["file:///b/{x,y}/*.pdf"], "/", [])[1] == ["file:///b/x/*.pdf", "file:///b/y/*.pdf"]
