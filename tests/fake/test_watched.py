"""The fake's page in a real browser, while the vendor's SDK and the runner drive the fake."""

from __future__ import annotations

import io
import json
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

HOSTILE = [
    "<img src=x onerror='window.acted = 1'>",
    "<script>window.acted = 1</script>",
    "</script></td></table><script>window.acted = 1</script>",
    '" onmouseover="window.acted = 1" x=\'',
    "data: 1\u2028event: state\u2029line",
    "\u202egpj.exe\u2066\u200f",
    "&lt;b&gt; ${7*7} {{7*7}} \\u0041",
]
ACTING = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
API = {"Authorization": "Bearer fake-test", "IB-Context": "acme"}


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with launch(chromium, "--host-resolver-rules=MAP rebound.example 127.0.0.1", "--no-proxy-server") as browser:
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
    assert [line for line in told if not any(code in line for code in ("400", "404", "409"))] == []
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


def start_apply(fake: FakeAIHub, folder: Path) -> subprocess.Popen[bytes]:
    (folder / "one.txt").write_text("Invoice 7")
    (folder / "job.toml").write_text(
        'files = "*.txt"\napp_name = "Invoices"\ncontext = "acme"\n[limits]\nsettle_s = 1\n'
    )
    environment = os.environ | {"AIHUB_API_ROOT": fake.root, "AIHUB_API_KEY": "fake-test"}
    command = [sys.executable, "-m", "aihub_runner", "apply", str(folder / "job.toml"), "--yes", "--quiet"]
    return subprocess.Popen(command, env=environment)


def test_runner_and_sdk_are_watched_as_they_work(page: Any, fake: FakeAIHub, tmp_path: Path) -> None:
    fake.next_run(hold=True)
    apply = start_apply(fake, tmp_path)
    row = wait_for(page, "#runs tbody tr", "RUNNING")  # while it works
    wait_for(page, "#requests tbody tr", "aihub-runner")
    row.get_by_role("button", name="complete").click()
    assert apply.wait(timeout=60) == 0
    with open_sdk(fake.root) as sdk:
        batch = sdk.batches.create(name="from the SDK")
        sdk.batches.add_file(batch.id, file_name="two.txt", file=io.BytesIO(b"text"))
        run = sdk.apps.runs.create(app_name="Invoices", batch_id=batch.id)
        sdk.apps.runs.results(run.id)
    wait_for(page, "#batches tbody tr", "from the SDK")
    wait_for(page, f"#runs tbody tr:has-text('{run.id}')", "COMPLETE")
    expect(page.locator("#requests tbody tr")).to_have_count(len(fake.journal))
    clients = {entry["request_headers"]["user-agent"] for entry in fake.journal}
    assert len(clients) == 2
    for client in clients:
        wait_for(page, "#requests tbody tr", client)
    called = {entry["operation"] for entry in fake.journal}
    expect(page.locator("#coverage .count")).to_have_text(f"{len(called)} of 27")
    rows = [row.split("\t") for row in page.locator("#coverage tbody tr").all_inner_texts()]
    assert len(rows) == 27
    assert {name for name, calls in rows if int(calls)} == called


def visible(text: str) -> str:
    return re.sub(ACTING, lambda one: f"\\u{ord(one[0]):04x}", text)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_and_bodies_are_text(page: Any, fake: FakeAIHub, hostile: str) -> None:
    shown = visible(hostile)
    start_run(fake, name=quote(f"{hostile}.txt".replace("/", "")), batch=hostile, tags=[hostile])
    requests.get(f"{fake.root}/v2/batches", headers={**API, "User-Agent": hostile.encode()}, timeout=10)
    wait_for(page, "#batches tbody tr", shown)
    wait_for(page, "#runs tbody tr", shown)
    wait_for(page, "#requests tbody tr", "listBatches")
    wait_for(page, "#requests tbody tr", "createBatch").click()
    expect(page.locator(".request_body")).to_contain_text(visible(json.dumps(hostile, ensure_ascii=False)))
    page.locator("#batches summary").first.click()
    expect(page.locator("#batches li").first).to_contain_text(shown.replace("/", ""))
    assert page.evaluate("window.acted") is None
    assert page.locator("main img, main script, main svg, [onmouseover], [onload], [onerror]").count() == 0
    assert not re.search(ACTING, page.locator("body").inner_text().replace("\t", " "))


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
    cell = wait_for(page, "#ledger tbody tr.bad", "uploads").locator("td").first
    assert cell.evaluate("cell => getComputedStyle(cell).color") == "rgb(176, 0, 32)"
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


