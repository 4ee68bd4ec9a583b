"""The spec: what shall be processed. Parsing it gives a value or all of its mistakes, each with its line. No I/O."""

from __future__ import annotations

import ipaddress
import posixpath
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from aihub_runner.errors import InputError, SpecErrors
from aihub_runner.model import stem_of
from aihub_runner.spec.diagnostics import (
    NAME_RULE,
    Key,
    Mistake,
    explain,
    find_not_json,
    find_secrets,
    is_secret,
    list_tables,
    locate,
)
from aihub_runner.spec.patterns import expand_pattern

# Not of dots alone: it names a folder of results.
NAME = r"^[A-Za-z0-9._-]*[A-Za-z0-9_-][A-Za-z0-9._-]*$"
NAME_LENGTH = 100
APP_KEYS = ("app_name", "app_id", "deployment_id")
MAX_SPEC_BYTES = 1_000_000
MAX_DEPTH = 50
TAGS_LENGTH = 380
OWN_TAG = "aihub-runner:"


def is_this_machine(host: str) -> bool:
    """Return whether a host of a URL, in lower case, is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_context(context: str) -> str:
    """Return a context back that a header can carry. Raises ValueError."""
    if not (context.isascii() and context.isprintable()) or context != context.strip():
        raise ValueError("holds characters or blanks that no context has")
    return context


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise ValueError("holds control characters")
    return text


def _check_pattern(pattern: str) -> str:
    expand_pattern(pattern.removeprefix("!"))
    return pattern


def _check_files(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if all(pattern.startswith("!") for pattern in patterns):
        raise ValueError("leaves out everything, and takes nothing")
    return patterns


def _check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    if (length := sum(map(len, tags))) > TAGS_LENGTH:
        raise ValueError(f"are {length} characters together, {TAGS_LENGTH} are allowed")
    if any(tag.startswith(OWN_TAG) for tag in tags):
        raise ValueError(f"may not begin with {OWN_TAG}, which marks our own")
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
        raise ValueError("is the folder of the spec, or holds it")
    return folder


def _check_header(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not a name of a header")
    return name


def _list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _one_or_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _list(value)


Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
Pattern = Annotated[Text, AfterValidator(_check_pattern)]
Include = Literal["confidence", "source", "review", "validation"]
Format = Literal["jsonl", "csv", "xlsx", "parquet"]
Listed = BeforeValidator(_list)
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class EnvRef(_Table):
    """A secret by the name of the variable that holds it."""

    env: Annotated[str, Field(pattern=r"^AIHUB_SECRET_[A-Za-z0-9_]+$")]


class Keys(_Table):
    custom: dict[Text, Any] = Field({}, description="Values of the app's custom keys.")
    secret: dict[Text, Text] = Field({}, description="Aliases, in the service's vault, of the app's secret keys.")


class Webhook(_Table):
    url: Annotated[Text, AfterValidator(_check_url)] = Field(
        description="Called by the service when a run ends; https only, or this machine."
    )
    headers: dict[Annotated[str, AfterValidator(_check_header)], EnvRef] = Field(
        {}, description='Headers of that call; values only as `{ env = "AIHUB_SECRET_…" }`.'
    )


class Run(_Table):
    version: Text | None = Field(None, description="The app's version; the newest production version where absent.")
    output_workspace: Text | None = Field(None, description="The workspace that the run's output goes to.")
    output_dir: Text | None = Field(None, description="A folder of a connected drive that the run's output goes to.")
    tags: Annotated[tuple[Text, ...], Listed, AfterValidator(_check_tags)] = Field(
        (), description=f"Tags of the runs, at most {TAGS_LENGTH} characters together."
    )
    keys: Keys = Keys()
    generate_post_process_pdf: bool = Field(False, description="Make a PDF of each document; implies `source`.")
    pdf_passwords: dict[Pattern, EnvRef] = Field(
        {},
        description="Passwords of PDF files by path or glob, the first that fits counts; "
        'values only as `{ env = "AIHUB_SECRET_…" }`.',
    )
    webhook: Webhook | None = None
    on_lost: Literal["look", "stop"] = Field(
        "look", description="After a lost answer: `look` for the run and start it again if surely absent, or `stop`."
    )


class Results(_Table):
    dir: Annotated[Text, AfterValidator(_check_results_dir)] | None = Field(
        None, description="Folder of the results; `results/<name>` beside the spec where absent."
    )
    include: Annotated[tuple[Include, ...], Listed, AfterValidator(_check_once)] = Field(
        (), description="What else to fetch: `confidence`, `source`, `review`, `validation`."
    )
    formats: Annotated[tuple[Format, ...], Listed, AfterValidator(_check_once)] = Field(
        ("jsonl", "csv"),
        description="Formats of the tables beside `documents.jsonl`: `jsonl`, `csv`, and as extras `xlsx`, `parquet`.",
    )

    def dir_for(self, name: str) -> str:
        """Return the folder of the results, relative to the spec's folder."""
        return self.dir or f"results/{name}"


