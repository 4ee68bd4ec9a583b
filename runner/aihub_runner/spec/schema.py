"""The JSON Schema of a spec, for editors: `python -m aihub_runner.spec.schema > specs/aihub.schema.json`."""

from __future__ import annotations

import json
import sys

from aihub_runner.spec.kinds import render_schema
from aihub_runner.spec.model import APP_KEYS, Spec

SCHEMA_NAME = ".aihub.schema.json"  # beside a spec; hidden, so that patterns do not select it


def render_spec_schema() -> str:
    """Render the JSON Schema of a spec."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Spec of aihub-runner (*.aihub.toml)"}
    apps = [{"required": [name]} for name in APP_KEYS]
    one_app = {"oneOf": [*apps, {"required": ["targets"], "not": {"anyOf": apps}}]}
    upstream = {"required": ["run"], "properties": {"run": {"required": ["manual_upstream_integration"]}}}
    batch = {"required": ["batch"], "properties": {"batch": {"required": ["id"]}}}
    inputs = {"anyOf": [{"required": ["files"]}, {"required": ["input_dir"]}, upstream, batch]}
    rules = {"allOf": [one_app, inputs]}
    return json.dumps(head | render_schema(Spec) | rules, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_spec_schema())
