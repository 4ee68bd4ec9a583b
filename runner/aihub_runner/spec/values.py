"""Kinds of strings and lists in a spec, and what each may hold. No I/O."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from urllib.parse import urlsplit

from aihub_runner.spec.kinds import number, string
from aihub_runner.spec.patterns import expand_pattern
from aihub_runner.spec.urls import check_one_place
from aihub_runner.spec.urls import check_url as check_place
from aihub_runner.text.escape import has_control_chars

# Not only dots: the name is also the name of the results folder.
NAME = r"[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*"
NAME_LENGTH = 100
TAGS_LENGTH = 380
TARGET_LENGTH = 40
OWN_TAG = "aihub-runner:"
RESERVED = ("secret", "var")  # a spec may name AIHUB_SECRET_… and AIHUB_VAR_…, and must not name the key of a target


def is_this_machine(host: str) -> bool:
    """Whether the host of a URL, in lower case, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_context(context: str) -> str:
    """Return the context. Raises ValueError if it cannot be sent in a header."""
    if not (context.isascii() and context.isprintable()) or context != context.strip():
        raise ValueError("contains invalid characters or spaces")
    return context


def check_text(text: str) -> str:
    """Return the text. Raises ValueError if it is blank or contains control characters."""
    if not text.strip():
        raise ValueError("is blank")
    if has_control_chars(text):
        raise ValueError("contains control characters")
    return text


def check_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError if it is none."""
    check_place(pattern.removeprefix("!"))
    expand_pattern(pattern.removeprefix("!"))
    return pattern


def check_files(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the patterns. Raises ValueError if they only exclude."""
    if all(pattern.startswith("!") for pattern in patterns):
        raise ValueError("excludes files, but includes none")
    check_one_place(patterns)
    return patterns


def check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags. Raises ValueError if they are too long, or ours."""
    if (length := sum(map(len, tags))) > TAGS_LENGTH:
        raise ValueError(f"are too long, {length} characters in total, at most {TAGS_LENGTH}")
    if any(tag.startswith(OWN_TAG) for tag in tags):
        raise ValueError(f"must not begin with {OWN_TAG}, which is reserved")
    return tags


def check_once(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values. Raises ValueError if one is there twice."""
    if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
        raise ValueError(f"has {twice[0]} twice")
    return values


def check_url(url: str) -> str:
    """Return the URL. Raises ValueError if the service should not call it."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "", parts.port)[0]
    except ValueError:
        raise ValueError("is not a URL") from None
    if not (host and url.isprintable()) or " " in url or "@" in parts.netloc:
        raise ValueError("is not a plain URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise ValueError("must begin with https://")
    return url


def check_results_dir(folder: str) -> str:
    """Return the folder. Raises ValueError if it is, or contains, that of the spec."""
    if set(posixpath.normpath(folder).split("/")) <= {".", "..", ""}:
        raise ValueError("is the folder of the spec, or contains it")
    return folder


def check_input_dir(folder: str) -> str:
    """Return the folder. Raises ValueError if it is not one of a drive."""
    names = folder.split("/")
    if len(names) < 6 or names[0] or names[3] != "fs" or {".", ".."} & {*names} or "" in names[1:-1]:
        raise ValueError("is not a folder of a drive, /<organization>/<workspace>/fs/<drive>/<folder>/")
    return folder


def check_target_name(name: str) -> str:
    """Return the name. Raises ValueError if its variables would be ones that a spec can name."""
    if name.split("-")[0] in RESERVED:
        raise ValueError(f"is reserved, a spec can name variables that begin with {name_variable(name, '')}")
    return name


def name_variable(target: str, name: str) -> str:
    """Return the name of a variable of a target, or of no target: `test` has AIHUB_TEST_API_KEY."""
    return "_".join(["AIHUB", *target.upper().split("-"), name] if target else ["AIHUB", name])


def check_header(name: str) -> str:
    """Return the name. Raises ValueError if it is not that of a header."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not a valid header name")
    return name


TEXT = string(check_text, shortest=1)
PATTERN = string(check_text, check_pattern, shortest=1)
RESULTS_DIR = string(check_text, check_results_dir, shortest=1)
TARGET_NAME = string(check_target_name, longest=TARGET_LENGTH, pattern=r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SECONDS = number(most=86_400)
MEGABYTES = number()
