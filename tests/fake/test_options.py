"""Options of the fake: every one has a range, and only one fake can use a folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from click.testing import CliRunner

from fake_aihub import FakeAIHub, FolderInUseError
from fake_aihub.api.service import Service
from fake_aihub.controls.options import RANGES, check_options
from fake_aihub.server.cli import main
from fake_aihub.world.clock import parse_clock
from fake_aihub.world.entities import ApiError
from fake_aihub.world.world import World

WRONG: dict[str, list[Any]] = {
    "host": ["", "a b", "http://x", 3],
    "port": [-1, 65536, "http", True],
    "data_dir": ["", 3],
    "run_seconds": [-0.5, float("nan"), float("inf"), "1", True],
    "latency_ms": [-1, float("nan"), 1e9, None],
    "requests_per_s": [-1, 0.5],
    "page_files": [0, -1, 1.5, "3", True],
    "part_size": [0, 2.0],
    "journal_size": [0, -5],
    "clock": ["", "noon", 3],
    "seed": [0.5, "a"],
    "cors": ["localhost", "http://x/path", "http://x\r\ny: z", 3],
    "allowed_hosts": ["aihub", ("a b",), ("",), (3,)],
    "scenarios": ["", 3],
    "fixtures": ["", 3],
    **{key: [1, "yes", None] for key in ("any_token", "strict", "allow_webhooks", "allow_unused_faults")},
}


def test_every_option_has_values_that_are_refused() -> None:
    assert WRONG.keys() == RANGES.keys()
    options = {parameter.name for parameter in main.params if isinstance(parameter, click.Option)}
    assert options - {"faults", "help", "quiet", "log_format", "version"} <= RANGES.keys()


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_option_that_is_out_of_range_is_refused_naming_what_is_allowed(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} is .*; allowed: "):
        check_options({name: value})


@pytest.mark.parametrize("name", ["page_files", "part_size", "journal_size", "run_seconds", "latency_ms"])
def test_fake_in_code_refuses_what_is_out_of_range(tmp_path: Path, name: str) -> None:
    options: Any = {name: WRONG[name][0]}
    with pytest.raises(ValueError, match=f"^{name} is "):
        FakeAIHub(data_dir=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
    clock = parse_clock("frozen")
    with pytest.raises(ValueError, match=f"^{name} is "):
        Service(clock, World(clock), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--page-files", "0"], "--page-files is 0; allowed: a whole number from 1"),
        (["--port", "65536"], "--port is 65536; allowed: a whole number from 0 to 65535"),
        (["--host", ""], "--host is ''; allowed: an address such as 127.0.0.1"),
        (["--run-seconds", "nan"], "--run-seconds is nan; allowed: a number of seconds from 0"),
        (["--latency-ms", "-1"], "--latency-ms is -1.0; allowed: a number of milliseconds"),
        (["--requests-per-s", "-1"], "--requests-per-s is -1; allowed: a whole number from 0"),
        (["--cors", "localhost"], "--cors is 'localhost'; allowed: an origin"),
    ],
)
def test_command_refuses_what_is_out_of_range(options: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["--port", "0", *options])
    assert found.exit_code == 2
    assert message in found.output


def test_folder_of_a_fake_at_work_is_refused_to_another_and_free_after_it(tmp_path: Path) -> None:
    headers = {"Authorization": "Bearer fake-x"}
    left = tmp_path / "blobs" / "0.part"
    with FakeAIHub(tmp_path) as fake:
        left.write_bytes(b"unfinished")
        with pytest.raises(FolderInUseError, match="another fake AI Hub"):
            FakeAIHub(tmp_path)
        command = [sys.executable, "-m", "fake_aihub", "--port", "0", "--data-dir", str(tmp_path)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (found.returncode, found.stdout) == (1, "")
        assert "in use by another fake AI Hub" in found.stderr
        assert requests.post(f"{fake.root}/v2/batches", json={"name": "a"}, headers=headers).json() == {"id": 1001}
        assert left.read_bytes() == b"unfinished"
    with FakeAIHub(tmp_path) as fake:
        assert requests.post(f"{fake.root}/v2/batches", json={"name": "a"}, headers=headers).json() == {"id": 1002}


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e10, 1e12])
def test_clock_cannot_be_moved_to_nowhere_in_code(seconds: float) -> None:
    clock = parse_clock("frozen")
    with pytest.raises(ValueError, match="too far in the future"):
        clock.advance(seconds)
    assert clock.offset_s == 0


def test_run_that_there_is_not_cannot_be_changed(fake: FakeAIHub) -> None:
    for change in (lambda: fake.set_run("none", "FAILED"), lambda: fake.release("none"), lambda: fake.refuse("none")):
        with pytest.raises(ApiError, match="Run 'none' does not exist"):
            change()


@pytest.mark.parametrize(
    "script",
    [{"after_s": float("nan")}, {"after_s": 1e300}, {"times": -1}, {"times": True}, {"status": "DONE"}, {"x": 1}],
)
def test_next_run_that_cannot_be_is_refused(fake: FakeAIHub, script: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        fake.next_run(**script)
    assert fake.world.next_runs == []


@pytest.mark.parametrize("path", ["journal?fromat=har", "ledger?a=1", "faults?nth=2"])
def test_control_refuses_a_parameter_that_it_does_not_know(fake: FakeAIHub, path: str) -> None:
    found = requests.get(fake.root.replace("/api", f"/_fake/{path}"))
    assert (found.status_code, "allowed: format" in found.text) == (400, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "http://[", "--yes"], "--target: invalid URL"),
        (["--target", "http://127.0.0.1:99999/api"], "--target: invalid URL"),
        (["--target", "http://127.0.0.1/api", "--settle-seconds", "nan"], "--settle-seconds is nan; allowed"),
        (["--target", "http://127.0.0.1/api", "--settle-seconds", "-1"], "--settle-seconds is -1; allowed"),
    ],
)
def test_certify_refuses_what_is_out_of_range(options: list[str], message: str) -> None:
    found = CliRunner().invoke(main, ["certify", *options])
    assert found.exit_code == 2
    assert message in found.output


@pytest.mark.parametrize("number", ["count", "at_least", "at_most"])
def test_number_of_requests_is_not_negative(fake: FakeAIHub, number: str) -> None:
    found = requests.post(fake.root.replace("/api", "/_fake/verify"), json={number: -1})
    assert (found.status_code, "a whole number from 0" in found.text) == (400, True)


@pytest.mark.parametrize("option", ["--faults", "--scenarios", "--fixtures", "--data-dir"])
@pytest.mark.slow
def test_fifo_where_a_file_is_expected_is_refused_at_once(tmp_path: Path, option: str) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    name = {"--scenarios": "pack.toml", "--fixtures": "a.txt.json", "--data-dir": "events.jsonl"}.get(option, "fifo")
    os.mkfifo(folder / name)
    given = folder / name if option == "--faults" else folder
    ended = subprocess.run(
        [sys.executable, "-m", "fake_aihub", "--port", "0", option, str(given)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1, ended
    assert f"{name}: not a regular file" in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_full_disk_behind_its_output_ends_no_fake(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "fake_aihub", "--port", str(port)]
    with Path("/dev/full").open("w") as full, subprocess.Popen(command, stdout=full, stderr=full) as fake:
        try:
            until = time.monotonic() + 20
            while fake.poll() is None and time.monotonic() < until:
                with suppress(requests.RequestException):
                    requests.get(f"http://127.0.0.1:{port}/api/v2/batches", timeout=20)
                    break
            assert fake.poll() is None
        finally:
            fake.terminate()
    assert fake.returncode == 0
