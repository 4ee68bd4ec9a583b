"""Which cluster `--scheduler` names, and whether it may be used. Nothing of Dask is imported here."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from aihub_runner.apply.job import Job
from aihub_runner.errors import InputError
from aihub_runner.system.extras import find_missing
from aihub_runner.text.escape import clean_text

MOST_LOCAL = 64
_FORMS = "write tls://host:8786, tcp://host:8786 with --insecure-scheduler, or local:N"


class Scheduler(Struct, frozen=True):
    """A scheduler elsewhere at `address`, or a cluster of `processes` on this machine."""

    address: str = ""
    processes: int = 0

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return self.address or f"local:{self.processes}"


def parse_scheduler(text: str, *, insecure: bool) -> Scheduler:
    """Return what `--scheduler` names. Raises InputError."""
    if match := re.fullmatch(r"local:([0-9]{1,9})", text):
        processes = int(match[1])
        if not 1 <= processes <= MOST_LOCAL:
            raise InputError(f"--scheduler {text}: 1 to {MOST_LOCAL} processes", "change the number")
        return Scheduler(processes=processes)
    shown = clean_text(text)
    try:
        parts = urlsplit(text)
        is_plain = bool(parts.hostname) and parts.port is not None and not (parts.path or parts.query or parts.fragment)
    except ValueError:
        raise InputError(f"--scheduler {shown}: not an address", _FORMS) from None
    if parts.scheme not in ("tcp", "tls") or not is_plain or "@" in parts.netloc or not re.fullmatch(r"[!-~]+", text):
        raise InputError(f"--scheduler {shown}: not an address", _FORMS)
    if parts.scheme == "tcp" and not insecure:
        raise InputError(
            f"--scheduler {shown}: not encrypted, and whoever reaches it runs code on the workers and here",
            "use tls:// with certificates; or --insecure-scheduler in a network that nobody else reaches",
        )
    return Scheduler(address=text)


def check_scheduler(job: Job) -> None:
    """Raise InputError if a job names a scheduler that it cannot use."""
    options = job.options
    if not options.scheduler:
        return
    parse_scheduler(options.scheduler, insecure=options.insecure_scheduler)
    if missing := find_missing("dask"):
        raise missing
    batch = job.spec.batch
    for key, is_there in (("keep", batch.keep), ("sync", batch.sync), ("id", batch.id)):
        if is_there:
            raise InputError(
                f"{job.shown}: [batch] {key} cannot be combined with --scheduler, because a late worker could change "
                "a batch that is used again",
                "apply without --scheduler",
            )
