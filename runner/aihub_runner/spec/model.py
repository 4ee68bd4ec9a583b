"""The model of a spec: its keys, and the tables that hold them. No I/O."""

from __future__ import annotations

from typing import Any, Literal, get_args

from aihub_runner.model import FOREIGN, OWN
from aihub_runner.spec.diagnostics import NAME_RULE
from aihub_runner.spec.kinds import (
    Key,
    Table,
    choice,
    flag,
    flag_or,
    integer,
    key,
    list_keys,
    list_tables,
    listed,
    mapping,
    number,
    string,
    table,
)
from aihub_runner.spec.values import (
    MEGABYTES,
    NAME,
    NAME_LENGTH,
    PATTERN,
    RESULTS_DIR,
    SECONDS,
    TAGS_LENGTH,
    TARGET_NAME,
    TEXT,
    check_context,
    check_files,
    check_header,
    check_input_dir,
    check_once,
    check_tags,
    check_text,
    check_url,
)

APP_KEYS = ("app_name", "app_id", "deployment_id")
MAX_SPEC_BYTES = 1_000_000
Include = Literal["confidence", "source", "review", "validation"]
When = Literal["never", "after-results"]
WHEN = choice(*get_args(When))
Format = Literal["jsonl", "csv", "xlsx", "parquet"]


class EnvRef(Table):
    """A secret, by the name of the variable that contains it."""

    env: str = key(string(pattern="AIHUB_SECRET_[A-Za-z0-9_]+"))


class Keys(Table):
    custom: dict[str, Any] = key(mapping(TEXT), {}, "Values for the app's custom keys.")
    secret: dict[str, str] = key(mapping(TEXT, TEXT), {}, "Aliases in the service's vault for the app's secret keys.")


class Webhook(Table):
    url: str = key(
        string(check_text, check_url, shortest=1),
        description="URL that the service calls when a run ends. It needs https, except for this machine.",
    )
    headers: dict[str, EnvRef] = key(
        mapping(string(check_header), table(EnvRef)),
        {},
        'Headers of that call. Write each value as `{ env = "AIHUB_SECRET_…" }`.',
    )


