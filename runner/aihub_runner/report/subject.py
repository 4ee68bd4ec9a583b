"""The part of a job that the pages show."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from aihub_runner.model import Target
from aihub_runner.spec.model import Spec


class Subject(Protocol):
    """A job as its pages show it."""

    @property
    def spec(self) -> Spec:
        """The parsed spec."""

    @property
    def folder(self) -> Path:
        """The folder that the spec's paths are relative to."""

    @property
    def target(self) -> Target:
        """The service, the context and the workspace of its runs."""

    @property
    def shown(self) -> str:
        """The path of the spec, as it was given."""

    @property
    def app(self) -> str:
        """The app as the spec names it."""

    @property
    def is_fake(self) -> bool:
        """Whether the job uses the embedded fake."""
