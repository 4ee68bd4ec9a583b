"""Generate docs/scenarios.md from the model of packs: `python -m fake_aihub.docs.scenarios > docs/scenarios.md`."""

from __future__ import annotations

import json
from typing import Any

from fake_aihub.extraction.packets import PACKET_FILES
from fake_aihub.extraction.packs import (
    Alert,
    CrossField,
    Dates,
    Edit,
    FieldError,
    Numbers,
    Pack,
    PackClass,
    PackField,
    bundled_packs,
)
from fake_aihub.extraction.text import MAX_BYTES
from fake_aihub.extraction.validation import Table

TABLES: list[type[Table]] = [Pack, PackClass, PackField, Numbers, Dates, FieldError, Alert, Edit, CrossField]
EXAMPLE = """\
about = "Delivery notes; two may come in one file."
apps = ["*delivery*", "01902d6f-bb35-74cb-bd27-c09b38bbf20a"]
documents = [1, 1, 1, 2]
reviewed = 0.5

[[class]]
name = "delivery note"
weight = 3
pages = [1, 2]
edit = { rate = 0.1, messages = ["Class changed from invoice to delivery note"] }

[[class.field]]
name = "note number"
values = ["DN-####", "20##/###"]
labels = ["delivery note", "no"]
error = { rate = 0.05, message = "The number is not readable" }

[[class.field]]
name = "weight in kg"
type = "NUMBER"
number = { low = 0.5, high = 800.0, decimals = 1 }
alert = { rate = 0.1, message = "More than the lorry can carry", blocked = true }
edit = { rate = 0.2, messages = ["Read from the scales"] }

[[class]]
name = "packing list"

[[class.field]]
name = "packed on"
type = "DATE"
date = { first = 2026-01-01, last = 2026-12-31, format = "%d.%m.%Y" }

[[cross_class]]
name = "delivery"
sources = ["delivery note/note number"]
ranked = true
all_inputs_match = "There are notes of several deliveries"
"""
FIXTURE = {
    "documents": [
        {
            "class_name": "invoice",
            "page_numbers": [0],
            "fields": [
                {
                    "field_name": "total",
                    "value": "312.00",
                    "type": "NUMBER",
                    "confidence": {"model": 0.98, "ocr": None},
                    "validations": {"valid": True, "alerts": []},
                }
            ],
        }
    ]
}


def render_reference() -> str:
    """Return the page about packs and fixtures as Markdown."""
    keys = "\n\n".join(_render_table(table) for table in TABLES)
    return f"""\
# Scenarios: what the fake's runs extract

For each file, the results of a run come from the first of these sources that has a value:

1. a fixture for the file's name (`--fixtures DIR`)
2. the text of the file itself, if it has the value under a label
3. the scenario pack of the app: generated values, always the same for the same bytes, pack and seed

## Packs

A pack is a TOML file. The fake comes with these packs:

{_render_packs()}

To add your own, put them into a folder and pass it as `fake-aihub --scenarios DIR` or `FakeAIHub(scenarios=DIR)`.
Your packs come before the bundled ones. A pack with the same file name replaces the bundled one.

A run uses the first pack with a pattern in `apps` that matches the app's name, the app's id or the deployment's id.
If none matches, it uses the first pack with `default = true`.

All choices in a list are equally likely. To make one more likely, repeat it.

The fake reports invalid packs at the start, with the file, the key, the value and what is allowed. In keys, list
entries are numbered from 1. A complete pack:

```toml
{EXAMPLE}```

{keys}

The first {PACKET_FILES} files of a run, sorted by name, make up the packet. Packs have no type for tables: the API
returns each value as text, so write a table as JSON text in `values`.

{_render_texts()}"""


def _render_texts() -> str:
    return f"""\
## Text of files

The fake reads values from text, CSV (first row), mail (headers and text), JSON and PDF files with a text layer. The
values fill the first document of a file. For example, it reads `Invoice number: 2041`, `Total 312.00`, and a column
or key `invoice_number`. A label is a field's name or one of its `labels`; case and punctuation are ignored. The
class is the one with the most labels in the text.

PDF files need `pip install 'aihub-runner[fake-text]'`. Without it, their values are generated. The fake reads at most
{MAX_BYTES:,} bytes of a file, and skips longer PDF files. A file that it cannot read counts as a file without text.

## Fixtures

To return your own results for a file, put `<file name>.json` into a folder, for example `invoice-2041.pdf.json`.
Pass the folder as `--fixtures DIR` or `FakeAIHub(fixtures=DIR)`. A fixture is a list of documents, or an object with
`documents` like a file in real results, with the names of the API.

Every run returns the fixture for files of that name. Properties that need an `include_…` flag are returned only on
request. Properties that the fixture does not have are left out. The fake reports invalid fixtures at the start.

```json
{json.dumps(FIXTURE, indent=2)}
```
"""


def _render_packs() -> str:
    rows = "\n".join(
        f"| `{name}` | {' '.join(f'`{app}`' for app in pack.apps)}{' and all other apps' if pack.default else ''} "
        f"| {pack.about} |"
        for name, pack in bundled_packs().items()
    )
    return f"| pack | apps | documents |\n| --- | --- | --- |\n{rows}"


def _render_table(table: type[Table]) -> str:
    rows = "\n".join(
        f"| `{field.alias or name}` | {_render_default(field)} | {field.description} |"
        for name, field in table.model_fields.items()
    )
    return f"**{(table.__doc__ or '').rstrip('.')}**\n\n| key | default | meaning |\n| --- | --- | --- |\n{rows}"


def _render_default(field: Any) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, [], "") else f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201
