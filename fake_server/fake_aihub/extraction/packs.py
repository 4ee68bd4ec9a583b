"""Scenario packs: which classes and fields an app gives, how sure it is of them, and what goes wrong how often.

A pack is a TOML file; docs/scenarios.md has the format. Wherever a list of choices stands, each is as likely as the
others; to make one likelier, write it again.
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


def _check_order(numbers: list[float]) -> list[float]:
    if numbers[0] > numbers[1]:
        raise ValueError("the first number should not be larger than the second")
    return numbers


Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, le=1)]
Scores = Annotated[list[Share], Field(min_length=2, max_length=2), AfterValidator(_check_order)]
Length = Annotated[float, Field(gt=0, le=20_000)]
Pages = Annotated[int, Field(ge=1, le=800)]


class FieldError(Table):
    """`error`: the field's value is ERROR."""

    rate: Share = Field(description="The share of fields that this happens to, from 0 to 1.")
    message: Name = Field(description="Comes as `error_msg`.")


class Alert(Table):
    """`alert`: the field fails a validation, and so does its document."""

    rate: Share = Field(description="The share of fields that this happens to, from 0 to 1.")
    message: Name = Field(description="Comes as `msg`.")
    type: Name = Field("rule", description="The type of the alert.")
    blocked: bool = Field(False, description="Whether the failure is a blocking one; not for cross-class fields.")


class Edit(Table):
    """`edit`: a person has changed the field, or the class of the document."""

    rate: Share = Field(description="The share that this happens to, from 0 to 1.")
    messages: list[str] = Field(
        [""], min_length=1, description="One of them comes with each change; an empty one is null."
    )


class Numbers(Table):
    """`number`: the value is a number."""

    low: float = Field(description="The least.")
    high: float = Field(description="The greatest.")
    decimals: int = Field(2, ge=0, le=6, description="Digits after the point.")

    @model_validator(mode="after")
    def _check(self) -> Numbers:
        if self.low > self.high:
            raise ValueError(f"low should not be more than high, seen: {self.low} and {self.high}")
        return self


class Dates(Table):
    """`date`: the value is a date."""

    first: date = Field(description="The earliest, as in `2026-01-31`.")
    last: date = Field(description="The latest.")
    format: Name = Field("%Y-%m-%d", description="As for `strftime`.")

    @model_validator(mode="after")
    def _check(self) -> Dates:
        if self.first > self.last:
            raise ValueError(f"first should not be after last, seen: {self.first} and {self.last}")
        return self


class PackField(Table):
    """`[[class.field]]`: a field of the class, in this order."""

    name: Name = Field(description="Comes back as a Python identifier: `due date` as `due_date`.")
    type: Name = Field("TEXT", description="Comes as it is.")
    values: list[str] = Field([], description="Choices for the value, in which each `#` becomes a digit.")
    number: Numbers | None = Field(None, description="Instead of `values`.")
    date: Dates | None = Field(None, description="Instead of `values`.")
    labels: list[Name] = Field([], description="Under which names the value stands in real text, besides `name`.")
    confidence: Scores = Field([0.6, 1.0], description="Least and greatest confidence of the model.")
    ocr: Scores = Field([0.8, 1.0], description="Least and greatest confidence of the OCR.")
    unscored: bool = Field(False, description="Whether both confidences are null.")
    error: FieldError | None = Field(None, description="How often the field fails.")
    alert: Alert | None = Field(None, description="How often its validation fails.")
    edit: Edit | None = Field(None, description="How often a person has changed it.")

    @model_validator(mode="after")
    def _check(self) -> PackField:
        given = [name for name in ("values", "number", "date") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of values, number and date should be given, seen: {' and '.join(given) or 'none'}"
            )
        return self


class PackClass(Table):
    """`[[class]]`: a class of documents."""

    name: Name | None = Field(None, description="Without it, class and classification confidence are null.")
    weight: int = Field(1, ge=1, le=1000, description="How likely, beside the other classes.")
    pages: list[Pages] = Field([1], min_length=1, description="Choices for the number of pages.")
    page_size: list[Length] = Field(
        [612.0, 792.0], min_length=2, max_length=2, description="Width and height of a page."
    )
    confidence: Scores = Field([0.7, 1.0], description="Least and greatest confidence of the classification.")
    edit: Edit | None = Field(None, description="How often a person has changed the class.")
    fields: list[PackField] = Field(alias="field", min_length=1, max_length=200, description="Its fields.")

    @model_validator(mode="after")
    def _check(self) -> PackClass:
        _check_unique("field", (field.name for field in self.fields))
        return self


