"""The model of a spec. Parsing returns a `Spec`, or raises all mistakes, each with its line. No I/O."""

from __future__ import annotations

import ipaddress
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from aihub_runner.errors import Range, SpecErrors, SpecMistake
from aihub_runner.model import stem_of
from aihub_runner.spec.diagnostics import (
    NAME_RULE,
    Mistake,
    explain,
    find_not_json,
    find_secrets,
    is_secret,
    locate,
)
from aihub_runner.spec.excerpt import mask_values, render_excerpt
from aihub_runner.spec.kinds import (
    Flaw,
    Key,
    choice,
    flag,
    integer,
    key,
    list_keys,
    list_tables,
    listed,
    mapping,
    number,
    read_table,
    string,
    table,
)
from aihub_runner.spec.patterns import expand_pattern
from aihub_runner.system.extras import find_missing
from aihub_runner.text.escape import has_control_chars

# Not only dots: the name is also the name of the results folder.
NAME = r"[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*"
NAME_LENGTH = 100
APP_KEYS = ("app_name", "app_id", "deployment_id")
MAX_SPEC_BYTES = 1_000_000
MAX_DEPTH = 50
TAGS_LENGTH = 380
OWN_TAG = "aihub-runner:"


def is_this_machine(host: str) -> bool:
    """Whether the host of a URL, in lower case, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_context(context: str) -> str:
    """Return the context. Raises ValueError if it cannot be sent in a header."""
    if not (context.isascii() and context.isprintable()) or context != context.strip():
        raise ValueError("contains invalid characters or spaces")
    return context


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    if has_control_chars(text):
        raise ValueError("contains control characters")
    return text


def _check_pattern(pattern: str) -> str:
    expand_pattern(pattern.removeprefix("!"))
    return pattern


def _check_files(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if all(pattern.startswith("!") for pattern in patterns):
        raise ValueError("excludes files, but includes none")
    return patterns


def _check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if (length := sum(map(len, tags))) > TAGS_LENGTH:
        raise ValueError(f"are too long, {length} characters in total, at most {TAGS_LENGTH}")
    if any(tag.startswith(OWN_TAG) for tag in tags):
        raise ValueError(f"must not begin with {OWN_TAG}, which is reserved")
    return tags


def _check_once(values: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
        raise ValueError(f"has {twice[0]} twice")
    return values


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "", parts.port)[0]
    except ValueError:
        raise ValueError("is not a URL") from None
    if not (host and url.isprintable()) or " " in url or "@" in parts.netloc:
        raise ValueError("is not a plain URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise ValueError("must begin with https://")
    return url


def _check_results_dir(folder: str) -> str:
    if set(posixpath.normpath(folder).split("/")) <= {".", "..", ""}:
        raise ValueError("is the folder of the spec, or contains it")
    return folder


def _check_input_dir(folder: str) -> str:
    names = folder.split("/")
    if len(names) < 6 or names[0] or names[3] != "fs" or {".", ".."} & {*names} or "" in names[1:-1]:
        raise ValueError("is not a folder of a drive, /<organization>/<workspace>/fs/<drive>/<folder>/")
    return folder


def _check_header(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not a valid header name")
    return name


TEXT = string(_check_text, shortest=1)
PATTERN = string(_check_text, _check_pattern, shortest=1)
SECONDS = number(most=86_400)
MEGABYTES = number()
Include = Literal["confidence", "source", "review", "validation"]
When = Literal["never", "after-results"]
WHEN = choice(*get_args(When))
Format = Literal["jsonl", "csv", "xlsx", "parquet"]


@dataclass(frozen=True, kw_only=True)
class EnvRef:
    """A secret, by the name of the variable that contains it."""

    env: str = key(string(pattern="AIHUB_SECRET_[A-Za-z0-9_]+"))


@dataclass(frozen=True, kw_only=True)
class Keys:
    custom: dict[str, Any] = key(mapping(TEXT), {}, "Values for the app's custom keys.")
    secret: dict[str, str] = key(mapping(TEXT, TEXT), {}, "Aliases in the service's vault for the app's secret keys.")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    url: str = key(
        string(_check_text, _check_url, shortest=1),
        description="URL that the service calls when a run ends. It needs https, except for this machine.",
    )
    headers: dict[str, EnvRef] = key(
        mapping(string(_check_header), table(EnvRef)),
        {},
        'Headers of that call. Write each value as `{ env = "AIHUB_SECRET_…" }`.',
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    version: str | None = key(TEXT, None, "Version of the app. Default: the newest production version.")
    output_workspace: str | None = key(TEXT, None, "Workspace for the output of runs.")
    output_dir: str | None = key(TEXT, None, "Folder of a connected drive for the output of runs.")
    manual_upstream_integration: bool = key(
        flag(), False, "In place of `files`: run the deployment on what its upstream integration finds."
    )
    from_timestamp: int | None = key(
        integer(0), None, "With a mailbox as upstream integration: the earliest date, in Unix milliseconds."
    )
    to_timestamp: int | None = key(
        integer(0), None, "With a mailbox as upstream integration: the latest date, in Unix milliseconds."
    )
    tags: tuple[str, ...] = key(
        listed(TEXT, _check_tags), (), f"Tags for runs, at most {TAGS_LENGTH} characters in total."
    )
    keys: Keys = key(table(Keys), Keys())
    generate_post_process_pdf: bool = key(flag(), False, "Generate a PDF of each document. Implies `source`.")
    pdf_passwords: dict[str, EnvRef] = key(
        mapping(PATTERN, table(EnvRef)),
        {},
        "Passwords of PDF files by path or pattern. The first match counts. "
        'Write each value as `{ env = "AIHUB_SECRET_…" }`.',
    )
    webhook: Webhook | None = key(table(Webhook), None)
    on_lost: Literal["look", "stop"] = key(
        choice("look", "stop"),
        "look",
        "What to do if the response to a start is lost: `look` checks whether the run exists, and starts "
        "it again if it is confirmed absent; `stop` waits for your decision.",
    )


@dataclass(frozen=True, kw_only=True)
class Results:
    dir: str | None = key(
        string(_check_text, _check_results_dir, shortest=1),
        None,
        "Folder of the results, relative to the spec. Default: `results/<name>`.",
    )
    include: tuple[Include, ...] = key(
        listed(choice(*get_args(Include)), _check_once),
        (),
        "Additional data to fetch: `confidence`, `source`, `review`, `validation`.",
    )
    pdf: bool = key(
        flag(),
        False,
        "Fetch the PDF that the service generated of each document into `pdf/`. It needs "
        "`generate_post_process_pdf = true` in `[run]`.",
    )
    formats: tuple[Format, ...] = key(
        listed(choice(*get_args(Format)), _check_once),
        ("jsonl", "csv"),
        "Formats of the tables: `jsonl`, `csv`, and with an extra `xlsx` or `parquet`. `documents.jsonl` "
        "is always written.",
    )

    def dir_for(self, name: str) -> str:
        """Return the folder of the results, relative to the spec's folder."""
        return self.dir or f"results/{name}"


