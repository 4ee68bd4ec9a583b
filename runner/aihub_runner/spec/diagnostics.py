"""Describe the mistakes in a spec: all of them at once, each with its line, and never the value of a secret."""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from aihub_runner.errors import Range, SpecMistake
from aihub_runner.spec.excerpt import mask_values, render_excerpt
from aihub_runner.spec.kinds import Flaw, Key, list_keys
from aihub_runner.spec.urls import NO_CREDENTIALS, WRITE_SCHEME

# Tables whose keys are free, and tables whose values never appear in messages.
_FREE = (("run", "keys", "secret"), ("run", "pdf_passwords"), ("run", "webhook", "headers"))
_SILENT = (("run", "keys"), ("run", "pdf_passwords"), ("run", "webhook"))
_SECRET = re.compile(
    r"(^|_)(api_?key|access_key|private_key|token|bearer|authorization|passwords?|passwd|passphrase|pwd|secrets?"
    r"|credentials?)$"
)
_SHOWN = 60
TARGET_RULE = "up to 40 lower-case letters and digits, in words joined by single dashes, with a letter first"
_WRITE_TARGET = "rename it, for example to test or eu-west"
NAME_RULE = "1 to 100 letters, digits, '-', '_' and '.', but not only dots"


class Mistake(NamedTuple):
    """What is wrong at a key, and how to fix it. `code` names the kind of mistake."""

    key: Key
    what: str
    hint: str
    code: str = "invalid-value"


# Lines

_KEY = r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\w-]+)"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_STATEMENT = rf"[ \t]*(?:\[\[?[ \t]*(?P<table>{_DOTTED})[ \t]*\]\]?|(?P<key>{_DOTTED})[ \t]*=)"
_TOKEN = r'(?s)"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'|#[^\n]*|[\[\]{}\n]"


def find_ranges(text: str) -> dict[Key, Range]:
    """Find each `[table]` and `key =` in valid TOML. An approximation for messages, not a parser."""
    ranges: dict[Key, Range] = {}
    statement = re.compile(_STATEMENT)
    table: Key = ()
    for position, number in _find_statements(text):
        if match := statement.match(text, position):
            kind = "table" if match["table"] else "key"
            key = _split_key(match[kind])
            table, key = (key, key) if kind == "table" else (table, table + key)
            start, end = match.start(kind) - position + 1, match.end(kind) - position + 1
            ranges.setdefault(key, Range(number, start, end))
    return ranges


def _find_statements(text: str) -> Iterator[tuple[int, int]]:
    """Find the offset and line of each statement: of lines outside of lists, inline tables and multi-line strings."""
    number, depth = 1, 0
    yield 0, number
    for token in re.finditer(_TOKEN, text):
        number += token[0].count("\n")
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if token[0] == "\n" and depth == 0:
            yield token.end(), number


def _split_key(text: str) -> Key:
    return tuple(
        str(tomllib.loads(f"key = {part}")["key"]) if part[0] in "\"'" else part for part in re.findall(_KEY, text)
    )


def locate(mistakes: Iterable[Mistake], text: str, path: PurePath) -> list[SpecMistake]:
    """Return an error for each mistake, ordered by line."""
    ranges, lines = find_ranges(text), text.split("\n")
    placed = sorted(((_range_of(mistake.key, ranges), mistake) for mistake in mistakes), key=lambda pair: pair[0][:1])
    secret = {place.line for place, mistake in placed if mistake.code == "secret"}
    found = []
    for place, mistake in placed:
        at = place if place.line else None
        shown = lines[at.line - 1] if at else ""
        if place.line in secret or not _is_harmless(shown, mistake):
            shown = mask_values(shown)
        found.append(
            SpecMistake(
                str(path), mistake.what, mistake.hint, code=mistake.code, at=at, excerpt=render_excerpt(shown, at)
            )
        )
    return found