class Limits(_Table):
    files_per_batch: int = Field(1000, ge=1, le=1_000_000, description="Files in one batch, and so in one run.")
    file_size_mb: Megabytes = Field(50, description="Largest file, in MB of 1,048,576 bytes.")
    spreadsheet_size_mb: Megabytes = Field(10, description="Spreadsheets (.csv, .xls, .xlsx) must stay below this.")
    part_threshold_mb: Megabytes = Field(10, description="Larger files are sent in parts.")
    parallel_uploads: int = Field(16, ge=1, le=256, description="Files that are sent at once.")
    parallel_runs: int = Field(10, ge=1, le=256, description="Runs that go on at once.")
    connect_timeout_s: Seconds = Field(10, description="Longest wait for a connection, in seconds.")
    read_timeout_s: Seconds = Field(120, description="Longest wait for an answer, in seconds.")
    poll_min_s: Seconds = Field(0.5, description="Shortest pause between looks at a run, in seconds.")
    poll_max_s: Seconds = Field(30, description="Longest pause between looks at a run, in seconds.")
    settle_s: Seconds = Field(60, description="How long the service's lists may lag behind, in seconds.")
    on_unsupported: Literal["report", "ignore", "send"] = Field(
        "report", description="Files of unsupported types: set them aside, `ignore` them, or `send` them all the same."
    )
    max_runs: int | None = Field(None, ge=0, description="Refuse to start more runs in one apply; no limit if absent.")

    @model_validator(mode="after")
    def _check_polls(self) -> Limits:
        if self.poll_min_s > self.poll_max_s:
            raise ValueError(f"have poll_min_s larger than poll_max_s, {self.poll_min_s:g} and {self.poll_max_s:g}")
        return self


class Spec(_Table):
    name: Annotated[str, Field(pattern=NAME, max_length=NAME_LENGTH)] = Field(
        "", description=f"Name of the job, part of the batches' names: {NAME_RULE}; the file's stem where absent."
    )
    files: Annotated[
        tuple[Pattern, ...],
        BeforeValidator(_one_or_list, json_schema_input_type=str | list[str]),
        AfterValidator(_check_files),
    ] = Field(description="A pattern or a list of patterns, relative to the spec; see below.")
    allow_empty: bool = Field(
        False, description="A pattern of `files` that took files before may take none; else that ends with exit code 3."
    )
    app_name: Text | None = Field(None, description="The app by its name; or `app_id`, or `deployment_id`.")
    app_id: Text | None = Field(None, description="The app by its id.")
    deployment_id: Text | None = Field(
        None, description="The deployment to run; it takes neither `owner` nor `output_workspace`."
    )
    owner: Text | None = Field(None, description="The app's owner; absent for one's own apps.")
    context: Annotated[str, AfterValidator(check_context)] | None = Field(
        None, description='The IB-Context: whose units are spent. AIHUB_CONTEXT where absent; `""` is the community.'
    )
    workspace: Text | None = Field(None, description="The workspace of the batches.")
    run: Run = Run()
    results: Results = Results()
    limits: Limits = Limits()