@dataclass(frozen=True, kw_only=True)
class Cleanup:
    delete_input: When = key(
        WHEN, "never", "Delete batches from the service, with the documents in them, once their results are on disk."
    )
    delete_output: When = key(
        WHEN, "never", "Delete the results of runs from the service, files and database, once they are on disk."
    )
    delete_logs: When = key(WHEN, "never", "Delete the logs of runs from the service, once their results are on disk.")

    @property
    def parts(self) -> tuple[str, ...]:
        """What to delete: `input`, `output`, `logs`."""
        wanted = {"input": self.delete_input, "output": self.delete_output, "logs": self.delete_logs}
        return tuple(part for part, when in wanted.items() if when == "after-results")


@dataclass(frozen=True, kw_only=True)
class Limits:
    files_per_batch: int = key(integer(1, 1_000_000), 1000, "Most files in a batch, and in a run.")
    file_size_mb: float = key(MEGABYTES, 50, "Largest file to send, in MB of 1,048,576 bytes.")
    spreadsheet_size_mb: float = key(MEGABYTES, 10, "Spreadsheets (.csv, .xls, .xlsx) must be smaller.")
    part_threshold_mb: float = key(MEGABYTES, 10, "Files larger than this, in MB, are sent in parts.")
    parallel_uploads: int = key(
        integer(1, 256), 64, "Most files to upload at once. It starts with 8, and uses more while that is faster."
    )
    parallel_runs: int = key(integer(1, 256), 10, "Most runs in progress at once.")
    connect_timeout_s: float = key(SECONDS, 10, "Longest wait for a connection, in seconds.")
    read_timeout_s: float = key(SECONDS, 120, "Longest wait for a response, in seconds.")
    poll_min_s: float = key(SECONDS, 0.4, "Shortest pause between polls of a run, in seconds.")
    poll_max_s: float = key(SECONDS, 30, "Longest pause between polls of a run, in seconds.")
    settle_s: float = key(SECONDS, 60, "Longest delay until the service lists a new batch or run, in seconds.")
    on_unsupported: Literal["report", "ignore", "send"] = key(
        choice("report", "ignore", "send"),
        "report",
        "Files of unsupported types: skip and `report` them, `ignore` them, or `send` them.",
    )
    max_runs: int | None = key(integer(0), None, "Most runs to start in one apply. Default: no limit.")
    max_runs_per_day: int | None = key(
        integer(0), None, "Most runs to start in 24 hours, by all applies that share the state. Default: no limit."
    )
    max_pages: int | None = key(
        integer(0),
        None,
        "Most pages to pay for in one apply. A file that does not tell its pages counts as one. Needs the extra `pdf`. "
        "Default: no limit.",
    )
    unit_price: float | None = key(number(), None, "Price of a page, to show the cost in plan and summary.")

    def __post_init__(self) -> None:
        if self.poll_min_s > self.poll_max_s:
            raise ValueError(f"have poll_min_s larger than poll_max_s, {self.poll_min_s:g} and {self.poll_max_s:g}")


