"""Facts that are only loaded when something asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any


class Later(Mapping[str, Any]):
    """The mapping at one place of what `load` returns; it is called once, at the first use."""

    def __init__(self, load: Callable[[], Sequence[Mapping[str, Any]]], place: int) -> None:
        self._load, self._place = load, place

    @cached_property
    def _found(self) -> Mapping[str, Any]:
        return self._load()[self._place]

    def __getitem__(self, name: str) -> Any:
        return self._found[name]

    def __repr__(self) -> str:
        return repr(self._found)  # plans in files bind what facts look like

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)
