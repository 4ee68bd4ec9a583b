"""The spec: what shall be processed. Parsing it gives a value or all of its mistakes, each with its line. No I/O."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from runner.errors import InputError, SpecErrors

NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
SECRET_WORDS = frozenset({"api_key", "apikey", "token", "password", "passwd", "secret", "authorization"})
TAGS_LENGTH = 380
OWN_TAG = "aihub-runner:"

Text = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class EnvRef(_Table):
    """A secret by the name of the variable that holds it."""

    env: Annotated[str, Field(pattern=r"^AIHUB_SECRET_[A-Za-z0-9_]+$")]


class Keys(_Table):
    custom: dict[str, Any] = Field({}, description="Values of the app's custom keys.")
    secret: dict[str, Text] = Field({}, description="Aliases, in the service's vault, of the app's secret keys.")


class Webhook(_Table):
    url: str = Field(description="Called by the service when a run ends; https only, or this machine.")
    headers: dict[str, EnvRef] = Field(
        {}, description='Headers of that call; values only as `{ env = "AIHUB_SECRET_…" }`.'
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not re.match(r"https://[^\s]+$|http://(localhost|127\.0\.0\.1|\[::1\])([:/][^\s]*)?$", url):
            raise ValueError("must begin with https://")
        return url


class Run(_Table):
    version: Text | None = Field(None, description="The app's version; the newest production version where absent.")
    output_workspace: Text | None = Field(None, description="The workspace that the run's output goes to.")
    output_dir: Text | None = Field(None, description="A folder of a connected drive that the run's output goes to.")
    tags: tuple[Text, ...] = Field((), description=f"Tags of the runs, at most {TAGS_LENGTH} characters together.")
    keys: Keys = Keys()
    generate_post_process_pdf: bool = Field(False, description="Make a PDF of each document; implies `source`.")
    pdf_passwords: dict[str, EnvRef] = Field(
        {}, description='Passwords of PDF files by path or glob; values only as `{ env = "AIHUB_SECRET_…" }`.'
    )
    webhook: Webhook | None = None
    on_lost: Literal["look", "stop"] = Field(
        "look", description="After a lost answer: `look` for the run and start it again if surely absent, or `stop`."
    )

    @field_validator("tags", mode="before")
    @classmethod
    def _take_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if (length := sum(map(len, tags))) > TAGS_LENGTH:
            raise ValueError(f"are {length} characters together, {TAGS_LENGTH} are allowed")
        if any(tag.startswith(OWN_TAG) for tag in tags):
            raise ValueError(f"may not begin with {OWN_TAG}, which marks our own")
        return tags


Include = Literal["confidence", "source", "review", "validation"]


class Results(_Table):
    dir: Text | None = Field(None, description="Folder of the results; `results/<name>` beside the spec where absent.")
    include: tuple[Include, ...] = Field(
        (), description="What else to fetch: `confidence`, `source`, `review`, `validation`."
    )

    @field_validator("include", mode="before")
    @classmethod
    def _take_list(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    def dir_for(self, name: str) -> str:
        """Give the folder of the results, relative to the spec's folder."""
        return self.dir or f"results/{name}"


Positive = Annotated[float, Field(gt=0, strict=False)]
Count = Annotated[int, Field(gt=0)]


class Limits(_Table):
    files_per_batch: Count = Field(1000, description="Files in one batch, and so in one run.")
    file_size_mb: Positive = Field(50, description="Largest file, in MB of 1,048,576 bytes.")
    spreadsheet_size_mb: Positive = Field(10, description="Spreadsheets (.csv, .xls, .xlsx) must stay below this.")
    part_threshold_mb: Positive = Field(10, description="Larger files are sent in parts.")
    parallel_uploads: Count = Field(16, description="Files that are sent at once.", le=256)
    parallel_runs: Count = Field(10, description="Runs that go on at once.", le=256)
    connect_timeout_s: Positive = Field(10, description="Longest wait for a connection, in seconds.")
    read_timeout_s: Positive = Field(120, description="Longest wait for an answer, in seconds.")
    poll_min_s: Positive = Field(0.5, description="Shortest pause between looks at a run, in seconds.")
    poll_max_s: Positive = Field(30, description="Longest pause between looks at a run, in seconds.")
    settle_s: Positive = Field(60, description="How long the service's lists may lag behind, in seconds.")
    on_unsupported: Literal["report", "ignore", "send"] = Field(
        "report", description="Files of unsupported types: set them aside, `ignore` them, or `send` them all the same."
    )
    max_runs: Annotated[int, Field(ge=0)] | None = Field(None, description="Refuse to start more runs in one apply.")

    @model_validator(mode="after")
    def _check_polls(self) -> Limits:
        if self.poll_min_s > self.poll_max_s:
            raise ValueError("poll_min_s is larger than poll_max_s")
        return self


