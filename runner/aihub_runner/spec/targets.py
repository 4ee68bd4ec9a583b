"""A spec as its targets see it: `[targets.test]` replaces values of the spec. Pure.

A target has its own name, state, lock file and results folder, so that two targets never write into one place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import PurePath
from posixpath import normpath
from typing import Any, NamedTuple

from msgspec import Struct

from aihub_runner.model import stem_of
from aihub_runner.spec.diagnostics import Mistake
from aihub_runner.spec.kinds import Key
from aihub_runner.spec.model import APP_KEYS, Spec
from aihub_runner.spec.variables import Find, nest

PLAIN = ""  # the name of no target: the values at the top of the spec


class Choice(NamedTuple):
    """Which target was asked for. With `any_target` none was, and the plain values may be incomplete.

    `given` are values of keys from the command line. `find` finds a variable.
    """

    target: str = PLAIN
    any_target: bool = False
    given: tuple[tuple[Key, str], ...] = ()
    find: Find = lambda name: None


AS_IT_IS = Choice()


class Parsed(Struct, frozen=True):
    """A spec as the chosen target sees it, and as its other targets do, where they are complete.

    `values` are those that variables or the command line gave, by the names of their keys.
    """

    spec: Spec
    others: Mapping[str, Spec]
    values: Mapping[str, str] = {}


class View(Struct, frozen=True):
    """The content of a spec as a target sees it.

    `own` are the keys that the target sets, and `given` those from the command line.
    """

    target: str
    content: dict[str, Any]
    own: Collection[Key]
    given: Mapping[Key, str] = {}

    def sets(self, key: Key) -> bool:
        """Whether the target itself has a key. The spec as a whole is the target's, too."""
        return bool(self.target) and (not key or any(key[: len(own)] == own for own in self.own))


def trace_once(found: Iterable[tuple[View, Mistake]]) -> Iterator[Mistake]:
    """Yield each mistake at the key where the spec has it. What is wrong for several targets is told once."""
    told = set()
    for view, mistake in found:
        if any(mistake.key[: len(key)] == key for key in view.given):
            yield mistake._replace(key=(), what=f"{mistake.what}, from --set")
        elif view.sets(mistake.key):
            yield mistake._replace(key=("targets", view.target, *mistake.key))
        elif mistake not in told:
            told.add(mistake)
            yield mistake._replace(what=f"{mistake.what}, for target {view.target}") if view.target else mistake


def name_places(spec_path: PurePath, target: str) -> str:
    """Return what the state, the lock file and the folder of a fake are named after."""
    return with_target(stem_of(spec_path), target)


def with_target(name: str, target: str) -> str:
    """Return a name that a target has for itself."""
    return f"{name}@{target}" if target else name


def describe_target(target: str) -> str:
    """Name a target in a message."""
    return f"target {target}" if target else "no target"


def list_targets(content: Mapping[str, Any]) -> list[str]:
    """List the names of the targets of unparsed content, also where something is wrong with them."""
    targets = content.get("targets")
    return [*targets] if isinstance(targets, dict) else []


def view_as(content: Mapping[str, Any], target: str) -> View:
    """Return the content as a target sees it. A target that names an app leaves nothing of the spec's own app."""
    plain = {name: value for name, value in content.items() if name != "targets"}
    given = content["targets"][target] if target else {}
    if not isinstance(given, dict):
        return View(target, plain, ())
    merged = _lay_over(plain, given)
    folder, chosen = plain.get("results"), given.get("results")
    has_own = isinstance(chosen, dict) and "dir" in chosen
    if target and not has_own and isinstance(folder, dict) and isinstance(folder.get("dir"), str):
        merged["results"] = {**merged["results"], "dir": with_target(folder["dir"].rstrip("/"), target)}
    return View(target, merged, [*_list_keys(given)])


def with_given(view: View, given: Mapping[Key, str]) -> View:
    """Return a view with values from the command line instead of its own."""
    return View(view.target, _lay_over(view.content, nest(given)), view.own, given)


def _lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return content with other values instead of its own. An app replaces all of the other app."""
    if any(name in above for name in APP_KEYS):
        below = {name: value for name, value in below.items() if name not in (*APP_KEYS, "owner")}
    return _merge(below, above)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _merge(below[name], value) if isinstance(value, dict) and isinstance(below.get(name), dict) else value
        for name, value in above.items()
    }
    return {**below, **both}


def _list_keys(content: Mapping[str, Any], at: Key = ()) -> Iterator[Key]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _list_keys(value, (*at, name))
        else:
            yield (*at, name)


def find_unknown(choice: Choice, known: Collection[str]) -> Iterator[Mistake]:
    """Find that a target was asked for which the spec does not have."""
    if choice.target and choice.target not in known:
        listed = f"has no target {choice.target!r}, only {', '.join(known)}"
        what = listed if known else f"has no targets, {choice.target!r} was asked for"
        yield Mistake(("targets",), what, "check --target and AIHUB_RUNNER_TARGET", "unknown-target")


def find_shared_results(specs: Mapping[str, Spec]) -> Iterator[Mistake]:
    """Find targets whose results would be in one folder, or in one inside another."""
    folders = {name: normpath(spec.results.dir_for(spec.name)).casefold() for name, spec in specs.items()}
    for (one, first), (other, second) in combinations(folders.items(), 2):
        if f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/"):
            what = f"{describe_target(one)} and {describe_target(other)} have the same results folder, or one in it"
            hint = "set another results.dir in one of them"
            yield Mistake(("targets", other or one, "results", "dir"), what, hint, "clash")
