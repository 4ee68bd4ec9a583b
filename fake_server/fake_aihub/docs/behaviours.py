"""Generate docs/fake.md from the marks in the code: `python -m fake_aihub.docs.behaviours > docs/fake.md`."""

from __future__ import annotations

from collections.abc import Iterable

import fake_aihub.api.app  # noqa: F401  (imports all modules that mark)
from fake_aihub.certify.promise import Promise, load_promises
from fake_aihub.contract.evidence import RULES, Rule, render_counts
from fake_aihub.contract.operations import OPERATIONS

INTRODUCTION = """\
# The fake AI Hub

`fake-aihub` serves the API of AI Hub on your machine. It needs no account and no network, and it never costs
anything.

## Start it

```sh
fake-aihub --run-seconds 60
```

It prints the API root, `http://127.0.0.1:8800/api`. `fake-aihub --help` lists all options. Data is kept in memory;
use `--data-dir FOLDER` to keep it across restarts.

## Point a client at it

Any client works. Use the API root and any token that starts with `fake-`:

```sh
export AIHUB_API_ROOT=http://127.0.0.1:8800/api AIHUB_API_KEY=fake-me
runner apply invoices.toml
```

With curl:

```sh
api=http://127.0.0.1:8800/api auth='Authorization: Bearer fake-me'
curl -H "$auth" $api/v2/batches -d '{"name": "inbox"}'
echo 'Total: 12.50' | curl -H "$auth" $api/v2/batches/1001/files/a.txt -T -
curl -H "$auth" $api/v2/apps/runs -d '{"batch_id": 1001, "app_name": "Invoice Extraction"}'
```

The first batch of a new fake has the id 1001. In tests, use the fixture `fake_aihub` of the pytest plugin:
[pytest.md](pytest.md).

## Arm a fault

The next `runApp` starts a run, but its response is lost:

```sh
fake=http://127.0.0.1:8800/_fake
curl $fake/faults -d '{"faults": [{"operation": "runApp", "when": "after", "do": "reset"}]}'
```

[controls.md](controls.md) lists all faults. [runs.md](runs.md) shows how to make a run fail, wait, or need a review.

## Advance the clock

The run above takes 60 seconds. Skip them:

```sh
curl $fake/clock -d '{"advance_s": 60}'
```

## Read the ledger

The ledger counts side effects: batches created, files uploaded, runs started. The journal has every request.

```sh
curl $fake/ledger
curl $fake/journal
```

## Choose what runs extract

The fake reads labelled values from files, makes up the rest, and serves your own results if you have some:
[scenarios.md](scenarios.md).

## How closely it follows the real service

Each behaviour of the fake is marked in its code with its source. {counts}

| source | meaning |
| --- | --- |
| `spec` | the vendor's OpenAPI description |
| `docs` | the vendor's public documentation |
| `sdk` | the code of the vendor's Python SDK |
| `guess` | our assumption; nothing public confirms it |

`fake-aihub certify` checks promises on the fake, or on a real AI Hub if you have access to one:
[certify.md](certify.md). A promise that a real AI Hub keeps turns a guess into a fact. Please send in the report.

The rest of this page is generated from the marks by `make docs`. First come the promises that `certify` checks, then
all behaviours by operation. The last column names the code in `fake_server/fake_aihub/`."""


def render_evidence(rules: Iterable[Rule], promises: Iterable[Promise]) -> str:
    """Return the page as Markdown: the guide, the promises of `certify`, and all behaviours by operation."""
    rules, promises = list(rules), list(promises)
    sentences = "\n".join(
        f"| `{one.id}` | {_cell(one.sentence)} | {one.source} | {one.runs or ''} |" for one in promises
    )
    parts = [
        INTRODUCTION.replace("{counts}", render_counts(rules)),
        "## Promises that certify checks",
        f"| promise | sentence | source | paid runs |\n| --- | --- | --- | --- |\n{sentences}",
        "## Behaviours",
        "### All operations",
        _render_rules(rules, ""),
    ]
    for operation in OPERATIONS:
        checked = ", ".join(f"`{one.id}`" for one in promises if operation.id in one.operations)
        parts += [f"### {operation.id}: `{operation.method} {operation.path}`"]
        parts += [f"Checked by `certify`: {checked}."] if checked else []
        parts += [_render_rules(rules, operation.id)]
    return "\n\n".join(parts) + "\n"


def _render_rules(rules: Iterable[Rule], operation: str) -> str:
    chosen = sorted((one for one in rules if one.operation == operation), key=lambda one: (one.status or 0, one.text))
    rows = [f"| {one.status or ''} | {_cell(one.text)} | {one.source} | `{one.where}` |" for one in chosen]
    return "\n".join(["| status | behaviour | source | where |", "| --- | --- | --- | --- |", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Print docs/fake.md."""
    print(render_evidence(RULES, load_promises()), end="")  # noqa: T201


if __name__ == "__main__":
    main()
