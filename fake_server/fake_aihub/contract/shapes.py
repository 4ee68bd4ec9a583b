"""The shapes of JSON objects. pydantic validates them.

A kind is the type of a value: a type, a union of types, a `Literal` of texts, `[kind]` for a list, or a mapping for an
object with known properties. `dict` is an object with arbitrary keys. A text in an `Annotated` kind says what is
allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge

Kind = Any
WORDS: Mapping[Kind, str] = {
    **{str: "a text", int: "a whole number", float: "a number", bool: "true or false"},
    **{dict: "an object", list: "a list"},
}
Count = Annotated[int, Ge(0), "a whole number from 0"]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in an object: the path of the key, its value, and what is allowed."""

    key: str
    problem: Literal["unknown", "missing", "wrong"]
    value: Any
    allowed: str

    def __str__(self) -> str:
        """Return a message without the value, which may be a secret."""
        return self._explain(f"{self.key} must be {self.allowed}.")

    def show(self) -> str:
        """Return a message with the value."""
        return self._explain(f"{self.key} is {self.value!r}; allowed: {self.allowed.removeprefix('one of ')}")

    def _explain(self, wrong: str) -> str:
        if self.problem == "missing":
            return f"{self.key} is required."
        return wrong if self.problem == "wrong" else f"unknown key {self.key!r}; allowed: {self.allowed}"


class Shape(dict[str, Kind]):
    """The kinds of an object's properties. All are optional unless `required`, also in a shape within a shape."""

    def __init__(self, kinds: Mapping[str, Kind], required: Iterable[str] = ()) -> None:
        super().__init__(kinds)
        self.required = tuple(required)

    @cached_property
    def model(self) -> Any:
        """The pydantic model."""
        return _model_of(self)

    def mistakes(self, value: Mapping[str, Any]) -> list[Mistake]:
        """List the mistakes in an object."""
        # Imported at the first use: pydantic takes as long to import as the fake takes to start.
        from pydantic import ValidationError

        try:
            self.model.model_validate(value)
        except ValidationError as error:
            return [self._locate(one) for one in error.errors(include_url=False)]
        return []

    def _locate(self, error: Mapping[str, Any]) -> Mistake:
        kind: Kind = self
        names: list[str] = []
        for part in error["loc"]:
            if isinstance(kind, Mapping):
                names.append(str(part))
                if part not in kind:
                    return Mistake(".".join(names), "unknown", error["input"], ", ".join(kind))
                kind = kind[part]
            elif isinstance(kind, list):
                kind = kind[0]
        problem: Any = "missing" if error["type"] == "missing" else "wrong"
        return Mistake(".".join(names), problem, error["input"], describe(kind))


def _model_of(kind: Kind) -> Any:
    """Return the pydantic type of a kind."""
    from pydantic import ConfigDict, create_model

    if isinstance(kind, list):
        return list[_model_of(kind[0])]  # type: ignore[misc]
    if not isinstance(kind, Mapping):
        return kind
    required = getattr(kind, "required", ())
    fields: Any = {name: (_model_of(one), ... if name in required else None) for name, one in kind.items()}
    return create_model("Shape", __config__=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False), **fields)


def is_digits(text: str) -> bool:
    """Return whether a text consists of ASCII digits."""
    return text.isascii() and text.isdigit()


def describe(kind: Kind) -> str:
    """Describe the values that a kind allows."""
    origin: Any = get_origin(kind)
    if origin is Annotated:
        return next((text for text in get_args(kind)[1:] if isinstance(text, str)), describe(get_args(kind)[0]))
    if origin is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if isinstance(kind, UnionType):
        return " or ".join(map(describe, get_args(kind)))
    if isinstance(kind, Mapping | list):
        kind = dict if isinstance(kind, Mapping) else list
    return WORDS[origin or kind]
