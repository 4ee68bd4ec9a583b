"""Check where files are written: the results folder, renamed specs, network file systems."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from aihub_runner.apply.events import Reporter, StateOnNetwork
from aihub_runner.apply.job import FAKE_ROOT, Job
from aihub_runner.errors import InputError
from aihub_runner.files import explain_disk, make_folder, read_regular, try_place, write_file
from aihub_runner.model import DOCUMENTS_NAME, LAST_APPLY, SPEC_ENDING, stem_of
from aihub_runner.outfile import find_place
from aihub_runner.results.written import FILE as WRITTEN
from aihub_runner.results.written import load_written
from aihub_runner.sources.exclude import RESULTS_MARKER, check_inside, is_own_name, is_spec
from aihub_runner.spec.patterns import compile_globs
from aihub_runner.spec.targets import describe_target
from aihub_runner.state.lockfile import load_lockfile, try_lockfile
from aihub_runner.state.store import State

MARKER_BYTES = 10_000
# What apply writes into a results folder, and the names of its tables without their formats.
_OWN_RESULTS = frozenset({DOCUMENTS_NAME, "raw", "pdf", "documents", LAST_APPLY, RESULTS_MARKER, WRITTEN})
_OWN_TABLES = frozenset({"fields", "cases"})
_OF_TARGET = re.compile(r"(.*)\n@([a-z0-9-]+)", re.DOTALL)
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs"})


def check_renamed(job: Job) -> None:
    """Raise InputError for a spec, or a target, without state beside a state whose spec or target is gone.

    It was probably renamed.
    """
    if job.state_path.exists() or job.lock_path.exists():
        return
    for left in sorted([*job.folder.glob("*.state.db"), *job.folder.glob("*.lock.toml")]):
        stem = left.name.removesuffix(".state.db").removesuffix(".lock.toml")
        what = _find_gone(job, stem)
        if what:
            raise InputError(
                f"{job.shown}: has no state, but {left.name} is here and {what} is not",
                f"if you renamed it, rename {stem}.state.db and {stem}.lock.toml too; else move them away",
            )


def _find_gone(job: Job, stem: str) -> str:
    """Return what is gone of the spec and the target that files of a stem belong to; empty where both are there."""
    spec, _, target = stem.rpartition("@")
    if any((job.folder / f"{stem}{ending}").exists() for ending in (".toml", SPEC_ENDING)):
        return ""
    if not spec or not any((job.folder / f"{spec}{ending}").exists() for ending in (".toml", SPEC_ENDING)):
        return f"{spec or stem}.toml"
    is_ours = bool(job.target_name) and spec == stem_of(job.spec_path)
    return f"target {target}" if is_ours and target not in job.spec.targets else ""


def check_lock_target(job: Job) -> None:
    """Raise InputError if a new state would start beside a lock file that lists other targets only.

    The lock file was written for another root, context or workspace, so its work would be paid for again. A state named
    by --state is taken as consent.
    """
    if job.is_fake or job.state_path.exists() or job.state_path != job.own_state_path:
        return
    entries, target = load_lockfile(job.lock_path), job.goal.target
    if entries and all(entry.target != target for entry in entries):
        raise InputError(
            f"{job.lock_path.name}: lists only work of another root, context or workspace, not of {job.target.root}",
            f"check {job.root_name}, the context and the workspace; use --state OTHER.db to work with another account",
        )


def check_root(job: Job, state: State) -> None:
    """Raise InputError if the state was created for another API root, or is that of another target."""
    for name, results in job.other_results.items():
        if state.results == results:
            other, own = describe_target(name), describe_target(job.target_name)
            raise InputError(
                f"{state.path.name}: is the state of {other}, not of {own}",
                "leave out --state, or pass it with another path",
            )
    root = state.root
    if root not in ("", job.target.root) and not state.is_unused:
        hint = (
            "pass --fake" if root == FAKE_ROOT else "leave out --fake" if job.is_fake else f"set {job.root_name}={root}"
        )
        raise InputError(
            f"{state.path.name}: created for the root {root}, not {job.target.root}",
            f"{hint}; to start over, pass --state with another path",
        )


def claim_results(job: Job) -> None:
    """Create the results folder, check that it is writable, and mark it as this spec's.

    Raises InputError if it is outside, cannot be written, or belongs to another spec.
    """
    folder = job.results_path
    if not job.is_fake:
        check_inside(folder, job.spec_path, "results.dir", job.options.allow_outside)
    name, target = Path(os.path.relpath(job.spec_path, folder)).as_posix(), job.target_name
    marker = folder / RESULTS_MARKER
    with explain_disk(folder):
        make_folder(folder)
        owner, of_target = _read_marker(marker)
    is_gone = of_target not in job.spec.targets if of_target else "" not in job.other_results
    if owner and (owner != name or (of_target != target and not is_gone)) and (folder / owner).exists():
        whose = f", {describe_target(of_target)}" * (owner == name)
        raise InputError(
            f"{job.shown}: the results folder {folder.name} belongs to {Path(owner).name}{whose}",
            "set a different results.dir in each spec, and in each target",
        )
    if (owner, of_target) != (name, target):
        write_file(marker, [os.fsencode(f"{name}\n"), f"@{target}\n".encode() if target else b""])
    else:
        try_place(folder / RESULTS_MARKER)


def try_state(job: Job) -> None:
    """Check first of all that the state can be written at its place. Raises InputError, StateError."""
    try:
        try_place(job.state_path.with_name(f"{job.state_path.name}.tried"))
    except InputError as error:
        shown = error.message.replace(".tried", "", 1)
        raise InputError(f"state {shown}", "use --state PATH to keep it elsewhere") from error


def try_places(job: Job) -> None:
    """Check, before anything is paid, every place that is written afterwards. Raises InputError, StateError."""
    try_lockfile(job.lock_path)
    try_place(job.results_path / DOCUMENTS_NAME)
    try_place(job.results_path / "raw" / DOCUMENTS_NAME)


def _read_marker(marker: Path) -> tuple[str, str]:
    """Return the spec that a results folder belongs to, relative to the folder, and its target."""
    try:
        text = os.fsdecode(read_regular(marker, MARKER_BYTES)).strip() if os.path.lexists(marker) else ""
        found = _OF_TARGET.fullmatch(text)
        return (found[1], found[2]) if found else (text, "")
    except OSError as error:
        raise InputError(f"{marker}: cannot be read, {error.strerror or error}", "move it away") from error


def check_output(job: Job, output: Path | None) -> None:
    """Raise InputError for an output file that the next apply would send and pay for, or that is one of our own.

    The target of a link counts as well. Files in the results folder are never sent, nor are pipes and devices.
    """
    if output is None:
        return
    with explain_disk(output):
        behind = find_place(output)
    for place in {output.absolute(), behind} if behind else ():
        _check_place(job, output, place)


def check_distinct(outputs: Mapping[str, Path | None]) -> None:
    """Raise InputError where two options name one file: each would replace what the other wrote."""
    named: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        with explain_disk(path):
            place = find_place(path)
        if place and named.setdefault(place, option) != option:
            raise InputError(f"{path}: is named by {named[place]} and by {option}", "name a file for each")


def _check_place(job: Job, output: Path, place: Path) -> None:
    own = {path.resolve() for path in (job.spec_path, job.state_path, job.lock_path)}
    if is_own_name(place.name) or place.resolve() in own or is_spec(str(place)):
        raise InputError(f"{output}: is one of aihub-runner's own files", "choose another name")
    for folder in (job.results_path.absolute(), job.results_path.resolve()):
        if place.is_relative_to(folder):
            name = place.relative_to(folder).as_posix()
            first = name.partition("/")[0]
            if first in _OWN_RESULTS or Path(name).stem in _OWN_TABLES or name in load_written(folder):
                raise InputError(f"{output}: is where apply keeps results", "choose another name")
            return
    take, leave = compile_globs(job.spec.files, str(job.folder.absolute()))
    folders = {job.folder.absolute(), job.folder.resolve()}
    paths = [Path(os.path.relpath(place, folder)).as_posix() for folder in folders]
    if any(take.matches(path) and not leave.matches(path) for path in paths):
        raise InputError(
            f"{output}: matches files of {job.shown}, so the next apply would send it",
            f"choose another folder, for example {job.results_path.name}",
        )


def warn_of_network(job: Job, reporter: Reporter) -> None:
    """Warn where the state is on a network file system, whose locks are unreliable."""
    kind = _file_system(job.state_path.parent)
    if is_on_network(job):
        reporter.emit(StateOnNetwork(job.state_path.name, kind))


def is_on_network(job: Job) -> bool:
    """Whether the state is on a network file system."""
    return _file_system(job.state_path.parent) in _NETWORK


def _file_system(folder: Path) -> str:
    """Return the type of a folder's file system, as Linux reports it; empty elsewhere."""
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
