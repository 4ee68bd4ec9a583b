"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PLUGIN = "fake_aihub.pytest_plugin"
OPTIONS = ["-p", PLUGIN, "-W", "error"]


@pytest.fixture(autouse=True)
def _no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load only the plugins that are named: those of other packages take longer to load than a test here takes."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess(*OPTIONS, *options)


def blocks(text: str) -> dict[str, str]:
    """The Python of a document, by the file name in its first line."""
    return dict(re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL))


@pytest.mark.slow
def test_plugin_does_what_its_documentation_shows(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    # Where this package is installed, pytest finds the plugin by itself.
    installed = any(found.value == PLUGIN for found in entry_points(group="pytest11"))
    files = blocks((ROOT / "docs/pytest.md").read_text(encoding="utf-8"))
    for name, code in files.items():
        (pytester.path / name).write_text(code, encoding="utf-8")
    result = pytester.runpytest_subprocess("-p", "no:schemathesis", *[] if installed else ["-p", PLUGIN])
    result.assert_outcomes(passed=files["test_process.py"].count("\ndef test_"))


def test_plugin_is_declared_for_pytest() -> None:
    assert f'fake_aihub = "{PLUGIN}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_plugin_imports_nothing_of_the_fake_until_it_is_used() -> None:
    code = (
        f"import sys, {PLUGIN}; print(sorted(name for name in sys.modules if name.startswith(('fake', 'starl', 'uv'))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"['fake_aihub', '{PLUGIN}']"


@pytest.mark.slow
def test_plugin_gives_each_test_a_world_of_its_own(pytester: pytest.Pytester) -> None:
    code = """
        import pytest, requests

        SEEN = {}

        @pytest.mark.parametrize("number", range(4))
        def test_world(fake_aihub, number):
            SEEN[fake_aihub.token] = fake_aihub.url
            assert len(SEEN) == number + 1
            assert len(set(SEEN.values())) == 1
            url, headers = f"{fake_aihub.url}/v2/batches", fake_aihub.headers
            assert requests.get(url, headers=headers).json() == {"batches": []}
            assert requests.post(url, json={"name": "mine"}, headers=headers).json() == {"id": 1001}
            assert fake_aihub.ledger["batches"] == {"/mine": 1}
            assert [entry["operation"] for entry in fake_aihub.journal] == ["listBatches", "createBatch"]
            assert fake_aihub.clock.offset_s == 0
            fake_aihub.clock.advance(86_400)

        def test_faults(fake_aihub):
            fake_aihub.faults(operation="listBatches", do="status", status=503)
            url, headers = f"{fake_aihub.url}/v2/batches", fake_aihub.headers
            assert [requests.get(url, headers=headers).status_code for _ in range(2)] == [503, 200]

        def test_tokens(fake_aihub):
            url = f"{fake_aihub.url}/v2/batches"
            for token in [*SEEN, "fake-other", "real", ""]:
                found = requests.get(url, headers={"Authorization": f"Bearer {token}"})
                assert found.status_code == 401, token
                assert found.headers["X-Fake-AIHub"] == "1"
            service = {"Authorization": f"Bearer {fake_aihub.service_token}"}
            assert requests.post(url, json={"name": "no workspace"}, headers=service).status_code == 400
            assert requests.get(url).status_code == 401
    """
    run(pytester, code).assert_outcomes(passed=6)


@pytest.mark.slow
def test_plugin_controls_the_fake_of_the_token_by_requests_too(pytester: pytest.Pytester) -> None:
    code = """
        import requests

        def test_control(fake_aihub):
            control = fake_aihub.url.removesuffix("/api") + "/_fake"
            assert requests.get(f"{control}/ledger").status_code == 401
            found = requests.post(f"{control}/clock", json={"advance_s": 5}, headers=fake_aihub.headers)
            assert found.status_code == 200
            assert fake_aihub.clock.offset_s == 5
    """
    run(pytester, code).assert_outcomes(passed=1)


@pytest.mark.slow
def test_plugin_fails_a_test_whose_faults_were_never_used_unless_that_is_allowed(pytester: pytest.Pytester) -> None:
    code = """
        import pytest

        def test_unused(fake_aihub):
            fake_aihub.faults(operation="runApp", do="reset")

        @pytest.mark.fake_aihub(allow_unused_faults=True)
        def test_allowed(fake_aihub):
            fake_aihub.faults(operation="runApp", do="reset")
    """
    result = run(pytester, code)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*unused faults*runApp*"])


@pytest.mark.slow
def test_plugin_takes_options_from_marks_the_nearest_first(pytester: pytest.Pytester) -> None:
    code = """
        import pytest

        pytestmark = pytest.mark.fake_aihub(page_files=3, run_seconds=5)

        @pytest.mark.fake_aihub(page_files=7)
        def test_options(fake_aihub):
            assert (fake_aihub.service.page_files, fake_aihub.service.run_seconds) == (7, 5)

        @pytest.mark.fake_aihub(clock="2026-01-31T12:00:00Z")
        def test_clock(fake_aihub):
            before = fake_aihub.clock.now_s()
            fake_aihub.clock.advance(86_400)
            assert fake_aihub.clock.now_s() == before + 86_400 == 1_769_947_200

        @pytest.mark.fake_aihub(page_fils=1)
        def test_mistake(fake_aihub):
            pass
    """
    result = run(pytester, code, "--strict-markers")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["mark fake_aihub: page_fils is not a known option; allowed: page_files"])


MISTAKES = {
    "page_files=0": "page_files is 0; allowed: a whole number from 1",
    "page_files='3'": "page_files is '3'; allowed: a whole number from 1",
    "run_seconds=-1": "run_seconds is -1; allowed: a number of seconds from 0",
    "clock='noon'": "clock is 'noon'; allowed: real, frozen, 2026-01-31T12:00:00Z",
    "strict=1": "strict is 1; allowed: True or False",
    "scenarios=3": "scenarios is 3; allowed: the path of a folder",
    "allow_unused_faults='no'": "allow_unused_faults is 'no'; allowed: True or False",
    "any_token=True": "any_token is not a known option; allowed: *",
    "3": "expected keyword arguments, got 3",
}


def test_mark_that_says_what_cannot_be_fails_its_test(pytester: pytest.Pytester) -> None:
    code = """
        import pytest

        @pytest.mark.fake_aihub({mark})
        def test_asks(fake_aihub):
            pass

        @pytest.mark.fake_aihub({mark})
        def test_asks_not():
            pass
    """
    pytester.makepyfile(**{f"test_{number}": code.format(mark=mark) for number, mark in enumerate(MISTAKES)})
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(errors=2 * len(MISTAKES))
    result.stdout.fnmatch_lines([f"mark fake_aihub: {message}" for message in MISTAKES.values() for _ in range(2)])


@pytest.mark.slow
def test_plugin_fails_a_test_whose_next_run_never_came_unless_that_is_allowed(pytester: pytest.Pytester) -> None:
    code = """
        import pytest, requests

        def start(fake):
            url = f"{fake.url}/v2/batches"
            key = requests.post(url, json={"name": "a"}, headers=fake.headers).json()["id"]
            requests.put(f"{url}/{key}/files/a", data=b"a", headers=fake.headers)
            body = {"app_name": "a", "batch_id": key}
            return requests.post(f"{fake.url}/v2/apps/runs", json=body, headers=fake.headers).json()["status"]

        def test_unused(fake_aihub):
            fake_aihub.next_run(status="FAILED")

        def test_unused_of_all(fake_aihub):
            fake_aihub.next_run(status="FAILED", times=0, app="other")
            assert start(fake_aihub) == "COMPLETE"

        @pytest.mark.parametrize("times", [0, 1, 3])
        def test_used(fake_aihub, times):
            fake_aihub.next_run(status="FAILED", times=times)
            assert start(fake_aihub) == "FAILED"

        @pytest.mark.fake_aihub(allow_unused_faults=True)
        def test_allowed(fake_aihub):
            fake_aihub.next_run(status="FAILED")
    """
    result = run(pytester, code)
    result.assert_outcomes(passed=6, errors=2)
    result.stdout.fnmatch_lines(["*unused faults: *'next_run': {'status': 'FAILED'}*"])


@pytest.mark.slow
def test_fakes_of_modules_and_of_the_session_are_shared_and_fail_for_unused_faults(pytester: pytest.Pytester) -> None:
    code = """
        import pytest

        pytestmark = pytest.mark.fake_aihub(page_files=3)
        SEEN = {}

        @pytest.mark.parametrize("number", range(2))
        def test_shared(fake_aihub_module, fake_aihub_session, fake_aihub, number):
            fakes = (fake_aihub_module, fake_aihub_session, fake_aihub)
            assert [fake.service.page_files for fake in fakes] == [3, 100, 3]
            SEEN[number] = [fake.token for fake in fakes]
            assert len(set(SEEN[number])) == 3
            if number:
                assert SEEN[0][:2] == SEEN[1][:2]
                assert SEEN[0][2] != SEEN[1][2]
                fake_aihub_module.faults(operation="runApp")
                fake_aihub_session.next_run(status="FAILED")
    """
    pytester.makepyfile(
        test_other="def test_session(fake_aihub_session):\n    assert fake_aihub_session.batches() == []"
    )
    result = run(pytester, code)
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines_random(["*unused faults: *runApp*", "*unused faults: *next_run*"])


FROZEN = """
    import time

    import requests

    class Frozen:
        def __init__(self, monkeypatch):
            for name in ("time", "monotonic", "perf_counter"):
                monkeypatch.setattr(time, name, lambda: 1_600_000_000.0)

    def ask(fake):
        url = f"{fake.url}/v2/batches"
        made = requests.post(url, json={"name": "a"}, headers=fake.headers, timeout=20)
        assert made.status_code == 200
        assert fake.batches()[0]["created_at_ms"] > 1_700_000_000_000
        slow = requests.get(url, headers={**fake.headers, "X-Fake-Fault": "slow bytes=9 seconds=0.01"}, timeout=20)
        assert len(slow.json()["batches"]) == 1
"""


@pytest.mark.slow
def test_fake_goes_on_and_ends_where_a_test_freezes_the_time_of_its_process(pytester: pytest.Pytester) -> None:
    code = """
    def test_frozen(fake_aihub, monkeypatch):
        Frozen(monkeypatch)
        ask(fake_aihub)

    def test_one_of_its_own(monkeypatch):
        from fake_aihub import FakeAIHub

        Frozen(monkeypatch)
        with FakeAIHub() as fake:
            fake.url, fake.headers = fake.root, {"Authorization": "Bearer fake-x"}
            ask(fake)
    """
    pytester.makepyfile(FROZEN + code)
    pytester.runpytest_subprocess(*OPTIONS, timeout=60).assert_outcomes(passed=2)


@pytest.mark.slow
def test_fake_goes_on_and_ends_under_freezegun(pytester: pytest.Pytester) -> None:
    pytest.importorskip("freezegun")
    code = """
    from freezegun import freeze_time

    @freeze_time("2020-01-01")
    def test_frozen(fake_aihub):
        ask(fake_aihub)

    def test_frozen_in_part(fake_aihub):
        with freeze_time("2020-01-01"):
            ask(fake_aihub)
        assert len(fake_aihub.batches()) == 1
    """
    pytester.makepyfile(FROZEN + code)
    pytester.runpytest_subprocess("-p", PLUGIN, timeout=60).assert_outcomes(passed=2)


@pytest.mark.slow
def test_plugin_is_safe_in_parallel(pytester: pytest.Pytester) -> None:
    code = """
        import pytest, requests

        @pytest.mark.parametrize("number", range(40))
        def test_world(fake_aihub, number):
            url, headers = f"{fake_aihub.url}/v2/batches", fake_aihub.headers
            for _ in range(5):
                requests.post(url, json={"name": str(number)}, headers=headers).raise_for_status()
            assert {b["name"] for b in requests.get(url, headers=headers).json()["batches"]} == {str(number)}
            assert fake_aihub.ledger["batches"] == {f"/{number}": 5}
    """
    run(pytester, code, "-p", "xdist", "-n", "8").assert_outcomes(passed=40)


@pytest.mark.slow
def test_plugin_leaves_modules_of_a_user_alone_that_have_the_names_of_our_folders(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        runner="MINE = 'runner'",
        fake_server="MINE = 'fake_server'",
        test_names="""
            import fake_server, runner
            import aihub_runner, fake_aihub as package
            from aihub_runner import documents

            def test_names(fake_aihub):
                assert (runner.MINE, fake_server.MINE) == ("runner", "fake_server")
                assert callable(documents) and package.FakeAIHub
                assert fake_aihub.url.startswith("http://127.0.0.1:")
        """,
    )
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=1)