TABLES = list_tables(Spec)
KNOWN: set[Key] = {(*table, name) for table, model in TABLES.items() for name in model.model_fields}


def parse_spec(text: str, path: PurePath) -> Spec:
    """Parse the text of a spec. Raises SpecErrors with every mistake."""
    text = text.replace("\r\n", "\n")
    content = _load_toml(text, path)
    mistakes = [*find_secrets(content, KNOWN), *_check_app(content)]
    mistakes += find_not_json(_table(content, "run", "keys", "custom"), ("run", "keys", "custom"))
    found = _validate({"name": stem_of(path), **content})
    if isinstance(found, Spec):
        mistakes += _check_results(found)
        if not mistakes:
            return found
    else:
        secret = {mistake.key for mistake in mistakes}
        mistakes += [one for one in found if one.key not in secret and not is_secret(one.key or ("",), KNOWN)]
    raise SpecErrors(locate(mistakes, text, path))


def _load_toml(text: str, path: PurePath) -> dict[str, Any]:
    too_deep = InputError(f"{path}: nests too deeply, or holds too large a number", "check that it is a spec")
    try:
        content = tomllib.loads(text)
        mistake = too_deep if _is_deep(content) else None
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).partition(" (at ")
        line, column = [*re.findall(r"\d+", place), "", ""][:2]
        where = f"{path}:{line or text.count(chr(10)) + 1}" + f":{column}" * bool(column)
        mistake = InputError(f"{where}: is not TOML, {what[:1].lower()}{what[1:]}", _hint_of(what))
    except (ValueError, RecursionError):
        mistake = too_deep
    if mistake:  # raised here, so that no traceback shows what the text holds
        raise SpecErrors([mistake])
    return content


def _hint_of(what: str) -> str:
    if "Unescaped '\\'" in what or "hex digits" in what:
        return "write / between folders, and a text that needs a \\ in single quotes"
    return "fix the line that is named"


def _is_deep(content: dict[str, Any]) -> bool:
    """Return whether tables nest deeper than any spec needs, and than can be walked; dotted keys make it easy."""
    level: list[Any] = [content]
    for _ in range(MAX_DEPTH):
        inner = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        level = [one for one in inner if isinstance(one, dict | list)]
    return bool(level)


def _validate(content: dict[str, Any]) -> Spec | list[Mistake]:
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        return [explain(one, TABLES) for one in error.errors(include_url=False)]


def _check_app(content: Mapping[str, Any]) -> Iterator[Mistake]:
    given = [key for key in content if key in APP_KEYS]
    if len(given) != 1:
        what = f"exactly one of app_name, app_id and deployment_id is needed, {len(given)} are given"
        yield Mistake(tuple(given[-1:]), what, "keep one of them" if given else "add app_name")
    if "deployment_id" in content:
        clashes: list[Key] = [("owner",)] * ("owner" in content)
        clashes += [("run", "output_workspace")] * ("output_workspace" in _table(content, "run"))
        for key in clashes:
            what = f"deployment_id takes neither owner nor output_workspace, {key[-1]} is given"
            yield Mistake(key, what, f"remove {key[-1]}, the deployment has its own")


def _check_results(spec: Spec) -> Iterator[Mistake]:
    """Find patterns that take what the folder of results would hold: nothing in there is ever a source."""
    folder = posixpath.normpath(spec.results.dir_for(spec.name)).split("/")
    for pattern in spec.files:
        if not pattern.startswith("!") and any(names[: len(folder)] == folder for names in expand_pattern(pattern)):
            what = f"files takes what lies in the folder of results, {pattern}"
            yield Mistake(
                ("results", "dir") if spec.results.dir else ("files",), what, "let results.dir be another one"
            )


def _table(content: Any, *names: str) -> dict[str, Any]:
    """Return a table as it was written, empty where there is none."""
    for name in names:
        content = content.get(name, {}) if isinstance(content, dict) else {}
    return content if isinstance(content, dict) else {}
