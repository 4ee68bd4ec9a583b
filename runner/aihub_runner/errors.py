"""Every error that this project raises on purpose; the exit code sits on the class."""


class RunnerError(Exception):
    """Something that a person must be told: `message` says what is wrong, `hint` what to do next."""

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

    `transient` says whether another attempt may help, `status` is the HTTP status (0 where there was no answer),
    and `retry_after_s` what the service asked us to wait.
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
    """A request that must not be repeated was sent, and what became of it is not known."""


class Refused(ServiceError):
    """The answer to a request that creates says that nothing was created; somebody in between may have said so.

    `status` is 400, 401, 403, 404, 409, 413, 415, 422, 425, 429, 301, 302, 307 or 308. It is never transient: who
    wants to send the request again looks first for what it may have created.
    """


class ListingCut(ServiceError):
    """A list on the server breaks off before its end: an absence from it proves nothing."""


class Interrupted(RunnerError):
    """A person or the system asked us to stop; what was finished is recorded."""

    exit_code = 130


class StateError(RunnerError):
    """The state file is locked, damaged, newer than this version, or cannot be written."""

    exit_code = 5


class Shortage(StateError):
    """The machine lacks something: room on a disk, descriptors, memory. No file and no service is at fault.

    `transient` says whether it may be there again as soon as others of ours have ended.
    """

    def __init__(self, message: str, hint: str = "", *, transient: bool = False) -> None:
        super().__init__(message, hint)
        self.transient = transient


class ResultsError(RunnerError):
    """What was paid for is not on disk as it should be: results that are not as they were, or cannot be written."""

    exit_code = 3


class UnknownOutcome(RunnerError):
    """It is unconfirmed whether something was paid for; nothing more is paid until it is."""

    exit_code = 7


class SpecErrors(InputError):
    """All mistakes of one spec, each an `InputError` of its own."""

    def __init__(self, mistakes: list[InputError]) -> None:
        super().__init__(mistakes[0].message, mistakes[0].hint)
        self.mistakes = mistakes