def _range_of(key: Key, ranges: Mapping[Key, Range]) -> Range:
    """Return where a key is, else a key below it, else its table; line 0 for the whole spec."""
    for end in range(len(key), 0, -1):
        if found := [place for known, place in ranges.items() if known[:end] == key[:end]]:
            return ranges.get(key[:end], min(found))
    return Range(0, 0, 0)


# The line itself


def _is_harmless(line: str, mistake: Mistake) -> bool:
    """Whether a line holds nothing secret: it is the name of a table, or one key that the model knows."""
    if line.lstrip().startswith("["):
        return True
    is_silent = any(mistake.key[: len(place)] == place for place in _SILENT)
    return "{" not in line.replace("${", "") and mistake.code not in ("secret", "unknown-key") and not is_silent


# Values that are of the right kind, and wrong all the same


def find_secrets(content: Any, known: Collection[Key], key: Key = ()) -> Iterator[Mistake]:
    """Find keys that look like secrets. A spec is committed, so it must not contain any."""
    if key and is_secret(key, known):
        hint = "remove it, rotate the secret, and set AIHUB_API_KEY or an AIHUB_SECRET_… variable instead"
        if key[:3] == ("run", "keys", "custom"):
            hint = "remove it, rotate the secret, and name its alias in the vault under [run.keys.secret]"
        yield Mistake(key, f"{key[-1]!r} looks like a secret, and specs are committed", hint, "secret")
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from find_secrets(value, known, (*key, name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from find_secrets(value, known, (*key, number))


def is_secret(key: Key, known: Collection[Key]) -> bool:
    """Whether a key looks like a secret, and is neither a key of specs nor the name of an alias."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|-", "_", str(key[-1])).lower()
    return _SECRET.search(name) is not None and key not in known and key[:-1] not in (*_FREE, ("targets",))


def find_not_json(value: Any, key: Key) -> Iterator[Mistake]:
    """Find values of TOML that JSON does not have."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from find_not_json(inner, (*key, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from find_not_json(inner, (*key, number))
    elif isinstance(value, datetime.date | datetime.time):
        yield Mistake(key, f"{dotted(key)} is a date or time, which JSON cannot hold", "put it in quotes")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Mistake(key, f"{dotted(key)} is not a finite number, {value}", "write a finite number")


# Values of the wrong kind


def explain(flaw: Flaw, tables: Mapping[Key, Any]) -> Mistake:
    """Describe a flaw. A value is shown only if it cannot be a secret."""
    key, kind, context = flaw.key, flaw.kind, flaw.context
    if kind == "extra_forbidden":
        return Mistake(key, f"unknown key {key[-1]!r}", _suggest(key, tables), "unknown-key")
    if kind == "missing":
        return Mistake(key, f"{dotted(key)} is missing", f"add {key[-1]}", "missing-key")
    if any(key[: len(place)] == place for place in _FREE[1:]) and not flaw.is_name:
        what = f"{dotted(key)} is a secret in plain text, or names a variable that a spec cannot read"
        return Mistake(key, what, 'write { env = "AIHUB_SECRET_…" }, and set that variable', "secret")
    if key[:1] == ("targets",) and flaw.is_name and kind != "value_error":
        return Mistake(key, f"{key[-1]!r} cannot be the name of a target, it is not {TARGET_RULE}", _WRITE_TARGET)
    if kind == "value_error":
        what = str(context["error"])
        return Mistake(key, f"{dotted(key)} {what}", _hint(key, what), _code_of(what))
    if key == ("name",) and kind.startswith("string_") and kind != "string_type":
        return Mistake(key, f"name is not {NAME_RULE}{_show(key, flaw.value)}", "set name in the spec")
    words, hint = _WORDS[kind]
    what = f"{dotted(key)} {words.format(**context)}{_show(key, flaw.value)}"
    return Mistake(key, what, hint.format(**context), "wrong-type" if kind.endswith("_type") else "invalid-value")


_WORDS = {
    "string_type": ("is not a string", "put it in quotes"),
    "string_too_short": ("is empty", "fill it in, or remove the key"),
    "string_too_long": ("is too long", "shorten it to {max_length} characters"),
    "string_pattern_mismatch": ("has an invalid format", "see docs/reference.md"),
    "int_type": ("is not an integer", "write a number without quotes and without a decimal point"),
    "float_type": ("is not a number", "write a number without quotes"),
    "finite_number": ("is not a finite number", "write a finite number"),
    "bool_type": ("is not true or false", "write true or false, without quotes"),
    "dict_type": ("is not a table", "write it as a table"),
    "model_type": ("is not a table", "write it as a table"),
    "tuple_type": ("is not a list", "put it in brackets, [ ]"),
    "greater_than": ("must be greater than {gt:.10g}", "use a larger number"),
    "greater_than_equal": ("must be at least {ge:.10g}", "use a larger number"),
    "less_than_equal": ("must be at most {le:.10g}", "use a smaller number"),
    "literal_error": ("is not {expected}", "write {expected}"),
}
_HINTS = {
    "is blank": "fill it in, or remove the key",
    "contains a user": NO_CREDENTIALS,
    "contains a query": NO_CREDENTIALS,
    "contains": "remove those characters",
    "has .. after": "write the folders in full, or move the spec",
    "expands to": "use fewer braces, or use * instead",
    "excludes": "add a pattern without a leading !",
    "are ": "shorten or remove some",
    "must not begin": "use another prefix",
    "is reserved": _WRITE_TARGET,
    "has ": "name each once",
    "chains": "name one place, without ::",
    "mixes": "write a spec for each",
    "names no files": "end it in /** for all files",
    "names a place": WRITE_SCHEME,
    "names a host": "write file:/// and an absolute path",
    "names no bucket": "write it in full, as in s3://bucket/folder/*.pdf",
    "names a folder": "write the folders in full",
    "is the folder": "use a separate folder, such as results",
    "have poll_min_s": "make poll_max_s the larger one",
}


def _code_of(what: str) -> str:
    """Return the kind of a mistake; the line of a secret is not shown."""
    return "secret" if what.startswith(("contains a user", "contains a query")) else "invalid-value"


def _hint(key: Key, what: str) -> str:
    if key == ("run", "webhook", "url"):
        return "use an https:// URL without a user and password"
    return next((hint for start, hint in _HINTS.items() if what.startswith(start)), "see docs/reference.md")


def dotted(key: Key) -> str:
    """Render a key as in TOML, and list entries by their number, from 1."""
    if key and isinstance(key[-1], int):
        return f"entry {key[-1] + 1} of {dotted(key[:-1])}"
    return ".".join(str(part) if re.fullmatch(r"[\w-]+", str(part), re.ASCII) else repr(part) for part in key)


_SHOW: dict[type, Callable[[Any], str]] = {
    str: lambda value: repr(value if len(value) <= _SHOWN else value[: _SHOWN - 1] + "…"),
    bool: lambda value: str(value).lower(),
    int: lambda value: str(value) if abs(value) < 10**_SHOWN else "a very large number",
    float: str,
    list: lambda value: "a list",
    dict: lambda value: "a table",
}


def _show(key: Key, value: Any) -> str:
    if any(key[: len(place)] == place for place in _SILENT) or value == "":
        return ""
    return f", {_SHOW.get(type(value), lambda _: 'a date or time')(value)}"


def _suggest(key: Key, tables: Mapping[Key, Any]) -> str:
    import difflib  # slow to import

    name, here = str(key[-1]), key[:-1]
    for table, model in tables.items():
        if name in list_keys(model) and table != here:
            where = f"in [{dotted(table)}]" if table else "at the top, before the first table"
            return f"it belongs {where}"
    if here in tables and (near := difflib.get_close_matches(name, list_keys(tables[here]), 1)):
        return f"did you mean {near[0]!r}?"
    return "remove it, or see docs/reference.md for all keys"
