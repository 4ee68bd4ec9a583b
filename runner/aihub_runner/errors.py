"""Errors that this project raises on purpose, and all exit codes. The exit code sits on the class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Each code and its meaning, as the documentation shows them.
EXIT_CODES = {
    0: "everything that the spec asks for is done",
    1: "internal error; the message names a report file",
    2: "the command line, spec, settings or files are wrong; nothing was sent for that spec",
    3: "finished, but some files or runs failed or were skipped",
    4: "the service refused a request or cannot be reached",
    5: "the state file is locked, damaged or too new; the disk is full or fails; or too many files are open",
    6: "nothing failed, but runs are still going or wait for review, or results are missing; apply again later",
    7: "unconfirmed whether a run was started; nothing more was paid; the hint names the command that decides",
    10: "only `plan --exit-code`: apply would change something",
    130: "interrupted; everything that finished is recorded",
}
DONE, STILL_GOING, PLAN_HAS_CHANGES = 0, 6, 10
_WORST_FIRST = (130, 1, 5, 7, 4, 3, 2, 6, 0)


def worst_code(codes: Iterable[int]) -> int:
    """Return the worst of several exit codes, and 10 if all are 10."""
    present = set(codes)
    if present == {PLAN_HAS_CHANGES}:
        return PLAN_HAS_CHANGES
    return next(code for code in _WORST_FIRST if code in present or code == DONE)


class RunnerError(Exception):
    """An error to report to the user: `message` says what is wrong, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def mistakes(self) -> Sequence[RunnerError]:
        """Return the errors to print: itself."""
        return [self]


class InputError(RunnerError):
    """The command line, spec, settings or sources are wrong; nothing was sent."""

    exit_code = 2


class ServiceError(RunnerError):
    """The service refused, or could not be reached.

    `transient` says whether another attempt may help. `status` is the HTTP status (0 without a response).
    `retry_after_s` is how long the service asked us to wait.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        transient: bool = False,
        status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.transient = transient
        self.status = status
        self.retry_after_s = retry_after_s


class AnswerLost(ServiceError):
    """A request that must not be repeated was sent, and its response was lost. Its outcome is unconfirmed."""


class Refused(ServiceError):
    """A request that creates something was refused. A gateway may have refused it, and delivered it all the same.

    `status` is 400, 401, 403, 404, 409, 413, 415, 422, 425, 429, 301, 302, 307 or 308. It is never transient: before
    you repeat the request, check what it may have created.
    """

    may_pass = False  # whether it was refused for its token, and another one is there now


class ClusterLost(ServiceError):
    """The workers beyond this machine cannot be reached, or cannot be used. Nothing more is sent through them."""


class ListingCut(ServiceError):
    """A list from the service ends early, so absence from it proves nothing."""


class Interrupted(RunnerError):
    """The user or the system asked us to stop. Whatever finished is recorded."""

    exit_code = 130


class StateError(RunnerError):
    """The state file is locked, damaged, newer than this version, or cannot be written."""

    exit_code = 5


class Shortage(StateError):
    """The machine lacks disk space, descriptors or memory, or a disk fails. No file and no service is at fault.

    `transient` says whether the resource may become free when our other steps end.
    """

    def __init__(self, message: str, hint: str = "", *, transient: bool = False) -> None:
        super().__init__(message, hint)
        self.transient = transient


class ResultsError(RunnerError):
    """Paid results are missing, changed on disk, or cannot be written."""

    exit_code = 3


class StillGoing(RunnerError):
    """Something must end first. Nothing failed."""

    exit_code = 6


class UnknownOutcome(RunnerError):
    """It is unconfirmed whether something was paid for. Nothing more is paid until it is confirmed."""

    exit_code = 7


class Range(NamedTuple):
    """Where something is in a file, counted from 1 in characters. `end` is the column behind it."""

    line: int
    column: int
    end: int


class SpecMistake(InputError):
    """A mistake in a spec. `code` names its kind, `excerpt` is its line, without what may be a secret."""

    def __init__(
        self, path: str, what: str, hint: str = "", *, code: str = "file", at: Range | None = None, excerpt: str = ""
    ) -> None:
        super().__init__(f"{path}:{at.line}:{at.column}: {what}" if at else f"{path}: {what}", hint)
        self.what, self.code, self.at, self.excerpt = what, code, at, excerpt


class SpecErrors(InputError):
    """All mistakes of one spec, each as an `InputError`."""

    def __init__(self, mistakes: Sequence[RunnerError]) -> None:
        super().__init__(mistakes[0].message, mistakes[0].hint)
        self._mistakes = mistakes

    @property
    def mistakes(self) -> Sequence[RunnerError]:
        """Return all mistakes, in the order of their lines."""
        return self._mistakes