def test_hostile_texts_in_the_controls_are_text(page: Any, fake: FakeAIHub) -> None:
    hostile = "".join(HOSTILE)
    page.fill("#checkpoint [name=name]", hostile)
    page.get_by_role("button", name="Rewind").click()
    expect(page.locator("#problem")).to_contain_text("Unknown checkpoint")
    page.get_by_role("button", name="Save").click()
    page.locator("#checkpoints option").wait_for(state="attached")
    page.fill("#arm [name=name]", hostile)
    page.select_option("#arm [name=do]", "drop_answer")
    page.select_option("#arm [name=operation]", "getRunResults")
    page.get_by_role("button", name="Arm").click()
    wait_for(page, "#faults tbody tr", "getRunResults")
    page.get_by_role("button", name="Rewind").click()
    expect(page.locator("#faults tbody tr")).to_have_count(0)
    assert page.evaluate("window.acted") is None
    assert page.locator("main img, main script, main svg").count() == 0
    assert not re.search(ACTING, page.locator("body").inner_text().replace("\t", " "))


def test_page_says_how_many_of_how_many_requests_it_shows(browser: Any, fake: FakeAIHub) -> None:
    with requests.Session() as session:
        for _ in range(510):
            session.get(f"{fake.root}/v2/batches", headers=API, timeout=10)
    page = browser.new_page()
    page.goto(f"{fake.root.removesuffix('/api')}/_fake/")
    expect(page.locator("#requests .count")).to_have_text("500 of 510 shown")
    expect(page.locator("#requests tbody tr")).to_have_count(500)
    page.fill("#filter", "runApp")
    expect(page.locator("#requests .count")).to_have_text("0 of 510 shown")
    page.close()


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


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])  # the same site, and another one
def test_page_elsewhere_cannot_read_or_submit_a_form(browser: Any, fake: FakeAIHub, name: str) -> None:
    place = fake.root.removesuffix("/api")
    page = browser.new_page()
    form = (
        f"<form method=post action='{place}/_fake/clock' enctype=text/plain><input name='{{\"advance_s\": 5}}'></form>"
    )
    with Background(HTMLResponse(f"<meta name=referrer content=no-referrer>{form}")) as elsewhere:
        page.goto(elsewhere.root.replace("127.0.0.1", name))
        with page.expect_response(f"{place}/_fake/journal") as answered:  # no Origin, only Sec-Fetch-Site
            page.evaluate("url => fetch(url, {mode: 'no-cors'})", f"{place}/_fake/journal")
        assert answered.value.status == 403
        assert "origin" not in answered.value.request.all_headers()
        with page.expect_response(f"{place}/_fake/clock") as answered:
            page.evaluate("document.forms[0].submit()")
        assert answered.value.status == 403
    page.close()
    assert fake.clock.offset_s == 0


def test_name_that_someone_points_at_this_machine_is_refused(browser: Any, fake: FakeAIHub) -> None:
    page = browser.new_page()
    answered = page.goto(f"{fake.root.removesuffix('/api').replace('127.0.0.1', 'rebound.example')}/_fake/")
    assert answered.status == 403
    assert "--allowed-host" in page.locator("body").inner_text()
    page.close()


def test_armed_fault_strikes_the_runner_and_it_recovers(page: Any, fake: FakeAIHub, tmp_path: Path) -> None:
    page.select_option("#arm [name=operation]", "createBatch")
    page.select_option("#arm [name=do]", "reset")
    page.select_option("#arm [name=when]", "after")
    page.get_by_role("button", name="Arm").click()
    wait_for(page, "#faults tbody tr", "createBatch")
    assert start_apply(fake, tmp_path).wait(timeout=110) == 0
    wait_for(page, "#requests tbody tr.bad", "fault: reset")
    expect(page.locator("#batches tbody tr")).to_have_count(1)
    expect(page.locator("#ledger tbody tr.bad")).to_have_count(0)


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