@dataclass(frozen=True, kw_only=True)
class Spec:
    name: str = key(
        string(pattern=NAME, longest=NAME_LENGTH),
        "",
        f"Name of the job, and part of the batch names: {NAME_RULE}. Default: the stem of the file.",
    )
    files: tuple[str, ...] = key(
        listed(PATTERN, _check_files, or_one=True),
        (),
        "A pattern or a list of patterns, relative to the spec; see Patterns. Required, unless `input_dir` or "
        "`manual_upstream_integration` says what to run.",
    )
    input_dir: str | None = key(
        string(_check_text, _check_input_dir),
        None,
        "In place of `files`: a folder of a drive, `/<organization>/<workspace>/fs/<drive>/<folder>/`. It runs once "
        "for each version and settings, and again only with `--again`.",
    )
    group_by: Literal["folder"] | None = key(
        choice("folder"),
        None,
        'What goes into a batch, and a run. `"folder"`: all files of a folder, for apps that compare the documents of '
        "a case; any change of the folder pays for all its files again. Default: up to `files_per_batch` files.",
    )
    allow_empty: bool = key(
        flag(),
        False,
        "Allow a pattern of `files` to match nothing after it matched files. Otherwise the exit code is 3.",
    )
    app_name: str | None = key(TEXT, None, "Name of the app. Or set `app_id` or `deployment_id`.")
    app_id: str | None = key(TEXT, None, "Id of the app.")
    deployment_id: str | None = key(
        TEXT, None, "Id of the deployment to run. Cannot be combined with `owner` or `output_workspace`."
    )
    owner: str | None = key(TEXT, None, "Owner of the app. Leave it out for your own apps.")
    context: str | None = key(
        string(check_context),
        None,
        'The IB-Context: the account that pays. `""` is the community account. Default: AIHUB_CONTEXT.',
    )
    workspace: str | None = key(TEXT, None, "Workspace for the batches.")
    run: Run = key(table(Run), Run())
    results: Results = key(table(Results), Results())
    cleanup: Cleanup = key(table(Cleanup), Cleanup())
    limits: Limits = key(table(Limits), Limits())


TABLES = list_tables(Spec)
KNOWN: set[Key] = {(*at, name) for at, model in TABLES.items() for name in list_keys(model)}


def parse_spec(text: str, path: PurePath) -> Spec:
    """Parse the text of a spec. Raises SpecErrors with every mistake."""
    text = text.replace("\r\n", "\n")
    content = _load_toml(text, path)
    mistakes = [*find_secrets(content, KNOWN), *_check_app(content)]
    mistakes += find_not_json(_table(content, "run", "keys", "custom"), ("run", "keys", "custom"))
    mistakes += [*_check_input(content), *_check_group(content), *_check_pdf(content), *_check_installed(content)]
    mistakes += _check_pages(content)
    flaws: list[Flaw] = []
    spec = read_table(Spec, {"name": stem_of(path), **content}, (), flaws)
    if spec:
        mistakes += _check_results(spec)
        if not mistakes:
            return spec
    secret = {mistake.key for mistake in mistakes}
    found = [explain(flaw, TABLES) for flaw in flaws]
    mistakes += [one for one in found if one.key not in secret and not is_secret(one.key or ("",), KNOWN)]
    raise SpecErrors(locate(mistakes, text, path))


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


def _check_app(content: Mapping[str, Any]) -> Iterator[Mistake]:
    given = [key for key in content if key in APP_KEYS]
    if len(given) != 1:
        what = f"exactly one of app_name, app_id and deployment_id is required, {len(given)} are set"
        yield Mistake(tuple(given[-1:]), what, "keep one of them" if given else "add app_name", "clash")
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
    given = [name for name in ("files", "input_dir") if name in content] + ["manual_upstream_integration"] * upstream
    if not given:
        yield Mistake(("files",), "files is missing", "add files", "missing-key")
    elif len(given) > 1:
        where: Key = ("run", given[-1]) if upstream else (given[-1],)
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
        ("cleanup", "delete_input"): _table(content, "cleanup"),  # the folder of a drive is not ours to delete
    }
    for at, holder in of_files.items() if given and "files" not in given else ():
        if holder.get(str(at[-1])) not in (None, False):
            yield Mistake(at, f"{at[-1]} needs files", f"remove {at[-1]}", "clash")


def _check_group(content: Mapping[str, Any]) -> Iterator[Mistake]:
    if "group_by" in content and "files_per_batch" in _table(content, "limits"):
        what = "files_per_batch cannot be combined with group_by, which decides what goes into a batch"
        yield Mistake(("limits", "files_per_batch"), what, "remove one of them", "clash")


def _check_installed(content: Mapping[str, Any]) -> Iterator[Mistake]:
    """Find formats whose extra is not installed, before anything is paid."""
    formats = _table(content, "results").get("formats")
    for place, format in enumerate(formats if isinstance(formats, list) else ()):
        if isinstance(format, str) and (error := find_missing(format)):
            yield Mistake(("results", "formats", place), error.message, error.hint, "not-installed")


def _check_pages(content: Mapping[str, Any]) -> Iterator[Mistake]:
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
