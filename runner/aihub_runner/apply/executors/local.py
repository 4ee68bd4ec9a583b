"""What a worker process of `--scheduler local:N` loads at its start."""

from __future__ import annotations

import signal

from aihub_runner.apply.executors import worker as worker  # now, and not with the first task


def dask_setup(_: object) -> None:
    """Ignore Ctrl-C, which a terminal sends to every process: the one that applies lets tasks end, and ends us then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
