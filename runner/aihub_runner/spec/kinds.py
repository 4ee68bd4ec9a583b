"""Kinds of values: what a key of a spec accepts, as a check that finds all flaws at once, and as JSON Schema.

Why not pydantic: importing it and building the models takes longer than everything else that `validate` does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

from msgspec import Struct

Key = tuple[str | int, ...]
Check = Callable[[Any], Any]  # returns the value, or raises ValueError with what is wrong
T = TypeVar("T")
REQUIRED: Any = object()


class Flaw(NamedTuple):
    """A value that a key does not accept. `kind` says why, `is_name` that it is the name of a free key."""

    key: Key
    kind: str
    value: Any
    context: Mapping[str, Any] = {}
    is_name: bool = False


class Kind(Struct, frozen=True):
    """What a key accepts. `read` returns the value to use, and adds the flaws that it finds."""

    read: Callable[[Any, Key, list[Flaw]], Any]
    schema: Mapping[str, Any]
    model: Any = None  # the class of a table


class Field(NamedTuple):
    """What a table says about one of its keys."""

    kind: Kind
    default: Any
    description: str

    @property
    def is_required(self) -> bool:
        """Whether the table must have it."""
        return self.default is REQUIRED


def key(kind: Kind, default: Any = REQUIRED, description: str = "") -> Any:
    """Declare a field of a table. Without a default, it is required."""
    return Field(kind, default, description)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Table:
    """A table with the keys that a subclass declares. It cannot be changed.

    Why not a dataclass: each takes a millisecond to define, at every start.
    """

    fields: ClassVar[Mapping[str, Field]] = {}

    def __init_subclass__(cls) -> None:
        cls.fields = {name: one for name, one in vars(cls).items() if isinstance(one, Field)}

    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - self.fields.keys():
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        for name, one in self.fields.items():
            if name not in given and one.is_required:
                raise TypeError(f"{type(self).__name__} needs {name}")
            default = dict(one.default) if isinstance(one.default, dict) else one.default
            vars(self)[name] = given.get(name, default)
        self.check()

    def check(self) -> None:
        """Raise ValueError if the values of several keys do not fit together."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def read_table(model: Callable[..., T], content: Any, at: Key, flaws: list[Flaw]) -> T | None:
    """Return a table as an instance of its class. Returns None if it has flaws, and adds them."""
    if not isinstance(content, dict):
        flaws.append(Flaw(at, "model_type", content))
        return None
    before, values, known = len(flaws), {}, list_keys(model)
    for name, kind in known.items():
        if name in content:
            values[name] = kind.read(content[name], (*at, name), flaws)
        elif name in list_required(model):
            flaws.append(Flaw((*at, name), "missing", content))
    flaws += [Flaw((*at, name), "extra_forbidden", content[name]) for name in content if name not in known]
    return _checked([lambda given: model(**given)], values, at, flaws) if len(flaws) == before else None


def list_keys(model: Any) -> dict[str, Kind]:
    """List the keys of a table, and what each accepts."""
    return {name: one.kind for name, one in model.fields.items()}


def list_required(model: Any) -> list[str]:
    """List the keys that a table must have."""
    return [name for name, one in model.fields.items() if one.is_required]


def list_tables(model: Any, at: Key = ()) -> dict[Key, Any]:
    """List the tables of a spec: itself and all tables below it."""
    found = {at: model}
    for name, kind in list_keys(model).items():
        if kind.model:
            found |= list_tables(kind.model, (*at, name))
    return found


def render_schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of a table, for editors and for the reference."""
    properties = {}
    for name, one in model.fields.items():
        about = {"description": one.description} if one.description else {}
        if isinstance(one.default, str | int | float | tuple) and one.default not in ("", ()):
            about["default"] = list(one.default) if isinstance(one.default, tuple) else one.default
        properties[name] = {**one.kind.schema, **about}
    required = list_required(model)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _checked(checks: Any, value: Any, at: Key, flaws: list[Flaw]) -> Any:
    """Return what the checks make of a value, and add the flaw of the first that refuses it."""
    for check in checks:
        try:
            value = check(value)
        except ValueError as error:
            flaws.append(Flaw(at, "value_error", value, {"error": str(error)}))
            return None
    return value


def string(*checks: Check, shortest: int = 0, longest: int | None = None, pattern: str = "") -> Kind:
    """Return the kind of a string."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if not isinstance(value, str):
            flaws.append(Flaw(at, "string_type", value))
        elif len(value) < shortest:
            flaws.append(Flaw(at, "string_too_short", value))
        elif longest is not None and len(value) > longest:
            flaws.append(Flaw(at, "string_too_long", value, {"max_length": longest}))
        elif pattern and not re.fullmatch(pattern, value):
            flaws.append(Flaw(at, "string_pattern_mismatch", value))
        else:
            return _checked(checks, value, at, flaws)
        return None

    limits = {"minLength": shortest or None, "maxLength": longest, "pattern": f"^{pattern}$" if pattern else None}
    return Kind(read, {"type": "string", **{name: limit for name, limit in limits.items() if limit is not None}})


