"""The lines that `fake-aihub` prints about requests: text on a terminal, JSON on request, else none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

COMMAND = [sys.executable, "-m", "fake_aihub", "--port", "0"]


@contextmanager
def serving(options: list[str], stderr: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.terminate()


def ask(root: str) -> None:
    agent = {"Authorization": "Bearer fake-secret", "User-Agent": "me\x9b2J", "X-Fake-Fault": "after status status=503"}
    requests.get(f"{root}/v2/batches?api_key=hidden", headers=agent, timeout=10)


def printed(options: list[str]) -> str:
    with serving(options, subprocess.PIPE) as (process, root):
        ask(root)
        process.terminate()
        return process.communicate(timeout=20)[1]


@pytest.mark.slow
def test_lines_of_json_have_all_facts_and_no_secret() -> None:
    [line] = printed(["--log-format", "json"]).splitlines()
    told = json.loads(line)
    assert (told["method"], told["status"], told["operation"]) == ("GET", 503, "listBatches")
    assert told["faults"] == ["status"]
    assert told["response_bytes"] > 0
    assert "hidden" not in line
    assert "fake-secret" not in line


@pytest.mark.parametrize("options", [[], ["--quiet"], ["--quiet", "--log-format", "text"]])
@pytest.mark.slow
def test_nothing_is_printed_off_a_terminal_or_if_quiet(options: list[str]) -> None:
    assert printed(options) == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.slow
def test_a_terminal_gets_a_line_for_each_request() -> None:
    leader, follower = os.openpty()
    try:
        with serving([], follower) as (_, root):
            ask(root)
            shown = ""
            while " 503 GET " not in shown:
                shown += os.read(leader, 4096).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert shown.startswith(f"watch it at {root.removesuffix('/api')}/_fake/")
    assert " 503 GET /api/v2/batches?" in shown
    assert "[fault: status]" in shown
    assert "\x9b" not in shown
