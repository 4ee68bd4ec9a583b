"""Make docs/reference.md from the spec's own model: `python -m runner.reference > docs/reference.md`."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from runner.spec import Keys, Limits, Results, Run, Spec, Webhook

TABLES: list[tuple[str, type[BaseModel]]] = [
    ("", Spec),
    ("run", Run),
    ("run.keys", Keys),
    ("run.webhook", Webhook),
    ("results", Results),
    ("limits", Limits),
]
VARIABLES = {
    "AIHUB_API_KEY": "The token. Needed by `apply` and `resolve`.",
    "AIHUB_API_ROOT": "Where the service is: `https://<org>.instabase.com/api` for an organisation with its own "
    "domain. It counts only from the source that the key came from, or a stronger one.",
    "AIHUB_CONTEXT": "The IB-Context, where the spec has none.",
    "AIHUB_SECRETS_DIR": "The secrets folder: a file per variable, named like it. `/run/secrets` if there.",
    "AIHUB_SECRET_…": "What `{ env = … }` in a spec may name: passwords of PDF files, and headers of webhooks.",
}


def render_reference() -> str:
    """Render every key of a spec, and every variable, as Markdown."""
    parts = [
        "# Reference",
        "Made from the model of the spec by `make docs`; a test compares them.",
        "## Keys of a spec",
    ]
    for name, model in TABLES:
        parts += [f"### `[{name}]`" if name else "### At the top", _render_table(model)]
    parts += [
        "## Variables",
        "From the environment, `.env` in the current folder, or a secrets folder; the first that has it counts.",
        _render_rows("variable", "meaning", [(f"`{name}`", text) for name, text in VARIABLES.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _render_table(model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        if field.description:
            rows.append((f"`{name}`", f"{field.description}{_render_default(field)}"))
    return _render_rows("key", "meaning", rows)


def _render_default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is PydanticUndefined:
        return " Needed."
    return f" Default: `{value}`." if value not in (None, "", (), {}) and not isinstance(value, BaseModel) else ""


def _render_rows(first: str, second: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {first} | {second} |", "| --- | --- |"]
    return "\n".join(lines + [f"| {key} | {text} |" for key, text in rows])


if __name__ == "__main__":
    sys.stdout.write(render_reference())
