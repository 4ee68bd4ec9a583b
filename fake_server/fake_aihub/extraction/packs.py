"""Scenario packs: the classes and fields that an app returns, with confidences and failure rates.

A pack is a TOML file; docs/scenarios.md describes the format. All choices in a list are equally likely; repeat one to
make it more likely.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from fake_aihub.extraction.validation import ScenarioError, Table, check
from fake_aihub.files import read_regular


def _check_order(numbers: list[float]) -> list[float]:
    if numbers[0] > numbers[1]:
        raise ValueError("the first number must not be larger than the second")
    return numbers


Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, le=1)]
Scores = Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_check_order)]
Length = Annotated[float, Field(gt=0, le=20_000)]
Pages = Annotated[int, Field(ge=1, le=800)]


class FieldError(Table):
    """`error`: the field's value is ERROR."""

    rate: Share = Field(description="The share of affected fields, from 0 to 1.")
    message: Name = Field(description="Returned as `error_msg`.")


class Alert(Table):
    """`alert`: the field fails a validation, and so does its document."""

    rate: Share = Field(description="The share of affected fields, from 0 to 1.")
    message: Name = Field(description="Returned as `msg`.")
    type: Name = Field("rule", description="The type of the alert.")
    blocked: bool = Field(False, description="Whether the failure blocks the document. Not for cross-class fields.")


class Edit(Table):
    """`edit`: a reviewer has changed the field, or the class of the document."""

    rate: Share = Field(description="The share of affected fields or documents, from 0 to 1.")
    messages: list[str] = Field(
        [""], min_length=1, description="Each edit has one of these messages. An empty message becomes null."
    )


class Numbers(Table):
    """`number`: the value is a number."""

    low: float = Field(description="The least.")
    high: float = Field(description="The greatest.")
    decimals: int = Field(2, ge=0, le=6, description="Digits after the decimal point.")

    @model_validator(mode="after")
    def _check(self) -> Numbers:
        if self.low > self.high:
            raise ValueError(f"low must not be larger than high, got {self.low} and {self.high}")
        return self


class Dates(Table):
    """`date`: the value is a date."""

    first: date = Field(description="The earliest date, for example `2026-01-31`.")
    last: date = Field(description="The latest.")
    format: Name = Field("%Y-%m-%d", description="A format of `strftime`.")

    @model_validator(mode="after")
    def _check(self) -> Dates:
        if self.first > self.last:
            raise ValueError(f"first must not be after last, got {self.first} and {self.last}")
        return self


class PackField(Table):
    """`[[class.field]]`: the fields of the class, in order."""

    name: Name = Field(description="Returned as a Python identifier: `due date` becomes `due_date`.")
    type: Name = Field("TEXT", description="Returned unchanged.")
    values: list[str] = Field([], description="Choices for the value. Each `#` becomes a random digit.")
    number: Numbers | None = Field(None, description="Use it instead of `values`.")
    date: Dates | None = Field(None, description="Use it instead of `values`.")
    labels: list[Name] = Field([], description="Other labels for the value in the text of a file, besides `name`.")
    confidence: Scores = Field([0.6, 1.0], description="Lowest and highest confidence of the model.")
    ocr: Scores = Field([0.8, 1.0], description="Lowest and highest confidence of the OCR.")
    unscored: bool = Field(False, description="Whether both confidences are null.")
    error: FieldError | None = Field(None, description="How often the field fails.")
    alert: Alert | None = Field(None, description="How often its validation fails.")
    edit: Edit | None = Field(None, description="How often a reviewer has changed it.")

    @model_validator(mode="after")
    def _check(self) -> PackField:
        given = [name for name in ("values", "number", "date") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"exactly one of values, number and date is required, got {' and '.join(given) or 'none'}")
        return self


class PackClass(Table):
    """`[[class]]`: a class of documents."""

    name: Name | None = Field(None, description="If left out, the class and its confidence are null.")
    weight: int = Field(1, ge=1, le=1000, description="How likely the class is, relative to the others.")
    pages: list[Pages] = Field([1], min_length=1, description="Choices for the number of pages.")
    page_size: list[Length] = Field(
        [612.0, 792.0], min_length=2, max_length=2, description="Width and height of a page."
    )
    confidence: Scores = Field([0.7, 1.0], description="Lowest and highest confidence of the classification.")
    edit: Edit | None = Field(None, description="How often a reviewer has changed the class.")
    fields: list[PackField] = Field(alias="field", min_length=1, max_length=200, description="Its fields.")

    @model_validator(mode="after")
    def _check(self) -> PackClass:
        _check_unique("field", (field.name for field in self.fields))
        return self


