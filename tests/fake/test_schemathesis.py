"""Schemathesis, an independent tool, tests the fake against the API description: all phases, all checks.

What it finds is either a fault of the fake, or stands in `schemathesis.toml` with the reason why it is none.
`AIHUB_EXAMPLES` says how many examples per operation are tried.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import tomli_w

from fake_aihub import FakeAIHub
from support.contract import OPENAPI, load_operations
from support.schemathesis_hooks import DRIVE, PART

BASELINE = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = int(os.environ.get("AIHUB_EXAMPLES", "10"))
HEADERS = {"Authorization": "Bearer fake-schemathesis"}
# How often an id is one of something that exists: else most answers would be 404.
KNOWN = 0.8
# With fewer, some lines of the baseline are not met.
MANY = 100
TIMEOUT_S = 600
PARAMETERS = {
    "path.batch_id": "batch_id",
    "body.batch_id": "batch_id",
    "path.filename": "filename",
    "path.run_id": "run_id",
    "query.run_id": "run_id",
    "path.job_id": "job_id",
    "path.session_id": "session_id",
    "path.part_num": "part_num",
    "path.path": "path",
    "body.alias": "alias",
    "query.alias": "alias",
    "body.action": "action",
}


@dataclass(frozen=True, order=True)
class Finding:
    """What a check found at an operation; `status` and `message` are those of the answer."""

    operation: str
    check: str
    status: int
    message: str


def make_world(fake: FakeAIHub) -> dict[str, list[Any]]:
    """Create objects to request, and return their ids."""
    root = fake.root
    with requests.Session() as http:
        http.headers.update(HEADERS)
        made: dict[str, list[Any]] = {name: [] for name in PARAMETERS.values()}
        made |= {"filename": ["a.txt"], "part_num": [1], "action": ["commit", "abort"], "alias": ["known"]}
        for number in range(20):
            batch = http.post(f"{root}/v2/batches", json={"name": f"batch {number}"}).json()["id"]
            http.put(f"{root}/v2/batches/{batch}/files/a.txt", data=b"content").raise_for_status()
            body = {"batch_id": batch, "filename": "b.txt", "file_size": len(PART)}
            session = http.post(f"{root}/v2/batches/multipart-upload", json=body).json()["session_id"]
            run = http.post(f"{root}/v2/apps/runs", json={"batch_id": batch, "app_name": "app"}).json()["id"]
            path = f"{number}.known"
            http.put(f"{root}/v2/files/{DRIVE}{path}", data=b"content").raise_for_status()
            for name, value in {"batch_id": batch, "session_id": session, "run_id": run, "path": path}.items():
                made[name].append(value)
        made["job_id"] = [http.delete(f"{root}/v2/batches/{made['batch_id'].pop()}").json()["job_id"]]
        secret = {"alias": "known", "value": "v", "allowed_workspaces_type": "ALL"}
        http.post(f"{root}/v2/aihub/secrets", json=secret).raise_for_status()
    return made


def run_schemathesis(root: str, known: dict[str, list[Any]], folder: Path) -> Path:
    """Run it, and return its report of every exchange."""
    config = {
        "dictionaries": {name: {"values": values} for name, values in known.items()},
        "parameters": {key: {"dictionary": name, "probability": KNOWN} for key, name in PARAMETERS.items()},
    }
    (folder / "config.toml").write_text(tomli_w.dumps(config), encoding="utf-8")
    report = folder / "report.ndjson"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file=config.toml", "--no-color", "run", str(OPENAPI)]
    command += [f"--url={root}", f"--header=Authorization: {HEADERS['Authorization']}", "--checks=all", "--mode=all"]
    command += ["--phases=examples,coverage,fuzzing,stateful", "--seed=1", f"--max-examples={EXAMPLES}"]
    command += ["--generation-database=none", "--no-shrink", "--continue-on-failure", "--warnings=off"]
    command += ["--report=ndjson", f"--report-ndjson-path={report}"]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "support.schemathesis_hooks",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "ERRORS" not in done.stdout, done.stdout
    return report


def read_findings(report: Path) -> Iterator[tuple[Finding, str]]:
    """Read the findings, each with an example."""
    for line in report.read_text(encoding="utf-8").splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case, checks in (recorder.get("checks") or {}).items():
            exchange = recorder["interactions"].get(case, {})
            for check in checks:
                if check["status"] != "success":
                    failure, response = check["failure_info"]["failure"], exchange.get("response") or {}
                    status, message = response.get("status_code", 0), _message(_bytes(response.get("content")))
                    finding = Finding(failure["operation"], check["name"], status, message)
                    yield finding, f"{failure['message']}\n{_render(exchange)}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return ""


def _render(exchange: dict[str, Any]) -> str:
    request, response = exchange.get("request") or {}, exchange.get("response") or {}
    sent, got = _bytes(request.get("body"))[:200], _bytes(response.get("content"))[:200]
    return f"  {request.get('method')} {request.get('uri')} {sent!r}\n  {response.get('status_code')} {got!r}"


def _bytes(part: dict[str, str] | None) -> bytes:
    return base64.b64decode((part or {}).get("$base64", ""))


@pytest.mark.slow
@pytest.mark.needs_openapi
@pytest.mark.timeout(TIMEOUT_S + 60)
def test_schemathesis_finds_nothing_outside_of_the_baseline(tmp_path: Path) -> None:
    with FakeAIHub(part_size=1000) as fake:
        known = make_world(fake)
        fake.clear_journal()
        found = dict(read_findings(run_schemathesis(fake.root, known, tmp_path)))
        # With few examples, some operations only refuse.
        reached = {entry["operation"] for entry in fake.journal if entry["status"] < 300 or EXAMPLES < MANY}
    baseline = load_baseline()
    hits = {finding: [known for known in baseline if covers(known, finding)] for finding in found}
    new = [f"{finding}\n{found[finding]}" for finding in sorted(found) if not hits[finding]]
    assert not new, "\n\n".join(new)
    assert reached - {""} == load_operations(OPENAPI).keys()
    unused = set(baseline) - {known for covering in hits.values() for known in covering}
    if unused and EXAMPLES >= MANY:
        warnings.warn("\n".join([f"in {BASELINE.name}, but not found:", *map(str, sorted(unused))]), stacklevel=1)


def load_baseline() -> dict[Finding, str]:
    """Load what may be found, each with its reason; `message` is a pattern."""
    lines = tomllib.loads(BASELINE.read_text(encoding="utf-8"))["findings"]
    return {Finding(**{key: line[key] for key in line if key != "reason"}): line["reason"] for line in lines}


def covers(known: Finding, found: Finding) -> bool:
    """Return whether a line of the baseline matches a finding."""
    return replace(known, message="") == replace(found, message="") and bool(re.search(known.message, found.message))


def test_every_line_of_the_baseline_has_its_reason() -> None:
    assert all(len(reason) > 20 for reason in load_baseline().values())
