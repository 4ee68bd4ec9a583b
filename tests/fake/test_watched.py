"""The fake's page in a real browser, while the vendor's SDK and the runner drive the fake."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import expect
from starlette.responses import HTMLResponse

from fake_aihub import FakeAIHub
from fake_aihub.server.embedded import Background
from support.browser import find_barriers, launch
from support.proof import open_sdk

pytestmark = [pytest.mark.slow, pytest.mark.needs_browser]

HOSTILE = "<img src=x onerror='window.acted = 1'>"
API = {"Authorization": "Bearer fake-test", "IB-Context": "acme"}


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with launch(chromium) as browser:
        yield browser


@pytest.fixture
def page(browser: Any, fake: FakeAIHub) -> Iterator[Any]:
    """The page of a fake. It must say nothing on the console and load nothing from elsewhere."""
    page, told, elsewhere = browser.new_page(), [], []
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    place = fake.root.removesuffix("/api")
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(place) else None)
    page.goto(f"{place}/_fake/")
    page.wait_for_selector("#link[data-open]")
    yield page
    page.close()
    assert [line for line in told if "409" not in line and "400" not in line] == []
    assert [url for url in elsewhere if not url.startswith("data:")] == []


def wait_for(page: Any, selector: str, text: str) -> Any:
    place = page.locator(selector, has_text=text).first
    place.wait_for()
    return place


def start_run(fake: FakeAIHub, name: str = "a.txt", batch: str = "b", tags: list[str] | None = None) -> str:
    batch_id = requests.post(f"{fake.root}/v2/batches", json={"name": batch}, headers=API, timeout=10).json()["id"]
    kind = {"Content-Type": "application/octet-stream"}
    requests.put(f"{fake.root}/v2/batches/{batch_id}/files/{name}", data=b"text", headers=API | kind, timeout=10)
    body = {"app_name": "App", "batch_id": batch_id, "settings": {"tags": tags or []}}
    return str(requests.post(f"{fake.root}/v2/apps/runs", json=body, headers=API, timeout=10).json()["id"])


def test_runner_and_sdk_are_watched_as_they_work(page: Any, fake: FakeAIHub, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("Invoice 7")
    (tmp_path / "job.toml").write_text('files = "*.txt"\napp_name = "Invoices"\ncontext = "acme"\n')
    environment = os.environ | {"AIHUB_API_ROOT": fake.root, "AIHUB_API_KEY": "fake-test"}
    command = [sys.executable, "-m", "aihub_runner", "apply", str(tmp_path / "job.toml"), "--yes"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    with open_sdk(fake.root) as sdk:
        batch = sdk.batches.create(name="from the SDK")
        sdk.batches.add_file(batch.id, file_name="two.txt", file=io.BytesIO(b"text"))
    wait_for(page, "#requests tbody tr", "addFileToBatch")
    wait_for(page, "#requests tbody tr", "aihub-runner")
    wait_for(page, "#batches tbody tr", "from the SDK")
    wait_for(page, "#runs tbody tr", "COMPLETE")
    expect(page.locator("#requests tbody tr")).to_have_count(len(fake.journal))
    assert re.fullmatch(r"\d+ of 27", page.locator("#coverage .count").inner_text())


def test_hostile_names_and_bodies_are_text(page: Any, fake: FakeAIHub) -> None:
    start_run(fake, name=quote(f"{HOSTILE}.txt"), batch=HOSTILE, tags=[HOSTILE])
    requests.get(f"{fake.root}/v2/batches", headers={**API, "User-Agent": HOSTILE}, timeout=10)
    wait_for(page, "#batches tbody tr", HOSTILE)
    wait_for(page, "#runs tbody tr", HOSTILE)
    wait_for(page, "#requests tbody tr", HOSTILE)
    wait_for(page, "#requests tbody tr", "createBatch").click()
    expect(page.locator(".request_body")).to_contain_text("onerror")
    page.locator("#batches summary").first.click()
    expect(page.locator("#batches li").first).to_contain_text(HOSTILE)
    assert page.evaluate("window.acted") is None


def test_details_show_headers_and_bodies_without_the_token(page: Any, fake: FakeAIHub) -> None:
    start_run(fake, tags=["mine"])
    wait_for(page, "#requests tbody tr", "runApp").click()
    expect(page.locator(".request_body")).to_contain_text("mine")
    assert "fake-test" not in page.content()
    assert "authorization: …" in page.locator(".request_headers").inner_text()
    assert '"id"' in page.locator(".response_body").inner_text()


def test_runs_are_completed_failed_stopped_and_released(page: Any, fake: FakeAIHub) -> None:
    for button, status in (("complete", "COMPLETE"), ("fail", "FAILED"), ("stop for review", "STOPPED_AT_CHECKPOINT")):
        fake.next_run(hold=True)
        run_id = start_run(fake, batch=button)
        row = wait_for(page, "#runs tbody tr", run_id)
        row.get_by_role("button", name=f"{button} run {run_id}", exact=True).click()
        wait_for(page, f"#runs tbody tr:has-text('{run_id}')", status)
    page.get_by_role("button", name=f"release run {run_id}").click()
    wait_for(page, f"#runs tbody tr:has-text('{run_id}')", "COMPLETE")
    assert {run["status"] for run in fake.runs()} == {"COMPLETE", "FAILED"}


def test_duplicates_are_red_and_repeats_are_marked(page: Any, fake: FakeAIHub) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    batch_id = requests.post(f"{fake.root}/v2/batches", json={"name": "b"}, headers=API, timeout=10).json()["id"]
    for _ in range(2):
        requests.put(f"{fake.root}/v2/batches/{batch_id}/files/a", data=b"x", headers=API | kind, timeout=10)
    wait_for(page, "#ledger tbody tr.bad", "uploads")
    assert page.locator("#requests .note", has_text="repeat").count() == 1


def test_fault_is_armed_from_the_form_and_shown_where_it_strikes(page: Any, fake: FakeAIHub) -> None:
    page.select_option("#arm [name=operation]", "listBatches")
    page.select_option("#arm [name=do]", "status")
    page.fill("#arm [name=status]", "429")
    page.fill("#arm [name=more]", '{"headers": {"Retry-After": "7"}}')
    page.get_by_role("button", name="Arm").click()
    wait_for(page, "#faults tbody tr", "listBatches")
    answered = requests.get(f"{fake.root}/v2/batches", headers=API, timeout=10)
    assert (answered.status_code, answered.headers["Retry-After"]) == (429, "7")
    wait_for(page, "#requests .note", "fault: status")
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator("#faults tbody tr")).to_have_count(0)
    assert fake.faults.scripts == []


def test_wrong_fault_is_refused_with_the_reason(page: Any, fake: FakeAIHub) -> None:
    page.fill("#arm [name=more]", '{"what": 1}')
    page.get_by_role("button", name="Arm").click()
    expect(page.locator("#problem")).to_contain_text("what")
    assert fake.faults.scripts == []


def test_clock_and_checkpoints_are_set_from_the_page(page: Any, fake: FakeAIHub) -> None:
    page.fill("#clock [name=seconds]", "3600")
    page.get_by_role("button", name="Advance").click()
    page.fill("#checkpoint [name=name]", "before")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("#checkpoints option[value=before]", state="attached")
    assert fake.clock.offset_s == 3600
    start_run(fake)
    wait_for(page, "#requests tbody tr", "runApp")
    page.get_by_role("button", name="Rewind").click()
    expect(page.locator("#requests tbody tr")).to_have_count(0)
    expect(page.locator("#runs tbody tr")).to_have_count(0)
    assert fake.runs() == []


def test_page_elsewhere_cannot_press_a_button_in_a_browser(browser: Any, fake: FakeAIHub) -> None:
    url = f"{fake.root.removesuffix('/api')}/_fake/clock"
    page = browser.new_page()
    with Background(HTMLResponse("elsewhere")) as elsewhere:  # another port is another origin
        page.goto(elsewhere.root)
        with page.expect_response(url) as answered:
            page.evaluate("url => fetch(url, {method: 'POST', mode: 'no-cors', body: '{\"advance_s\": 5}'})", url)
    assert answered.value.status == 403
    page.close()
    assert fake.clock.offset_s == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_barriers(browser: Any, fake: FakeAIHub, scheme: str) -> None:
    fake.faults(operation="listBatches", do="status", status=429)
    start_run(fake)
    requests.get(f"{fake.root}/v2/batches", headers=API, timeout=10)
    page = browser.new_context(bypass_csp=True, color_scheme=scheme).new_page()
    page.goto(f"{fake.root.removesuffix('/api')}/_fake/")
    wait_for(page, "#requests tbody tr", "runApp").click()
    expect(page.locator(".response_body")).to_contain_text("id")
    assert find_barriers(page) == []
    page.close()