def number(*, most: float = math.inf) -> Kind:
    """Return the kind of a finite number greater than 0."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            flaws.append(Flaw(at, "float_type", value))
            return None
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            flaws.append(Flaw(at, "finite_number", value))
        elif found <= 0:
            flaws.append(Flaw(at, "greater_than", value, {"gt": 0}))
        elif found > most:
            flaws.append(Flaw(at, "less_than_equal", value, {"le": most}))
        return found

    return Kind(read, {"type": "number", "exclusiveMinimum": 0} | ({"maximum": most} if most < math.inf else {}))


def integer(least: int, most: int | None = None) -> Kind:
    """Return the kind of a whole number."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            flaws.append(Flaw(at, "int_type", value))
        elif value < least:
            flaws.append(Flaw(at, "greater_than_equal", value, {"ge": least}))
        elif most is not None and value > most:
            flaws.append(Flaw(at, "less_than_equal", value, {"le": most}))
        return value

    return Kind(read, {"type": "integer", "minimum": least} | ({"maximum": most} if most is not None else {}))


def flag() -> Kind:
    """Return the kind of true or false."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if not isinstance(value, bool):
            flaws.append(Flaw(at, "bool_type", value))
        return value

    return Kind(read, {"type": "boolean"})


def flag_or(word: str) -> Kind:
    """Return the kind of true, false or one word."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if not isinstance(value, bool) and value != word:
            flaws.append(Flaw(at, "literal_error", value, {"expected": f"true, false or {word!r}"}))
        return value

    return Kind(read, {"enum": [True, False, word]})


def choice(*values: str) -> Kind:
    """Return the kind of one of a few words."""
    *others, last = map(repr, values)

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if value not in values:
            flaws.append(Flaw(at, "literal_error", value, {"expected": f"{', '.join(others)} or {last}"}))
        return value

    return Kind(read, {"type": "string", "enum": list(values)})


def listed(kind: Kind, *checks: Check, or_one: bool = False) -> Kind:
    """Return the kind of a list, read as a tuple. With `or_one`, a string stands for a list with it alone."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        values = [value] if or_one and isinstance(value, str) else value
        if not isinstance(values, list):
            flaws.append(Flaw(at, "tuple_type", value))
            return None
        before = len(flaws)
        found = tuple(kind.read(one, (*at, number), flaws) for number, one in enumerate(values))
        return _checked(checks, found, at, flaws) if len(flaws) == before else None

    schema = {"type": "array", "items": kind.schema}
    return Kind(read, {"anyOf": [{"type": "string"}, schema]} if or_one else schema)


def mapping(name: Kind, kind: Kind | None = None) -> Kind:
    """Return the kind of a table with free keys. Without `kind`, its values are free, too."""

    def read(value: Any, at: Key, flaws: list[Flaw]) -> Any:
        if not isinstance(value, dict):
            flaws.append(Flaw(at, "dict_type", value))
            return None
        found = {}
        for one, inner in value.items():
            of_name: list[Flaw] = []
            name.read(one, (*at, one), of_name)
            flaws += [flaw._replace(is_name=True) for flaw in of_name]
            found[one] = kind.read(inner, (*at, one), flaws) if kind else inner
        return found

    names = {"propertyNames": name.schema} if "pattern" in name.schema else {}
    return Kind(read, {"type": "object", **names, "additionalProperties": kind.schema if kind else True})


def table(model: Any) -> Kind:
    """Return the kind of a table, read as an instance of its class."""
    return Kind(lambda value, at, flaws: read_table(model, value, at, flaws), render_schema(model), model)
