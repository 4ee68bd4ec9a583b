"""A new spec: its text, with comments, and the pattern that fits a folder."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any

import tomli_w

from aihub_runner.model import SPEC_ENDING
from aihub_runner.spec.model import APP_KEYS
from aihub_runner.spec.schema import SCHEMA_NAME
from aihub_runner.spec.values import NAME_LENGTH

# Types that hold documents: a folder may also hold code, which the service takes, too.
_DOCUMENTS = "csv doc docx eml htm html jpeg jpg mht mhtml msg pdf png pptx tif tiff txt xls xlsx"
DOCUMENTS = frozenset(_DOCUMENTS.split())
GIT_IGNORES = ("*.state.db*", "*.fake/", ".env", "results/")
EMPTY_PATTERN = "inbox/**/*.pdf"


def propose_name(folder: str) -> str:
    """Return a name for a job, made from the name of its folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-.")[:NAME_LENGTH]
    return name if re.search(r"[A-Za-z0-9_-]", name) else "job"


def propose_pattern(paths: Collection[str]) -> str:
    """Return the pattern for the documents among the files of a folder."""
    found = [path for path in map(PurePosixPath, paths) if path.suffix.lower()[1:] in DOCUMENTS]
    kinds = sorted({path.suffix.lower()[1:] for path in found})
    if not kinds:
        return EMPTY_PATTERN
    folder = "**/" if any(len(path.parts) > 1 for path in found) else ""
    return f"{folder}*.{kinds[0] if len(kinds) == 1 else '{' + ','.join(kinds) + '}'}"


def render_new_spec(name: str, content: dict[str, Any]) -> str:
    """Render a spec of these keys, with comments, and with the other usual keys as comments."""
    file = f"{name}{SPEC_ENDING}"
    apps = [key for key in APP_KEYS if key in content]
    parts = [
        f"#:schema ./{SCHEMA_NAME}",
        f"# What should have been processed. `runner apply {file}` does what is missing, and never pays twice.",
        "",
        "# Batches and the folder of the results are named after it.",
        _render("name", name),
        '# A pattern, or a list of patterns; "!drafts/**" excludes.',
        _render("files", content["files"]),
        "# The app that reads them.",
        *(_render(key, content[key]) for key in apps),
    ]
    if "owner" in content or "deployment_id" not in apps:
        parts += ["# Whose app it is. Leave it out for your own apps.", _render("owner", content.get("owner"))]
    parts += ["# The IB-Context: the account whose units are spent.", _render("context", content.get("context")), ""]
    return "\n".join(parts) + REST


def _render(key: str, value: Any) -> str:
    """Render a key, as a comment where it has no value."""
    return tomli_w.dumps({key: value}).rstrip("\n") if value is not None else f'# {key} = "…"'


REST = """
# [run]
# version = "1.0.0"             # without it, the newest production version

# [results]
# formats = ["jsonl", "csv"]    # tables beside documents.jsonl; also "xlsx", "parquet"

# [limits]
# max_runs = 5                  # most runs to pay for in one apply

# [targets.test]                # with --target test, replaces the values above; see docs/apply.md
# context = "…"                 # needs AIHUB_TEST_API_KEY and AIHUB_TEST_API_ROOT
"""
