"""Apply again whenever files arrive and have been quiet for a while. Clock, events and applies are parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum

from msgspec import Struct

from aihub_runner.apply.assess import own_names
from aihub_runner.apply.job import Job
from aihub_runner.errors import STILL_GOING, InputError
from aihub_runner.sources.scan import select_files
from aihub_runner.sources.stores import StoreError

RESCAN_S = 60.0  # network mounts tell of no changes
MOST_FAILURES = 10  # in a row; then a person must look
LONGEST_WAIT = 16  # rescans between attempts after failures
PASSES = frozenset({4, 5})  # the service, the network, another apply, a full disk: it is tried again
GOES_ON = frozenset({0, 3, 6}) | PASSES  # any other exit code says that a person must decide

Files = Mapping[str, object]  # what a file looks like from outside, by its path


class Woken(Enum):
    """Why a wait ended."""

    CHANGED = "something changed"
    TIME_OUT = "the time has passed"
    STOPPED = "a signal came"


class Pace(Struct, frozen=True):
    """How long files must be quiet before they are applied, and how long arriving files are collected at most."""

    quiet_s: float
    most_s: float
    rescan_s: float = RESCAN_S


class World(Struct, frozen=True):
    """What a watch sees and does.

    `look` lists the files without reading them. `wait` waits for a change, at most so many seconds. `act` applies all
    files but those that are still being written, and returns the exit code. `group` names what a file is applied with:
    it waits for the rest of its group.
    """

    look: Callable[[], Files]
    wait: Callable[[float], Woken]
    act: Callable[[frozenset[str]], int]
    group: Callable[[str], str] = str
    clock: Callable[[], float] = time.monotonic


class Ready(Struct, frozen=True):
    """Files that are ready to be applied, and the paths of those that are still being written."""

    files: Files
    unfinished: frozenset[str] = frozenset()


def look_at_files(job: Job) -> Files:
    """Return the stat of each file that the spec selects, without our own files, which change with each apply."""
    try:
        selection = select_files(job.spec, job.spec_path, job.options.allowed, time.time_ns())
    except (InputError, StoreError):
        return {}  # there is no file yet, or a store has trouble, which may pass
    own = own_names(job)
    return {path: stat for path, stat in selection.judged if path not in own}


def watch(world: World, pace: Pace) -> int:
    """Apply now and whenever files have changed, until a signal comes or a person must decide. Return the exit code.

    It is that of the last apply. A failure that may pass by itself is tried again, with growing waits.
    """
    code, failures = 0, 0
    ready = _collect(world, pace, {})
    while ready:
        applied: Files = {path: stat for path, stat in ready.files.items() if path not in ready.unfinished}
        if applied:  # none may have arrived yet
            code = world.act(ready.unfinished)
            failures = failures + 1 if code in PASSES else 0
            if code not in GOES_ON or failures == MOST_FAILURES:
                return code
        rescans = min(2**failures // 2, LONGEST_WAIT)
        again_s = pace.rescan_s * max(1, rescans) if code in PASSES or code == STILL_GOING else None
        ready = _wait_for_files(world, pace, applied, again_s)
    return code


def _wait_for_files(world: World, pace: Pace, applied: Files, again_s: float | None) -> Ready | None:
    """Wait until files differ from those that were applied, or until `again_s` have passed. None: a signal came."""
    begun_s = world.clock()
    while True:
        woken = world.wait(pace.rescan_s)
        if woken is Woken.STOPPED:
            return None
        files = world.look()
        if files != applied:
            found = _collect(world, pace, applied)
            if found is None or found.files != applied:
                return found
        if again_s is not None and world.clock() - begun_s >= again_s:
            return Ready(files)


def _collect(world: World, pace: Pace, applied: Files) -> Ready | None:
    """Collect files until they were quiet. None: a signal came.

    Quiet means: no event, and the same sizes and times in two looks half of the time apart, since some file systems
    send no events.
    """
    begun_s, before = world.clock(), world.look()
    calm = 0
    while True:
        left_s = begun_s + pace.most_s - world.clock()
        if left_s <= 0:
            return _leave_unfinished(world, pace)
        woken = world.wait(min(pace.quiet_s / 2, left_s))
        if woken is Woken.STOPPED:
            return None
        if woken is Woken.CHANGED:
            calm = 0
            continue
        files = world.look()
        if files == applied:
            return Ready(files)
        calm = calm + 1 if files == before else 1
        before = files
        if calm == 2:
            return Ready(files)


def _leave_unfinished(world: World, pace: Pace) -> Ready | None:
    """Return all files that are there; those that change between two looks are unfinished, and so is their group."""
    before, until_s = world.look(), world.clock() + pace.quiet_s / 2
    while (left_s := until_s - world.clock()) > 0:
        if world.wait(left_s) is Woken.STOPPED:
            return None
    files = world.look()
    changing = {world.group(path) for path, stat in files.items() if before.get(path) != stat}
    return Ready(files, frozenset(path for path in files if world.group(path) in changing))
