"""Make docs/reference.md from the spec's own model: `python -m aihub_runner.spec.reference > docs/reference.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from aihub_runner.spec.diagnostics import Key
from aihub_runner.spec.model import TABLES

PATTERNS = """\
- `*` and `?` stand for characters within a name, `[a-c]` for one of them, `**` for any number of folders, `{a,b}` for
  either; `\\` takes away a meaning. A slash at the end means all that the folder holds.
- `!pattern` leaves out what it matches, whatever the order. `!drafts` leaves out a folder of that name, too.
- A name that begins with a dot is taken only where the pattern has that dot; `!pattern` leaves it out all the same.
- The extension at the end matches in upper and lower case: `*.pdf` takes `SCAN.PDF`. Everything else is taken as
  written, in whatever Unicode form.
- `**` and wildcards do not enter folders that are symlinks; a pattern that names such a folder does.
- `a/../b` is read as `b`. What leads out of the Git work tree (without one: out of the spec's folder), and any absolute
  pattern, needs `--allow-outside`.
- Never taken: specs, state and lock files, `.env*`, `.git`, folders of results and of `--fake`, and symlinks to them.
- Not taken unless a pattern names them exactly: what programs leave beside documents, such as `~$a.docx`,
  `.~lock.a.odt#`, `a.pdf.crdownload`, `a.part`, `Thumbs.db`, `desktop.ini`, `.DS_Store`, `__MACOSX/`.
- Each pattern that takes nothing is named by `validate --check-files`, `plan`, `apply` and `status`; of one with braces
  in its folders, each folder. See `allow_empty`.
- A folder in place of a spec means what it holds of them: `*.aihub.toml`, and other TOML files with the keys of a spec.
- The keys of `run.pdf_passwords` are such patterns; the first one that fits a file counts."""
EXIT_CODES = {
    0: "All that the spec asks for is done.",
    1: "A bug of ours; a report file is named.",
    2: "Command line, spec, settings or sources are wrong; nothing was sent.",
    3: "Ended, but some files or runs failed, or were skipped.",
    4: "The service refused, or stayed unreachable.",
    5: "The state is locked, damaged, or newer than this version; a disk is full or fails; or too many files are open.",
    6: "Nothing failed, but runs go on or wait for a person's review, or results are to be fetched; apply again later.",
    7: "It is unknown whether a run was started; nothing more was paid; `runner resolve`.",
    10: "`plan --exit-code` only: there are changes.",
    130: "Interrupted; everything finished is recorded.",
}
VARIABLES = {
    "AIHUB_API_KEY": "The token. Needed by `apply` and `resolve`.",
    "AIHUB_API_ROOT": "Where the service is: `https://<org>.instabase.com/api` for an organisation with its own "
    "domain. It counts only from the source that the key came from, or a stronger one.",
    "AIHUB_CONTEXT": "The IB-Context, where the spec has none.",
    "AIHUB_SECRETS_DIR": "The secrets folder: a file per variable, named like it in upper or lower case. "
    "`/run/secrets` if there. From the environment only.",
    "AIHUB_SECRET_…": "What `{ env = … }` in a spec may name: passwords of PDF files, and headers of webhooks.",
}
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


def render_reference() -> str:
    """Render every key of a spec, its patterns, every exit code and every variable, as Markdown."""
    parts = [
        "# Reference",
        "Made from the model of the spec by `make docs`; a test compares them.",
        "## Keys of a spec",
        *(part for table in TABLES for part in (_render_title(table), _render_table(table))),
        "## Patterns",
        PATTERNS,
        "## Exit codes",
        _render_rows(("code", "meaning"), [(str(code), text) for code, text in EXIT_CODES.items()]),
        "## Variables",
        "From the environment, `.env` in the current folder, or a secrets folder; the first that has it counts. "
        "What stands in `.env` is taken as it is: `${…}` is not replaced.",
        _render_rows(("variable", "meaning"), [(f"`{name}`", text) for name, text in VARIABLES.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def render_columns(columns: Iterable[tuple[str, str, str]]) -> str:
    """Render the columns of a table of results, each its name, kind and meaning, as Markdown."""
    kinds = {"text": "text", "integer": "whole number", "number": "number", "flag": "true or false"}
    kinds |= {"integers": "list of whole numbers", "json": "JSON"}
    return _render_rows(
        ("column", "kind", "meaning"), [(f"`{name}`", kinds[kind], text) for name, kind, text in columns]
    )


def _render_title(table: Key) -> str:
    return f"### `[{'.'.join(map(str, table))}]`" if table else "### At the top"


def _render_table(table: Key) -> str:
    schema = TABLES[table].model_json_schema()
    rows = [
        (f"`{name}`", _render_type(field), _render_default(field, name in schema.get("required", ())), text)
        for name, field in schema["properties"].items()
        if (text := field.get("description"))
    ]
    return _render_rows(("key", "type", "default", "meaning"), rows)


def _render_type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_render_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_render_type(schema['items'])}".replace("list of text", "list of texts")
    return _TYPES.get(schema.get("type", ""), "table")


def _render_default(field: dict[str, Any], needed: bool) -> str:
    value = field.get("default")
    return "needed" if needed else "" if value in (None, "", [], {}) else f"`{json.dumps(value)}`"


def _render_rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
