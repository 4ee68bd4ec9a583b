"""The command `schema`."""

from __future__ import annotations

import sys

import click

from aihub_runner.cli.output import with_output_error
from aihub_runner.spec.schema import SCHEMA_NAME, render_spec_schema


@click.command(epilog=f"Example: runner schema > {SCHEMA_NAME}")
def schema() -> None:
    """Print the JSON Schema of a spec, for editors.

    Save it beside the spec, and name it in the spec's first line: "#:schema ./.aihub.schema.json". Editors with Tombi
    or Taplo then complete keys, explain them and underline mistakes.
    """
    sys.stdout.write(render_spec_schema())
    sys.exit(with_output_error(0, is_product=True))
