"""Make docs/scenarios.md from the model of packs: `python -m fake_aihub.docs.scenarios > docs/scenarios.md`."""

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
    """Render the format of packs and fixtures as Markdown."""
    keys = "\n\n".join(_render_table(table) for table in TABLES)
    return f"""\
# Scenarios: what the fake's runs extract

What a run extracts comes, for each file, from the first of these that has something to say:

1. a fixture for the file's name (`--fixtures DIR`),
2. the text of the file itself, where it says a value under a label,
3. the scenario pack of the app: made up, and always the same for the same bytes, pack and seed.

## Packs

A pack is a TOML file. With `fake-aihub --scenarios DIR`, or `FakeAIHub(scenarios=DIR)`, the packs in a folder come
before these, and one of the same file name takes the place of one of these:

{_render_packs()}

A run has the first pack in which a pattern of `apps` fits the app's name, the app's id or the deployment's id, else
the first with `default = true`. Where a list of choices stands, each is as likely as the others; to make one likelier,
write it again. A mistake in a pack is told at the start, with its file and key (entries of lists are counted from 1),
what was seen, and what is allowed. A whole pack:

```toml
{EXAMPLE}```

{keys}

The first {PACKET_FILES} files of a run, by name, make up the packet. There is nothing for tables: the API gives each
value as text, so that a table is a text of JSON in `values`.

{_render_texts()}"""


def _render_texts() -> str:
    return f"""\
## Text of files

From text, CSV (the first row), mail (headers and text), JSON and PDF files with a text layer, the first document of a
file is filled: from `Invoice number: 2041`, `Total 312.00`, a column or a key `invoice_number`. A label is a field's
name or one of its `labels`, in whatever case and punctuation. The class is the one whose labels occur most. PDF files
need `pip install 'aihub-runner[fake-text]'`; without it their values are made up. At most {MAX_BYTES:,} bytes of a
file are read, a longer PDF is not, and what cannot be read is taken as if it had no text.

## Fixtures

For results of one's own, put `<file name>.json` into a folder, `invoice-2041.pdf.json` for instance, and give it as
`--fixtures DIR` or `FakeAIHub(fixtures=DIR)`. It holds a list of documents, or an object with `documents`, such as a
file in real results, in the words of the API. Every run gives it for files of that name, without what was not asked for
by an `include_…`; what it does not say is not there. Mistakes are told at the start.

```json
{json.dumps(FIXTURE, indent=2)}
```
"""


def _render_packs() -> str:
    rows = "\n".join(
        f"| `{name}` | {' '.join(f'`{app}`' for app in pack.apps)}{' and all others' if pack.default else ''} "
        f"| {pack.about} |"
        for name, pack in bundled_packs().items()
    )
    return f"| pack | apps | what it gives |\n| --- | --- | --- |\n{rows}"


def _render_table(table: type[Table]) -> str:
    rows = "\n".join(
        f"| `{field.alias or name}` | {_render_default(field)} | {field.description} |"
        for name, field in table.model_fields.items()
    )
    return f"**{(table.__doc__ or '').rstrip('.')}**\n\n| key | if left out | meaning |\n| --- | --- | --- |\n{rows}"


def _render_default(field: Any) -> str:
    if field.is_required():
        return "needed"
    return "" if field.default in (None, [], "") else f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    print(render_reference(), end="")  # noqa: T201