class Run(Table):
    version: str | None = key(TEXT, None, "Version of the app. Default: the newest production version.")
    output_workspace: str | None = key(TEXT, None, "Workspace for the output of runs.")
    output_dir: str | None = key(TEXT, None, "Folder of a connected drive for the output of runs.")
    manual_upstream_integration: bool = key(
        flag(), False, "Instead of `files`: run the deployment on what its upstream integration finds."
    )
    from_timestamp: int | None = key(
        integer(0), None, "With a mailbox as upstream integration: the earliest date, in Unix milliseconds."
    )
    to_timestamp: int | None = key(
        integer(0), None, "With a mailbox as upstream integration: the latest date, in Unix milliseconds."
    )
    tags: tuple[str, ...] = key(
        listed(TEXT, check_tags), (), f"Tags for runs, at most {TAGS_LENGTH} characters in total."
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


class Results(Table):
    dir: str | None = key(
        RESULTS_DIR,
        None,
        "Folder of the results, relative to the spec. Default: `results/<name>`.",
    )
    include: tuple[Include, ...] = key(
        listed(choice(*get_args(Include)), check_once),
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
        listed(choice(*get_args(Format)), check_once),
        ("jsonl", "csv"),
        "Formats of the tables: `jsonl`, `csv`, and with an extra `xlsx` or `parquet`. `documents.jsonl` "
        "is always written.",
    )

    def dir_for(self, name: str) -> str:
        """Return the folder of the results, relative to the spec's folder."""
        return self.dir or f"results/{name}"


class Batch(Table):
    id: int | None = key(
        integer(1, 2**63 - 1),
        None,
        "Instead of `files`: the id of a batch that exists. All its files are one run, which is repeated, and paid "
        "again, when they change. Nothing is uploaded to the batch, or deleted from it, without `sync`.",
    )
    sync: bool | Literal["exact"] = key(
        flag_or("exact"),
        False,
        "With `id` and `files`: upload the files to that batch, replace those that change, and delete those that this "
        'job uploaded and that are gone. Files of others are left and run with yours; `"exact"` deletes them, too, '
        "with `--confirm-delete`.",
    )
    keep: bool = key(
        flag(),
        False,
        "With `files`: keep one batch for this job, which follows the files. All of them are one run, which is "
        "repeated, and paid again, when they change.",
    )

    @property
    def kind(self) -> str:
        """Whose batch is kept: `OWN`, `FOREIGN`, or empty where none is."""
        return FOREIGN if self.id else OWN * self.keep

    @property
    def follows(self) -> bool:
        """Whether the batch holds the files of the spec."""
        return bool(self.sync or self.keep)


class Cleanup(Table):
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


class Limits(Table):
    files_per_batch: int = key(integer(1, 1_000_000), 1000, "Most files in a batch, and in a run.")
    file_size_mb: float = key(MEGABYTES, 50, "Largest file to send, in MB of 1,048,576 bytes.")
    spreadsheet_size_mb: float = key(MEGABYTES, 10, "Spreadsheets (.csv, .xls, .xlsx) must be smaller.")
    part_threshold_mb: float = key(MEGABYTES, 10, "Files larger than this, in MB, are sent in parts.")
    parallel_uploads: int = key(
        integer(1, 256), 64, "Most files to upload at once. It starts with a few, and uses more while that is faster."
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
        integer(0),
        None,
        "Most runs of this job to start in 24 hours, by all its clones. Default: no limit.",
    )
    max_pages: int | None = key(
        integer(0),
        None,
        "Most pages to pay for in one apply. A file without a page count counts as one page. Needs the extra `pdf`. "
        "Default: no limit.",
    )
    unit_price: float | None = key(number(), None, "Price of a page, to show the cost in plan and summary.")

    def check(self) -> None:
        if self.poll_min_s > self.poll_max_s:
            raise ValueError(f"have poll_min_s larger than poll_max_s, {self.poll_min_s:g} and {self.poll_max_s:g}")


class TargetRun(Table):
    version: str | None = key(TEXT, None, "Version of the app.")
    output_workspace: str | None = key(TEXT, None, "Workspace for the output of runs.")


class TargetResults(Table):
    dir: str | None = key(
        RESULTS_DIR, None, "Folder of the results. Default: that of the spec, with `@` and the name of the target."
    )


class TargetBatch(Table):
    id: int | None = key(
        integer(1, 2**63 - 1),
        None,
        "The id of a batch that exists. Required where the spec has one.",
    )


class NamedTarget(Table):
    """The values of a target, which replace the spec's own."""

    app_name: str | None = key(
        TEXT, None, "Name of the app. It, `app_id` or `deployment_id` replaces the app and its `owner`."
    )
    app_id: str | None = key(TEXT, None, "Id of the app.")
    deployment_id: str | None = key(TEXT, None, "Id of the deployment to run.")
    owner: str | None = key(TEXT, None, "Owner of the app.")
    context: str | None = key(string(check_context), None, "The IB-Context. AIHUB_CONTEXT does not apply to targets.")
    workspace: str | None = key(TEXT, None, "Workspace for the batches.")
    batch: TargetBatch = key(table(TargetBatch), TargetBatch())
    run: TargetRun = key(table(TargetRun), TargetRun())
    results: TargetResults = key(table(TargetResults), TargetResults())


class Spec(Table):
    name: str = key(
        string(pattern=NAME, longest=NAME_LENGTH),
        "",
        f"Name of the job, and part of the batch names: {NAME_RULE}. Default: the stem of the file.",
    )
    files: tuple[str, ...] = key(
        listed(PATTERN, check_files, or_one=True),
        (),
        "A pattern or a list of patterns, relative to the spec, or URLs such as `s3://bucket/inbox/**/*.pdf`; see "
        "Patterns. Required, unless `input_dir`, "
        "`manual_upstream_integration` or `id` in `[batch]` says what to run.",
    )
    input_dir: str | None = key(
        string(check_text, check_input_dir),
        None,
        "Instead of `files`: a folder of a drive, `/<organization>/<workspace>/fs/<drive>/<folder>/`. It runs once "
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
    batch: Batch = key(table(Batch), Batch())
    run: Run = key(table(Run), Run())
    results: Results = key(table(Results), Results())
    cleanup: Cleanup = key(table(Cleanup), Cleanup())
    limits: Limits = key(table(Limits), Limits())
    targets: dict[str, NamedTarget] = key(mapping(TARGET_NAME, table(NamedTarget)), {})


TABLES = list_tables(Spec)
TARGET_TABLES = list_tables(NamedTarget, ("targets", "<name>"))
KNOWN: set[Key] = {(*at, name) for at, model in TABLES.items() for name in list_keys(model)}
