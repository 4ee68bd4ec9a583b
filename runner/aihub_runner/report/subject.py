"""What a page is about: what a report says of a job, whatever else the job is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from aihub_runner.model import Target
from aihub_runner.spec.model import Spec


class Subject(Protocol):
    """A job as its pages show it."""

    @property
    def spec(self) -> Spec:
        """What was asked for."""

    @property
    def folder(self) -> Path:
        """The folder that the spec's paths are relative to."""

    @property
    def target(self) -> Target:
        """Where its runs are."""

    @property
    def shown(self) -> str:
        """The spec by the path that was given."""

    @property
    def app(self) -> str:
        """The app as the spec names it."""

    @property
    def is_fake(self) -> bool:
        """Whether it is applied to the embedded fake."""
