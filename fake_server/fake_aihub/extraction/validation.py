"""Validate packs and fixtures. Report all mistakes at once, each with the allowed values."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

SHOWN = 60


class ScenarioError(ValueError):
    """Invalid packs or fixtures. The message has a line for each mistake, with its file and key."""


class Table(BaseModel):
    """A strict, frozen table: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Checked = TypeVar("Checked", bound=BaseModel)


def check(kind: type[Checked], content: Any, file: str) -> Checked:
    """Return the validated content of a file. Raises ScenarioError with the file, key, value and what is allowed."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise ScenarioError("\n".join(f"{file}: {_explain(kind, mistake)}" for mistake in mistakes)) from None


def _explain(kind: type[BaseModel], mistake: Any) -> str:
    key = _render_key(mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        known = _known_keys(kind, mistake["loc"][:-1])
        near = difflib.get_close_matches(str(mistake["loc"][-1]), known, 1)
        return f"{key}: unknown key; " + (f"did you mean {near[0]}? " if near else "") + f"allowed: {', '.join(known)}"
    if mistake["type"] == "missing":
        return f"{key}: missing key"
    if mistake["type"] == "value_error" and isinstance(mistake["input"], dict):
        return f"{key}: {mistake['ctx']['error']}"  # the error is about several keys and names them
    said = "must be a table" if mistake["type"] == "model_type" else mistake["msg"]
    said = said.removeprefix("Value error, ").removeprefix("Input ").replace("should ", "must ", 1)
    return f"{key}: {said}, got {_show(mistake['input'])}"


def _render_key(loc: tuple[str | int, ...]) -> str:
    """Return a key in TOML notation. List entries are numbered from 1."""
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "the whole file"


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return f"a table of {len(value)} keys"
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _known_keys(kind: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    for part in loc:
        if isinstance(part, str):
            annotation = next(f.annotation for name, f in kind.model_fields.items() if part in (name, f.alias))
            kind = next(_tables(annotation))
    return [field.alias or name for name, field in kind.model_fields.items()]


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the table types in an annotation such as `list[X] | None`."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    if get_origin(annotation) in (list, Union, UnionType):
        for inner in get_args(annotation):
            yield from _tables(inner)