class Spec(_Table):
    name: str = Field("", description="Name of the job, part of the batches' names; the file's stem where absent.")
    files: tuple[Text, ...] = Field(
        description="A glob or a list of globs, relative to the spec: `**`, `{a,b}`, and `!pattern` to leave out."
    )
    app_name: Text | None = Field(None, description="The app by its name.")
    app_id: Text | None = Field(None, description="The app by its id.")
    deployment_id: Text | None = Field(None, description="The deployment to run.")
    owner: Text | None = Field(None, description="The app's owner; absent for one's own apps.")
    context: str | None = Field(
        None, description='The IB-Context: whose units are spent. AIHUB_CONTEXT where absent; `""` is the community.'
    )
    workspace: Text | None = Field(None, description="The workspace of the batches.")
    run: Run = Run()
    results: Results = Results()
    limits: Limits = Limits()

    @field_validator("files", mode="before")
    @classmethod
    def _take_one(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("files")
    @classmethod
    def _check_files(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if not any(not pattern.startswith("!") for pattern in files):
            raise ValueError("leaves out everything, and takes nothing")
        return files

    @model_validator(mode="after")
    def _check_app(self) -> Spec:
        named = [key for key in ("app_name", "app_id", "deployment_id") if getattr(self, key)]
        if len(named) != 1:
            raise ValueError(f"exactly one of app_name, app_id and deployment_id is needed, {len(named)} are given")
        if self.deployment_id and (self.owner or self.run.output_workspace):
            raise ValueError("deployment_id takes neither owner nor run.output_workspace")
        return self


def parse_spec(text: str, path: PurePath) -> Spec:
    """Parse the text of a spec. Raises SpecErrors with every mistake."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecErrors([InputError(f"{path.name}: is not TOML, {error}", "mend the line that is named")]) from None
    lines = _find_lines(text)
    mistakes = [_at(path, lines, key, *what) for key, *what in _find_secrets(content, ())]
    content.setdefault("name", path.stem)
    if not (isinstance(content["name"], str) and NAME.fullmatch(content["name"])):
        what = f"name {content['name']!r} is not 1 to 100 letters, digits, '-', '_' and '.'"
        mistakes.append(_at(path, lines, ("name",), what, "set name in the spec"))
    try:
        spec = Spec.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=True)
        mistakes += [_at(path, lines, *_explain(item)) for item in found if not _is_secret(item["loc"])]
        raise SpecErrors(sorted(mistakes, key=_line_of)) from None
    if mistakes:
        raise SpecErrors(mistakes)
    return spec


Key = tuple[str | int, ...]


def _line_of(mistake: InputError) -> int:
    match = re.search(r":(\d+): ", mistake.message)
    return int(match[1]) if match else 0


def _find_lines(text: str) -> dict[Key, int]:
    """Find the line of each `[table]` and `key =`; good enough to point at, not a TOML parser."""
    lines: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[\[?([^\]]+)\]", line):
            table = _split_key(match[1])
            lines.setdefault(table, number)
        elif match := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w.-])+)\s*=""", line):
            lines.setdefault(table + _split_key(match[1]), number)
    return lines


def _split_key(text: str) -> Key:
    parts = re.findall(r"""\s*(?:"([^"]*)"|'([^']*)'|([\w-]+))\s*\.?""", text)
    return tuple(next(filter(None, part), "") for part in parts)


def _at(path: PurePath, lines: dict[Key, int], key: Key, what: str, hint: str) -> InputError:
    place = next((lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in lines), 0)
    return InputError(f"{path.name}:{place}: {what}" if place else f"{path.name}: {what}", hint)


_FREE = {("run", "keys", "custom"), ("run", "keys", "secret"), ("run", "pdf_passwords"), ("run", "webhook", "headers")}


def _is_secret(key: Key) -> bool:
    return bool(key) and str(key[-1]).lower() in SECRET_WORDS and tuple(key[:-1]) not in _FREE


def _find_secrets(content: Any, key: Key) -> list[tuple[Key, str, str]]:
    found = []
    if _is_secret(key) and key != ("run", "keys", "secret"):
        hint = "take it out, change it where it is valid, and set AIHUB_API_KEY or an AIHUB_SECRET_… variable"
        found.append((key, f"{key[-1]!r} has no place in a spec, which is committed", hint))
    if isinstance(content, dict):
        for name, value in content.items():
            found += _find_secrets(value, (*key, name))
    return found


def _explain(error: Any) -> tuple[Key, str, str]:
    """Turn pydantic's error into our words; values are shown only where they cannot be secrets."""
    key: Key = error["loc"]
    dotted = ".".join(str(part) for part in key)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return key, f"unknown key {key[-1]!r}", _suggest(key)
    if kind == "missing":
        return key, f"{dotted} is missing", f"add {dotted}"
    if len(key) >= 2 and (key[:2] == ("run", "pdf_passwords") or key[:3] == ("run", "webhook", "headers")):
        place = ".".join(map(str, key[: 4 if "headers" in key else 3]))
        what = f"{place} holds a secret in plain text, or names a variable that it may not read"
        return key, what, 'write { env = "AIHUB_SECRET_…" }, and set that variable'
    if kind == "value_error":
        text = str(context["error"])
        return key, f"{dotted} {text}" if key else text, "see docs/reference.md"
    wanted = {
        "string_type": "is not a text",
        "string_too_short": "is empty",
        "int_type": "is not a whole number",
        "float_type": "is not a number",
        "bool_type": "is not true or false",
        "dict_type": "is not a table",
        "model_type": "is not a table",
        "tuple_type": "is not a list",
        "greater_than": f"is not more than {context.get('gt')}",
        "greater_than_equal": f"is less than {context.get('ge')}",
        "less_than_equal": f"is more than {context.get('le')}",
        "literal_error": f"is not {context.get('expected')}",
    }.get(kind, error["msg"].lower())
    return key, f"{dotted} {wanted}, {error['input']!r:.80}", "see docs/reference.md"


def _suggest(key: Key) -> str:
    tables: dict[str, type[BaseModel]] = {"": Spec, "run": Run, "results": Results, "limits": Limits, "run.keys": Keys}
    table = ".".join(str(part) for part in key[:-1])
    here = tables.get(table, Spec).model_fields
    if near := difflib.get_close_matches(str(key[-1]), here, 1):
        return f"did you mean {near[0]!r}?"
    for name, model in tables.items():
        if key[-1] in model.model_fields:
            return f"it belongs in [{name}]" if name else "it belongs at the top, before the first table"
    return "see docs/reference.md for all keys"