class CrossField(Table):
    """`[[cross_class]]`: a cross-class field of the packet, which comes in `case_info`."""

    name: Name = Field(description="Its name.")
    sources: list[Name] = Field(min_length=1, description='The fields that it draws on, as "class/field", best first.')
    ranked: bool = Field(False, description="Whether the options come with it, and which was chosen.")
    all_inputs_match: Name | None = Field(
        None, description="The message of the validation that fails where the sources differ."
    )
    alert: Alert | None = Field(None, description="How often another validation of it fails.")
    edit: Edit | None = Field(None, description="How often a person has changed it.")


class Pack(Table):
    """At the top: what an app gives."""

    about: str = Field("", description="For the reader.")
    apps: list[Name] = Field([], description="Names or ids of apps and deployments, with `*`, in upper or lower case.")
    default: bool = Field(False, description="Whether it answers for apps that no pack names.")
    documents: list[Annotated[int, Field(ge=0, le=50)]] = Field(
        [1], min_length=1, description="Choices for the number of documents in a file."
    )
    reviewed: Share = Field(0.0, description="The share of files whose review is complete.")
    reviewers: list[Name] = Field(["reviewer@example.com"], min_length=1, description="Who changes things.")
    classes: list[PackClass] = Field(alias="class", min_length=1, max_length=100, description="Its classes.")
    cross_class: list[CrossField] = Field([], description="Fields of a packet, made from those of its documents.")

    @model_validator(mode="after")
    def _check(self) -> Pack:
        _check_unique("class", (one.name or "" for one in self.classes))
        known = self.sources()
        for source in (source for cross in self.cross_class for source in cross.sources):
            if source not in known:
                raise ValueError(f"cross_class: sources should be of {', '.join(sorted(known))}, seen: {source!r}")
        return self

    def sources(self) -> dict[str, tuple[str | None, str]]:
        """List the class and name of each field, by how cross-class fields name it."""
        return {
            f"{one.name or ''}/{field.name}": (one.name, field.name) for one in self.classes for field in one.fields
        }

    def answers_for(self, names: Iterable[str]) -> bool:
        """Return whether one of an app's names and ids fits one of the patterns."""
        return any(fnmatchcase(name.casefold(), app.casefold()) for name in names for app in self.apps)


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: names should differ, seen twice: {name!r}")
        seen.add(name)


Packs = dict[str, Pack]


def load_packs(folder: Path | None = None) -> Packs:
    """Load one's own packs, then those that come with the fake, by name. Raises ScenarioError with all mistakes."""
    own = _load_folder(folder) if folder is not None else {}
    return own | {name: pack for name, pack in bundled_packs().items() if name not in own}


@cache
def bundled_packs() -> Packs:
    """Load the packs that come with the fake."""
    return _load_folder(files("fake_aihub.extraction") / "scenarios")


def find_pack(packs: Packs, names: Iterable[str]) -> tuple[str, Pack]:
    """Find the first pack that answers for an app by one of its names or ids, else the first default, with its name."""
    names = list(names)
    named = ((name, pack) for name, pack in packs.items() if pack.answers_for(names))
    return next(named, None) or next((name, pack) for name, pack in packs.items() if pack.default)


def _load_folder(folder: Path | Traversable) -> Packs:
    if not folder.is_dir():
        raise ScenarioError(f"{folder}: should be a folder with packs")
    packs, mistakes = {}, []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".toml"):
            try:
                packs[path.name.removesuffix(".toml")] = parse_pack(path.read_bytes(), path.name)
            except (ScenarioError, OSError) as error:
                mistakes.append(str(error))
    mistakes += _find_clashes(packs)
    if mistakes or not packs:
        raise ScenarioError("\n".join(mistakes) or f"{folder}: should hold packs, files that end in .toml")
    return packs


def _find_clashes(packs: Packs) -> Iterator[str]:
    defaults = [name for name, pack in packs.items() if pack.default]
    if len(defaults) > 1:
        yield f"{defaults[1]}.toml: default: only one pack should be it, seen: {', '.join(defaults)}"


def parse_pack(content: bytes, file: str) -> Pack:
    """Parse a pack. Raises ScenarioError."""
    try:
        table = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise ScenarioError(f"{file}: should be UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScenarioError(f"{file}: should be TOML, {error}") from None
    return check(Pack, table, file)
