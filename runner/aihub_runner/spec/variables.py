"""Values of a spec that are filled in: `${NAME}` by AIHUB_VAR_NAME, and whole keys by `--set`. Pure.

Only a few keys take them, so that no variable decides which files are sent, and none is sent where nobody expects it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from msgspec import Struct

from aihub_runner.spec.diagnostics import Mistake, dotted
from aihub_runner.spec.kinds import Key

PREFIX = "AIHUB_VAR_"
CUSTOM: Key = ("run", "keys", "custom")
# The keys, by the names that `--set` knows them by. What begins with the last one is a key of its own.
NAMES: Mapping[str, Key] = {
    "context": ("context",),
    "workspace": ("workspace",),
    "version": ("run", "version"),
    "deployment_id": ("deployment_id",),
    "output_workspace": ("run", "output_workspace"),
    "keys.custom": CUSTOM,
}
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Z][A-Z0-9_]*)\}|\$\{")
Find = Callable[[str], str | None]


class Filled(Struct, frozen=True):
    """Content with its values filled in, what they are by their keys, and which variables are missing."""

    content: dict[str, Any]
    values: Mapping[Key, str]
    unset: tuple[Mistake, ...]


def find_malformed(content: Mapping[str, Any]) -> Iterator[Mistake]:
    """Find `${` that is not a variable, in the keys of the spec and of its targets that take variables."""
    targets = content.get("targets")
    tables: dict[Key, Any] = {(): content}
    tables |= {("targets", name): table for name, table in (targets if isinstance(targets, dict) else {}).items()}
    for place, table in tables.items():
        for key, text in _list_texts(table):
            if any(match[0] == "${" for match in _REFERENCE.finditer(text)):
                what = f"{dotted((*place, *key))} has ${{ without a name in capitals and }} behind it"
                yield Mistake((*place, *key), what, "write ${NAME}, or $${ for ${ itself", "invalid-variable")


def fill(content: Mapping[str, Any], find: Find, given: Collection[Key] = ()) -> Filled:
    """Fill in the variables of content, but for keys that are `given`. A value is never expanded again."""
    filled, values, unset = dict(content), dict[Key, str](), list[Mistake]()

    def expand(key: Key, text: str) -> str:
        def put(match: re.Match[str]) -> str:
            if not match["name"]:
                return "${"
            variable = PREFIX + match["name"]
            value = find(variable)
            if not value:  # an empty context would mean the community account
                hint = "set it in the environment or in .env, or write $${ for ${ itself"
                unset.append(Mistake(key, f"{variable} is not set", hint, "unset-variable"))
            elif not is_utf8(value):
                unset.append(Mistake(key, f"{variable} is not UTF-8", "set it again", "unset-variable"))
            return value or ""

        return _REFERENCE.sub(put, text)

    for key, text in _list_texts(content):
        if "${" in text and key not in given:
            values[key] = expand(key, text)
            _put(filled, key, values[key])
    return Filled(filled, values, tuple(unset))


def is_utf8(text: str) -> bool:
    """Whether a text from outside can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_assignment(text: str) -> tuple[Key, str]:
    """Return key and value of a `--set`. Raises ValueError with what is wrong."""
    name, equals, value = text.partition("=")
    short = name.removeprefix("run.")
    key = NAMES.get(short) if short != "keys.custom" else None
    if short.startswith("keys.custom."):
        key = (*CUSTOM, short.removeprefix("keys.custom."))
    if not equals or key is None or (short in ("context", "workspace", "deployment_id") and short != name):
        known = ", ".join([*NAMES][:-1])
        raise ValueError(f"is not KEY=VALUE with one of the keys {known}, keys.custom.NAME")
    if not is_utf8(text):
        raise ValueError("is not UTF-8")
    return key, value


def nest(values: Mapping[Key, str]) -> dict[str, Any]:
    """Return values as the tables that they are in."""
    content: dict[str, Any] = {}
    for key, value in values.items():
        _put(content, key, value)
    return content


def _list_texts(content: Any) -> Iterator[tuple[Key, str]]:
    """List the texts of the keys that take variables."""
    for key in NAMES.values():
        value = content
        for name in key:
            value = value.get(name) if isinstance(value, dict) else None
        yield from _list_inner(key, value)


def _list_inner(key: Key, value: Any) -> Iterator[tuple[Key, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _list_inner((*key, name), inner)


def _put(content: dict[str, Any], key: Key, value: str) -> None:
    """Put a value at a key, in tables and lists of its own: those of others stay as they are."""
    table: Any = content
    for name in key[:-1]:
        inner = table.get(name) if isinstance(table, dict) else table[name]
        table[name] = [*inner] if isinstance(inner, list) else dict(inner) if isinstance(inner, dict) else {}
        table = table[name]
    table[key[-1]] = value
