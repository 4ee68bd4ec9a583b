"""The controls and the page refuse what a page of another origin could send, and names that are not this machine's."""

from __future__ import annotations

import re

import pytest
import requests

from fake_aihub import FakeAIHub
from fake_aihub.api.app import create_app
from fake_aihub.api.service import Service
from fake_aihub.server.embedded import Background
from fake_aihub.world.clock import Clock
from fake_aihub.world.world import World


def control(fake: FakeAIHub, method: str = "POST", path: str = "clock", **headers: str) -> requests.Response:
    url = f"{fake.root.removesuffix('/api')}/_fake/{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.request(method, url, json={"advance_s": 5} if method == "POST" else None, headers=named, timeout=10)


def own_origin(fake: FakeAIHub) -> str:
    return fake.root.removesuffix("/api")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[::1"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:80"},
        {"Host": "203.0.113.9"},
        {"Host": "[::1"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("method", "path"), [("POST", "clock"), ("DELETE", "journal"), ("DELETE", "faults")])
def test_page_elsewhere_cannot_press_a_button(fake: FakeAIHub, headers: dict[str, str], method: str, path: str) -> None:
    fake.faults(operation="runApp")
    refused = control(fake, method, path, **headers)
    assert refused.status_code == 403
    assert "do not accept" in refused.json()["message"]
    assert (fake.clock.offset_s, len(fake.faults.scripts)) == (0, 1)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Host": "localhost:8800"},
        {"Host": "LOCALHOST"},
        {"Host": "fake.localhost"},
        {"Host": "localhost."},
        {"Host": "[::1]:8800"},
        {"Host": "127.0.0.2"},
    ],
    ids=str,
)
def test_scripts_and_the_page_itself_may(fake: FakeAIHub, headers: dict[str, str]) -> None:
    assert control(fake, **headers).json()["offset_s"] == 5
    assert control(fake, Origin=own_origin(fake)).json()["offset_s"] == 10


def test_page_elsewhere_may_link_to_the_page_and_read_nothing(fake: FakeAIHub) -> None:
    assert control(fake, "GET", "", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status_code == 200
    assert control(fake, "GET", "journal", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status_code == 403
    assert control(fake, "GET", "journal", Origin="http://evil.example").status_code == 403


def test_other_names_are_accepted_only_when_named() -> None:
    service = Service(Clock(), World(Clock()), allowed_hosts=("aihub",))
    with Background(create_app(service)) as background:
        place = f"{background.root.removesuffix('/api')}/_fake/ledger"
        for host, status in (("aihub:8800", 200), ("AIHUB", 200), ("other", 403)):
            assert requests.get(place, headers={"Host": host}, timeout=10).status_code == status, host


def test_api_is_reached_by_any_name(fake: FakeAIHub, http: requests.Session) -> None:
    assert http.get(f"{fake.root}/v2/batches", headers={"Host": "proxied"}).status_code == 200


def test_page_and_its_files_load_nothing_from_elsewhere(fake: FakeAIHub) -> None:
    for path, kind in (("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript")):
        found = control(fake, "GET", path)
        assert found.headers["Content-Type"].startswith(kind)
        assert "default-src 'self'" in found.headers["Content-Security-Policy"]
        assert not re.search(r"//[a-z0-9.-]+\.[a-z]", found.text)


@pytest.mark.parametrize("path", ["/", "/_fake"])
def test_browser_is_sent_to_the_page(fake: FakeAIHub, path: str) -> None:
    found = requests.get(own_origin(fake) + path, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=10)
    assert (found.url, "<title>Fake AI Hub</title>" in found.text) == (f"{own_origin(fake)}/_fake/", True)