class CrossField(Table):
    """`[[cross_class]]`: a cross-class field of the packet, returned in `case_info`."""

    name: Name = Field(description="Its name.")
    sources: list[Name] = Field(min_length=1, description='The source fields as "class/field", best first.')
    ranked: bool = Field(False, description="Whether to return all options and which one was chosen.")
    all_inputs_match: Name | None = Field(
        None, description="The message of the validation that fails if the sources differ."
    )
    alert: Alert | None = Field(None, description="How often another validation of it fails.")
    edit: Edit | None = Field(None, description="How often a reviewer has changed it.")


class Pack(Table):
    """Top level: the results of an app."""

    about: str = Field("", description="A description for people.")
    apps: list[Name] = Field(
        [], description="Names or ids of apps and deployments. `*` is a wildcard; case is ignored."
    )
    default: bool = Field(False, description="Whether the pack applies to apps that no pack matches.")
    documents: list[Annotated[int, Field(ge=0, le=50)]] = Field(
        [1], min_length=1, description="Choices for the number of documents in a file."
    )
    reviewed: Share = Field(0.0, description="The share of files whose review is complete.")
    reviewers: list[Name] = Field(["reviewer@example.com"], min_length=1, description="Who makes the edits.")
    classes: list[PackClass] = Field(alias="class", min_length=1, max_length=100, description="Its classes.")
    cross_class: list[CrossField] = Field([], description="Fields of a packet, derived from those of its documents.")

    @model_validator(mode="after")
    def _check(self) -> Pack:
        _check_unique("class", (one.name or "" for one in self.classes))
        known = self.sources()
        for source in (source for cross in self.cross_class for source in cross.sources):
            if source not in known:
                raise ValueError(f"cross_class: unknown source {source!r}; allowed: {', '.join(sorted(known))}")
        return self

    def sources(self) -> dict[str, tuple[str | None, str]]:
        """Return the class and name of each field, keyed by its name in cross-class sources."""
        return {
            f"{one.name or ''}/{field.name}": (one.name, field.name) for one in self.classes for field in one.fields
        }

    def answers_for(self, names: Iterable[str]) -> bool:
        """Return whether one of an app's names and ids matches one of the patterns."""
        return any(fnmatchcase(name.casefold(), app.casefold()) for name in names for app in self.apps)


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: duplicate name {name!r}")
        seen.add(name)


Packs = dict[str, Pack]


def load_packs(folder: Path | None = None) -> Packs:
    """Return your own packs, then the bundled ones, by name. Raises ScenarioError with all mistakes."""
    own = _load_folder(folder) if folder is not None else {}
    return own | {name: pack for name, pack in bundled_packs().items() if name not in own}


@cache
def bundled_packs() -> Packs:
    """Return the bundled packs."""
    return _load_folder(files("fake_aihub.extraction") / "scenarios")


def find_pack(packs: Packs, names: Iterable[str]) -> tuple[str, Pack]:
    """Return the name and the first pack that matches one of an app's names or ids, else the first default pack."""
    names = list(names)
    named = ((name, pack) for name, pack in packs.items() if pack.answers_for(names))
    return next(named, None) or next((name, pack) for name, pack in packs.items() if pack.default)


def _read(path: Path | Traversable) -> bytes:
    return read_regular(path) if isinstance(path, Path) else path.read_bytes()


def _load_folder(folder: Path | Traversable) -> Packs:
    if not folder.is_dir():
        raise ScenarioError(f"{folder}: not a folder with packs")
    packs, mistakes = {}, []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".toml"):
            try:
                packs[path.name.removesuffix(".toml")] = parse_pack(_read(path), path.name)
            except ScenarioError as error:
                mistakes.append(str(error))
            except OSError as error:
                mistakes.append(f"{path.name}: {error.strerror}")
    mistakes += _find_clashes(packs)
    if mistakes or not packs:
        raise ScenarioError("\n".join(mistakes) or f"{folder}: no packs found; a pack is a file that ends in .toml")
    return packs


def _find_clashes(packs: Packs) -> Iterator[str]:
    defaults = [name for name, pack in packs.items() if pack.default]
    if len(defaults) > 1:
        yield f"{defaults[1]}.toml: default: only one pack can be the default, got {', '.join(defaults)}"


def parse_pack(content: bytes, file: str) -> Pack:
    """Parse a pack. Raises ScenarioError."""
    try:
        table = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise ScenarioError(f"{file}: not valid UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScenarioError(f"{file}: not valid TOML, {error}") from None
    return check(Pack, table, file)
