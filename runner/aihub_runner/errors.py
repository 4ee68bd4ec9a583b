"""Errors that this project raises on purpose. The exit code sits on the class."""


class RunnerError(Exception):
    """An error to report to the user: `message` says what is wrong, `hint` what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


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


class ListingCut(ServiceError):
    """A list from the service ends early, so absence from it proves nothing."""


class Interrupted(RunnerError):
    """The user or the system asked us to stop. Whatever finished is recorded."""

    exit_code = 130


class StateError(RunnerError):
    """The state file is locked, damaged, newer than this version, or cannot be written."""

    exit_code = 5


class Shortage(StateError):
    """The machine lacks disk space, descriptors or memory. No file and no service is at fault.

    `transient` says whether the resource may be free again when other steps of ours end.
    """

    def __init__(self, message: str, hint: str = "", *, transient: bool = False) -> None:
        super().__init__(message, hint)
        self.transient = transient


class ResultsError(RunnerError):
    """Paid results are missing, changed on disk, or cannot be written."""

    exit_code = 3


class UnknownOutcome(RunnerError):
    """It is unconfirmed whether something was paid for. Nothing more is paid until it is confirmed."""

    exit_code = 7


class SpecErrors(InputError):
    """All mistakes of one spec, each as an `InputError`."""

    def __init__(self, mistakes: list[InputError]) -> None:
        super().__init__(mistakes[0].message, mistakes[0].hint)
        self.mistakes = mistakes
