"""Generate docs/reference.md from the model of a spec: `python -m aihub_runner.spec.reference > docs/reference.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from aihub_runner.errors import EXIT_CODES
from aihub_runner.spec.diagnostics import TARGET_RULE
from aihub_runner.spec.kinds import Key, render_schema
from aihub_runner.spec.model import TABLES, TARGET_TABLES

PATTERNS = """\
- `*` matches any characters within a name, `?` one character, `[a-c]` one of a, b and c, `**` any number of folders,
  and `{a,b}` either a or b. `\\` escapes the next character. A trailing slash matches everything in the folder.
- `!pattern` excludes what it matches, whatever the order. `!drafts` also excludes a folder with that name.
- A name with a leading dot matches only if the pattern has the dot. `!pattern` excludes it in any case.
- The extension at the end is case-insensitive: `*.pdf` matches `SCAN.PDF`. Everything else is case-sensitive. Unicode
  forms do not matter.
- `**` and wildcards do not enter symlinked folders. A pattern that names such a folder does.
- `a/../b` means `b`. Absolute patterns, and paths outside the Git work tree, need `--allow-outside`. Without a work
  tree, the limit is the folder of the spec.
- Never matched: specs and their schema, state and lock files, `.env*`, `.git`, folders of results and of `--fake`, and
  symlinks to them.
- Matched only if a pattern names them exactly: files that programs leave beside documents, such as `~$a.docx`,
  `.~lock.a.odt#`, `a.pdf.crdownload`, `a.part`, `Thumbs.db`, `desktop.ini`, `.DS_Store`, `__MACOSX/`.
- `validate --check-files`, `plan`, `apply` and `status` list each pattern that matches nothing. For a pattern with
  braces in its folders, they check each folder. See `allow_empty`.
- On the command line, a folder stands for its specs: `*.aihub.toml`, and other TOML files with the keys of a spec.
- A pattern may be a URL: `s3://bucket/inbox/**/*.pdf`, `gs://`, `az://`, `sftp://host/…` or `file:///…`, all of one
  bucket or host. Each needs `--allow-remote`; see [Object stores](how-to/object-stores.md).
- The keys of `run.pdf_passwords` are patterns, too. The first one that matches a file counts."""
TARGETS = f"""\
With `--target <name>` or AIHUB_RUNNER_TARGET, these values replace the keys above. All other keys apply to all targets.
A name is {TARGET_RULE}.
Token and root come from `AIHUB_<NAME>_API_KEY` and `AIHUB_<NAME>_API_ROOT`; see Variables."""
VARIABLES = {
    "AIHUB_API_KEY": "The API token. Required by each command that talks to the service. If the service refuses it, "
    "apply reads it again from the same file: replace a token in `.env` or in the secrets folder while apply works.",
    "AIHUB_API_ROOT": "The URL of the API: `https://<org>.instabase.com/api` for an organisation with its own "
    "domain. It must come from the same source as the key, or from one with a higher priority.",
    "AIHUB_CONTEXT": "The IB-Context for specs that set none. It does not apply with `--target`.",
    "AIHUB_<NAME>_API_KEY": "The API token of a target; `AIHUB_TEST_API_KEY` for the target `test`, and with `_` in "
    "place of each `-`. With `--target`, no other token is used.",
    "AIHUB_<NAME>_API_ROOT": "The URL of the API for a target. Required, and from the same source as its token.",
    "AIHUB_VAR_…": "Values for `${…}` in a spec; see [apply.md](apply.md#values-from-outside). Read from the "
    "environment and from `.env` only.",
    "AIHUB_RUNNER_TARGET": "The target, where `--target` is not given. Read from the environment only.",
    "AIHUB_SECRETS_DIR": "The secrets folder. It has a file per variable, named like it in upper or lower case. "
    "Default: `/run/secrets`, if it exists. Read from the environment only.",
    "AIHUB_SECRET_…": "Secrets for `{ env = … }` in a spec: passwords of PDF files, and headers of webhooks.",
    "AIHUB_RUNNER_LOG_FILE": "The file of `apply --log-file`. Read from the environment only.",
    "AIHUB_RUNNER_NOTIFY_URL": "A URL that apply sends a POST when it ends; see [apply.md](apply.md#in-ci-and-cron). "
    "Read from the environment only.",
    "AIHUB_RUNNER_NOTIFY_TOKEN": "The bearer token for that URL. Read from the environment only.",
}
_TYPES = {"string": "string", "integer": "integer", "number": "number", "boolean": "true or false"}


def render_reference() -> str:
    """Render the keys of a spec, the patterns, the exit codes and the variables as Markdown."""
    parts = [
        "# Reference",
        "Generated from the model of a spec by `make docs`. For editors, `runner schema > .aihub.schema.json` writes "
        "the same as JSON Schema; begin a spec with `#:schema ./.aihub.schema.json`.",
        "## Keys of a spec",
        *(part for table in (TABLES | TARGET_TABLES).items() for part in _render_table(*table)),
        "## Patterns",
        PATTERNS,
        "## Exit codes",
        render_exit_codes(),
        "## Variables",
        "Each variable is read from the environment, from `.env` in the current folder, or from a secrets folder, in "
        "this order. Values in `.env` are literal: `${…}` is not expanded.",
        _render_rows(("variable", "meaning"), [(f"`{name}`", text) for name, text in VARIABLES.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def render_exit_codes() -> str:
    """Render the exit codes as Markdown."""
    return _render_rows(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES.items()])


def render_columns(columns: Iterable[tuple[str, str, str]]) -> str:
    """Render the columns of a results table, each with name, type and meaning, as Markdown."""
    kinds = {"text": "text", "integer": "whole number", "number": "number", "flag": "true or false"}
    kinds |= {"integers": "list of whole numbers", "json": "JSON"}
    return _render_rows(
        ("column", "kind", "meaning"), [(f"`{name}`", kinds[kind], text) for name, kind, text in columns]
    )


def _render_table(key: Key, model: Any) -> Iterator[str]:
    schema = render_schema(model)
    rows = [
        (f"`{name}`", _render_type(field), _render_default(field, name in schema["required"]), text)
        for name, field in schema["properties"].items()
        if (text := field.get("description"))
    ]
    yield f"### `[{'.'.join(map(str, key))}]`" if key else "### At the top"
    if key == ("targets", "<name>"):
        yield TARGETS
    yield _render_rows(("key", "type", "default", "meaning"), rows)


def _render_type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_render_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_render_type(schema['items'])}".replace("list of string", "list of strings")
    return _TYPES.get(schema.get("type", ""), "table")


def _render_default(field: dict[str, Any], needed: bool) -> str:
    value = field.get("default")
    return "required" if needed else "" if value in (None, "", [], {}) else f"`{json.dumps(value)}`"


def _render_rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
