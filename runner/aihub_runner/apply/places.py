"""Where things lie, and whether they may lie there: results folder, renamed specs, network file systems."""

from __future__ import annotations

import os
from pathlib import Path

from aihub_runner.apply.events import Reporter
from aihub_runner.apply.job import Job
from aihub_runner.errors import InputError
from aihub_runner.files import explain_disk, make_folder, read_regular, try_place, write_file
from aihub_runner.model import DOCUMENTS_NAME, SPEC_ENDING
from aihub_runner.outfile import find_place
from aihub_runner.sources.exclude import check_inside, is_own_name, is_spec
from aihub_runner.spec.patterns import compile_globs
from aihub_runner.state.lockfile import load_lockfile, try_lockfile

MARKER = ".aihub-results"
MARKER_BYTES = 10_000
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs"})


def check_renamed(job: Job) -> None:
    """Refuse a spec without state beside a state or lock file whose spec is gone: it was probably renamed."""
    if job.state_path.exists() or job.lock_path.exists():
        return
    for left in sorted([*job.folder.glob("*.state.db"), *job.folder.glob("*.lock.toml")]):
        stem = left.name.removesuffix(".state.db").removesuffix(".lock.toml")
        if not any((job.folder / f"{stem}{ending}").exists() for ending in (".toml", SPEC_ENDING)):
            raise InputError(
                f"{job.shown}: has no state, but {left.name} is here and {stem}.toml is not",
                f"if the spec was renamed, `mv` {stem}.state.db and {stem}.lock.toml too; else move them away",
            )


def check_lock_target(job: Job) -> None:
    """Refuse to begin a new state beside a lock file that knows of other targets only.

    It was made with another root, context or workspace: what it lists as paid would be paid for again. Naming a new
    state with --state says that this is meant.
    """
    if job.is_fake or job.state_path.exists() or job.state_path != job.own_state_path:
        return
    entries, target = load_lockfile(job.lock_path), job.goal().target
    if entries and all(entry.target != target for entry in entries):
        raise InputError(
            f"{job.lock_path.name}: lists work of another root, context or workspace only, not of {job.target.root}",
            "check AIHUB_API_ROOT, the context and the workspace; use --state OTHER.db to work with another target",
        )


def claim_results(job: Job) -> None:
    """Make the results folder, make sure that it can be written and is this spec's, and mark it.

    Raises InputError where it is outside, cannot be written, or is another spec's.
    """
    folder = job.results_path
    if not job.is_fake:
        check_inside(folder, job.spec_path, "results.dir", job.options.allow_outside)
    name = Path(os.path.relpath(job.spec_path, folder)).as_posix()
    marker = folder / MARKER
    with explain_disk(folder):
        make_folder(folder)
        owner = _read_marker(marker)
    if owner and owner != name and (folder / owner).exists():
        raise InputError(
            f"{job.shown}: the results folder {folder.name} belongs to {Path(owner).name}",
            "give each spec a results.dir of its own",
        )
    if owner != name:
        write_file(marker, [os.fsencode(f"{name}\n")])
    else:
        try_place(folder / MARKER)


def try_state(job: Job) -> None:
    """Try, before anything else, whether the state can be written where it lies. Raises InputError, StateError."""
    try:
        try_place(job.state_path.with_name(f"{job.state_path.name}.tried"))
    except InputError as error:
        shown = error.message.replace(".tried", "", 1)
        raise InputError(f"state {shown}", "keep it in another place with --state PATH") from error


def try_places(job: Job) -> None:
    """Try, before anything is paid, every place that is written afterwards. Raises InputError, StateError."""
    try_lockfile(job.lock_path)
    try_place(job.results_path / DOCUMENTS_NAME)
    try_place(job.results_path / "raw" / DOCUMENTS_NAME)


def _read_marker(marker: Path) -> str:
    try:
        return os.fsdecode(read_regular(marker, MARKER_BYTES)).strip() if os.path.lexists(marker) else ""
    except OSError as error:
        raise InputError(f"{marker}: cannot be read, {error.strerror or error}", "move it away") from error


def check_output(job: Job, output: Path | None) -> None:
    """Refuse a file to write that the next apply would send, and pay for, or that is one of our own. Raises InputError.

    What a link leads to counts as well. What lies in the results folder is never sent, nor is a pipe or device.
    """
    if output is None:
        return
    with explain_disk(output):
        behind = find_place(output)
    for place in {output.absolute(), behind} if behind else ():
        _check_place(job, output, place)


def _check_place(job: Job, output: Path, place: Path) -> None:
    own = {path.resolve() for path in (job.spec_path, job.state_path, job.lock_path)}
    if is_own_name(place.name) or place.resolve() in own or is_spec(str(place)):
        raise InputError(f"{output}: is a file of aihub-runner's own", "give another name")
    if any(place.is_relative_to(folder) for folder in (job.results_path.absolute(), job.results_path.resolve())):
        return
    take, leave = compile_globs(job.spec.files, str(job.folder.absolute()))
    folders = {job.folder.absolute(), job.folder.resolve()}
    paths = [Path(os.path.relpath(place, folder)).as_posix() for folder in folders]
    if any(take.matches(path) and not leave.matches(path) for path in paths):
        raise InputError(
            f"{output}: matches files of {job.shown}, the next apply would send it",
            f"give a place outside of them, in {job.results_path.name} for instance",
        )


def warn_of_network(job: Job, reporter: Reporter) -> None:
    """Warn where the state lies on a network file system, whose locks cannot be relied on."""
    kind = _file_system(job.state_path.parent)
    if is_on_network(job):
        reporter.say(
            f"warning: {job.state_path.name} lies on a network file system ({kind}); "
            "let only one machine apply this spec, or give --state a local place"
        )


def is_on_network(job: Job) -> bool:
    """Whether the state lies on a network file system."""
    return _file_system(job.state_path.parent) in _NETWORK


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder, as Linux knows it; elsewhere nothing is known."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = mount.split()[4]
        inside = folder.resolve().is_relative_to(point)
        if inside and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind
