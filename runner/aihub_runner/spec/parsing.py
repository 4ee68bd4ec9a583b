"""Parse a spec: return a `Spec`, or raise all mistakes, each with its line. No I/O."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from msgspec import Struct

from aihub_runner.errors import Range, SpecErrors, SpecMistake
from aihub_runner.model import stem_of
from aihub_runner.spec.diagnostics import Mistake, dotted, explain, find_not_json, find_secrets, is_secret, locate
from aihub_runner.spec.excerpt import mask_values, render_excerpt
from aihub_runner.spec.kinds import Flaw, Key, list_tables, read_table
from aihub_runner.spec.model import APP_KEYS, KNOWN, TABLES, NamedTarget, Spec
from aihub_runner.spec.patterns import expand_pattern
from aihub_runner.spec.targets import (
    AS_IT_IS,
    PLAIN,
    Choice,
    Parsed,
    View,
    find_shared_results,
    find_unknown,
    list_targets,
    trace_once,
    view_as,
    with_given,
    with_target,
)
from aihub_runner.spec.urls import is_url
from aihub_runner.spec.variables import Find, fill, find_malformed, nest
from aihub_runner.system.extras import find_missing

MAX_DEPTH = 50
_BATCH_ID = "id of [batch]"


def parse_spec(text: str, path: PurePath) -> Spec:
    """Parse the text of a spec without targets. Raises SpecErrors with every mistake."""
    return parse_as(text, path, AS_IT_IS).spec


def parse_as(text: str, path: PurePath, choice: Choice) -> Parsed:
    """Parse the text of a spec as a target sees it. Raises SpecErrors with every mistake, in all of its targets."""
    text = text.replace("\r\n", "\n")
    content = _load_toml(text, path)
    named = {"name": stem_of(path), **content}
    flaws: list[Flaw] = []
    whole = read_table(Spec, named, (), flaws)
    views = _list_views(named, choice)
    mistakes = [*find_unknown(choice, list_targets(content)), *find_malformed(content), *find_secrets(content, KNOWN)]
    mistakes += trace_once((view, mistake) for view in views for mistake in _check(view, list_targets(content)))
    if whole:
        read = {view.target: _read(view, whole, choice.find) for view in views}
        chosen = read.get(choice.target)
        mistakes += trace_once(chosen.mistakes if chosen else ())
        specs = {view.target: spec for view in views if (spec := read[view.target].spec)}
        in_view = [(view, specs[view.target]) for view in views if view.target in specs]
        mistakes += trace_once((view, mistake) for view, spec in in_view for mistake in _check_results(spec))
        mistakes += find_shared_results(specs)
        if not mistakes:
            spec = specs.pop(choice.target, whole)
            return Parsed(spec, specs, chosen.values if chosen else {})
    secret = {mistake.key for mistake in mistakes}
    found = [explain(flaw, _tables_for(flaw.key)) for flaw in flaws]
    mistakes += [one for one in found if one.key not in secret and not is_secret(one.key or ("",), KNOWN)]
    raise SpecErrors(locate(dict.fromkeys(mistakes), text, path))


def _list_views(content: dict[str, Any], choice: Choice) -> list[View]:
    """List the content as no target and as each target sees it. Without an app, only targets can be applied."""
    targets, given = list_targets(content), dict(choice.given)
    may_lack = bool(targets) and (choice.target or choice.any_target)
    has_app = any(key in content for key in APP_KEYS)
    views = [view_as(content, name) for name in ([] if may_lack and not has_app else [PLAIN]) + targets]
    return [with_given(view, given) if view.target == choice.target else view for view in views]


class _Read(Struct, frozen=True):
    """What came of a view: its spec, the values that were filled in, and what is wrong with them."""

    view: View
    spec: Spec | None
    values: Mapping[str, str]
    mistakes: Sequence[tuple[View, Mistake]]


def _read(view: View, whole: Spec, find: Find) -> _Read:
    """Read a view, with its variables filled in. Its spec has the name that the target has for itself."""
    filled, flaws = fill(view.content, find, view.given), list[Flaw]()
    spec = None if filled.unset else read_table(Spec, filled.content, (), flaws)
    values = {**filled.values, **view.given}
    mistakes = [*filled.unset, *find_secrets(nest(view.given), KNOWN)]
    mistakes += [explain(flaw, TABLES) for flaw in flaws if any(flaw.key[: len(key)] == key for key in values)]
    if spec:
        own = {"name": with_target(spec.name, view.target), "targets": whole.targets}
        spec = Spec(**{**vars(spec), **own})
    shown = {dotted(key): value for key, value in values.items()}
    return _Read(view, spec, shown, [(view, mistake) for mistake in mistakes])


def _check(view: View, targets: list[str]) -> Iterator[Mistake]:
    """Find values of a view that do not go together."""
    content = view.content
    others = f", or pass --target with one of {', '.join(targets)}" if targets and view.target == PLAIN else ""
    yield from _check_app(content, f"add app_name{others}")
    if view.target and "id" in _table(content, "batch") and not view.sets(("batch", "id")):
        what = "batch.id is missing, the spec's own may be somebody else's batch in another account"
        yield Mistake((), what, f"add batch.id to [targets.{view.target}]", "missing-key")
    yield from find_not_json(_table(content, "run", "keys", "custom"), ("run", "keys", "custom"))
    for check in (_check_input, _check_group, _check_batch, _check_pdf, _check_installed, _check_pages):
        yield from check(content)


def _tables_for(key: Key) -> dict[Key, Any]:
    """Return the tables that a key may belong to."""
    return list_tables(NamedTarget, key[:2]) if key[:1] == ("targets",) and len(key) > 2 else TABLES


def _load_toml(text: str, path: PurePath) -> dict[str, Any]:
    too_deep = SpecMistake(
        str(path), "too deeply nested, or contains too large a number", "check that it is a spec", code="invalid-toml"
    )
    try:
        content = tomllib.loads(text)
        mistake = too_deep if _is_deep(content) else None
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        line, column = [*re.findall(r"\d+", place), "", ""][:2]
        mistake = _invalid_toml(text, path, what, int(line or 0), int(column or 0))
    except (ValueError, RecursionError):
        mistake = too_deep
    if mistake:  # raised outside of the handler, so that no traceback contains text of the spec
        raise SpecErrors([mistake])
    return content


def _invalid_toml(text: str, path: PurePath, what: str, line: int, column: int) -> SpecMistake:
    """Return the error for text that is not TOML; line 0 is its end."""
    lines = text.split("\n")
    at = Range(line, column, column + 1) if line else Range(len(lines), len(lines[-1]) + 1, len(lines[-1]) + 2)
    excerpt = render_excerpt(mask_values(lines[at.line - 1]), at)
    shown = f"invalid TOML, {what[:1].lower()}{what[1:]}"
    return SpecMistake(str(path), shown, _hint_of(what), code="invalid-toml", at=at, excerpt=excerpt)


def _hint_of(what: str) -> str:
    if "Unescaped '\\'" in what or "hex digits" in what:
        return "use / between folders, and single quotes for a string with a \\"
    return "fix that line"


def _is_deep(content: dict[str, Any]) -> bool:
    """Whether tables nest deeper than `MAX_DEPTH`. Dotted keys can nest too deeply for recursion."""
    level: list[Any] = [content]
    for _ in range(MAX_DEPTH):
        inner = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        level = [one for one in inner if isinstance(one, dict | list)]
    return bool(level)


def _check_app(content: Mapping[str, Any], hint: str) -> Iterator[Mistake]:
    given = [key for key in content if key in APP_KEYS]
    if len(given) != 1:
        what = f"exactly one of app_name, app_id and deployment_id is required, {len(given)} are set"
        yield Mistake(tuple(given[-1:]), what, "keep one of them" if given else hint, "clash")
    if "deployment_id" in content:
        clashes: list[Key] = [("owner",)] * ("owner" in content)
        clashes += [("run", "output_workspace")] * ("output_workspace" in _table(content, "run"))
        for key in clashes:
            what = f"deployment_id cannot be combined with owner or output_workspace, {key[-1]} is set"
            yield Mistake(key, what, f"remove {key[-1]}, the deployment has its own", "clash")


def _check_pdf(content: Mapping[str, Any]) -> Iterator[Mistake]:
    if _table(content, "results").get("pdf") is True and not _table(content, "run").get("generate_post_process_pdf"):
        what = "pdf needs PDFs that the run generates"
        yield Mistake(("results", "pdf"), what, "set generate_post_process_pdf = true in [run], or remove pdf", "clash")


def _check_input(content: Mapping[str, Any]) -> Iterator[Mistake]:
    """Find a spec that does not say what to run, or says it twice, and what only some inputs have."""
    run = _table(content, "run")
    upstream = bool(run.get("manual_upstream_integration"))
    given = [name for name in ("files", "input_dir") if name in content]
    batch = _table(content, "batch")
    given += [_BATCH_ID] * ("id" in batch and not batch.get("sync")) + ["manual_upstream_integration"] * upstream
    if not given:
        yield Mistake(("files",), "files is missing", "add files", "missing-key")
    elif len(given) > 1:
        where: Key = ("run", given[-1]) if upstream else ("batch", "id") if _BATCH_ID in given else (given[-1],)
        yield Mistake(where, f"{' and '.join(given)} cannot be combined", "keep one of them", "clash")
    if upstream and "deployment_id" not in content:
        where = ("run", "manual_upstream_integration")
        yield Mistake(where, "manual_upstream_integration needs a deployment", "add deployment_id", "clash")
    for name in ("from_timestamp", "to_timestamp"):
        if name in run and not upstream:
            what = f"{name} needs manual_upstream_integration = true"
            yield Mistake(("run", name), what, f"set it, or remove {name}", "clash")
    limits = _table(content, "limits")
    of_files: dict[Key, Mapping[str, Any]] = {
        ("group_by",): content,
        ("run", "pdf_passwords"): run,
        ("limits", "max_pages"): limits,  # nobody knows how many pages there are
        ("limits", "unit_price"): limits,
        ("cleanup", "delete_input"): _table(content, "cleanup"),  # a drive, or another's batch, is not ours to delete
        ("batch", "keep"): batch,
        ("batch", "sync"): batch,
    }
    for at, holder in of_files.items() if given and "files" not in given else ():
        if holder.get(str(at[-1])) not in (None, False):
            yield Mistake(at, f"{at[-1]} needs files", f"remove {at[-1]}", "clash")


def _check_group(content: Mapping[str, Any]) -> Iterator[Mistake]:
    decides = ["group_by"] * ("group_by" in content) + ["[batch]"] * bool(_table(content, "batch"))
    if decides and "files_per_batch" in _table(content, "limits"):
        what = f"files_per_batch cannot be combined with {decides[0]}, which decides what goes into a batch"
        yield Mistake(("limits", "files_per_batch"), what, "remove one of them", "clash")


def _check_batch(content: Mapping[str, Any]) -> Iterator[Mistake]:
    """Find keys that make no sense for a batch that is kept."""
    batch = _table(content, "batch")
    if not batch:
        return
    kept = "keep" if batch.get("keep") else "sync" if batch.get("sync") else "id"
    if batch.get("sync") and "id" not in batch:
        yield Mistake(("batch", "sync"), "sync needs the id of a batch", "add id, or use keep = true", "clash")
    if batch.get("keep") and "id" in batch:
        yield Mistake(("batch", "keep"), "keep cannot be combined with id", "use sync = true, or remove id", "clash")
    if kept != "id":
        if "group_by" in content:
            what = f"group_by cannot be combined with {kept} of [batch]: all files are one batch"
            yield Mistake(("group_by",), what, "remove one of them", "clash")
        if _table(content, "cleanup").get("delete_input") == "after-results":
            what = f"delete_input cannot be combined with {kept} of [batch], which keeps the batch"
            yield Mistake(("cleanup", "delete_input"), what, "remove one of them", "clash")


def _check_installed(content: Mapping[str, Any]) -> Iterator[Mistake]:
    """Find formats whose extra is not installed, before anything is paid."""
    formats = _table(content, "results").get("formats")
    for place, format in enumerate(formats if isinstance(formats, list) else ()):
        if isinstance(format, str) and (error := find_missing(format)):
            yield Mistake(("results", "formats", place), error.message, error.hint, "not-installed")


def _check_pages(content: Mapping[str, Any]) -> Iterator[Mistake]:
    files = content.get("files")
    given = [files] if isinstance(files, str) else files if isinstance(files, list) else []
    if "max_pages" in _table(content, "limits") and any(isinstance(one, str) and is_url(one) for one in given):
        what = "max_pages needs local files: pages of files elsewhere are not counted"
        yield Mistake(("limits", "max_pages"), what, "use max_runs, or remove max_pages", "clash")
    if "max_pages" in _table(content, "limits") and (error := find_missing("pdf")):
        yield Mistake(
            ("limits", "max_pages"), f"max_pages {error.message.removeprefix('pdf ')}", error.hint, "not-installed"
        )


def _check_results(spec: Spec) -> Iterator[Mistake]:
    """Find patterns that match files in the results folder. Those are never sources."""
    folder = posixpath.normpath(spec.results.dir_for(spec.name)).split("/")
    for pattern in spec.files:
        if not pattern.startswith("!") and any(names[: len(folder)] == folder for names in expand_pattern(pattern)):
            what = f"files matches the results folder, {pattern}"
            yield Mistake(
                ("results", "dir") if spec.results.dir else ("files",), what, "use another results.dir", "clash"
            )


def _table(content: Any, *names: str) -> dict[str, Any]:
    """Return a table of the unparsed content; empty if there is none."""
    for name in names:
        content = content.get(name, {}) if isinstance(content, dict) else {}
    return content if isinstance(content, dict) else {}
