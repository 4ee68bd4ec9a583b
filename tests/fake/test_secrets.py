"""Secrets: created, listed, changed and deleted, and their values shown nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests
from aihub import AIHub
from aihub.exceptions import NotFoundException

from fake_aihub import FakeAIHub

HIDDEN = "hunter2-and-more"
SECRET = {"alias": "erp", "value": HIDDEN, "allowed_workspaces_type": "ALL"}


def create(http: requests.Session, fake: FakeAIHub, **facts: Any) -> requests.Response:
    return http.post(f"{fake.root}/v2/aihub/secrets", json=SECRET | facts)


def listed(http: requests.Session, fake: FakeAIHub, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"{fake.root}/v2/aihub/secrets", params=query).json()["secrets"]
    return found


def test_secret_is_listed_with_all_but_its_value(http: requests.Session, fake: FakeAIHub) -> None:
    http.headers["IB-Context"] = "acme"
    made = create(http, fake, description="for the ERP")
    assert (made.status_code, made.content) == (200, b"")
    [secret] = listed(http, fake)
    assert (secret["alias"], secret["description"], secret["org"]) == ("erp", "for the ERP", "acme")
    assert secret["created_at"] == secret["updated_at"] > 1e12
    assert "value" not in secret


def test_secret_value_is_in_no_journal_and_no_file(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        create(http, fake)
        http.patch(f"{fake.root}/v2/aihub/secrets", json={"alias": "erp", "value": HIDDEN})
        http.post(f"{fake.root}/v2/aihub/%73ecrets", json={"value": HIDDEN})
        told = json.dumps(fake.journal) + http.get(f"{fake.root.removesuffix('/api')}/_fake/journal").text
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert "createSecret" in told
    assert HIDDEN not in told
    assert not any(HIDDEN.encode() in content for content in kept)


def test_secrets_are_listed_by_alias_and_by_the_workspace_that_may_use_them(
    http: requests.Session, fake: FakeAIHub
) -> None:
    create(http, fake, alias="all")
    create(http, fake, alias="none", allowed_workspaces_type="NONE", allowed_workspaces=["w"])
    create(http, fake, alias="some", allowed_workspaces_type="SOME", allowed_workspaces=["w"])
    assert [secret["alias"] for secret in listed(http, fake, workspace="w")] == ["all", "some"]
    assert [secret["alias"] for secret in listed(http, fake, workspace="x")] == ["all"]
    assert [secret["allowed_workspaces"] for secret in listed(http, fake, alias="none")] == [[]]


def test_secret_changes_in_what_is_given_only(http: requests.Session, fake: FakeAIHub) -> None:
    create(http, fake, description="old", allowed_workspaces_type="SOME", allowed_workspaces=["w"])
    before = listed(http, fake)[0]
    fake.clock.advance(10)
    body = {"alias": "erp", "description": "new", "value": None}
    changed = http.patch(f"{fake.root}/v2/aihub/secrets", json=body)
    assert (changed.status_code, changed.content) == (200, b"")
    [after] = listed(http, fake)
    assert after == before | {"description": "new", "updated_at": after["updated_at"]}
    assert after["updated_at"] >= before["created_at"] + 10_000


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"alias": ""}, 400),
        ({"alias": None}, 400),
        ({"value": None}, 400),
        ({"allowed_workspaces_type": "MANY"}, 400),
        ({"allowed_workspaces_type": "SOME"}, 400),
        ({"allowed_workspaces": "w"}, 400),
        ({"allowed_workspaces": [1]}, 400),
        ({"alias": "taken"}, 409),
    ],
)
def test_secret_that_cannot_be_is_refused(
    http: requests.Session, fake: FakeAIHub, facts: dict[str, Any], status: int
) -> None:
    create(http, fake, alias="taken")
    assert create(http, fake, **facts).status_code == status
    assert [secret["alias"] for secret in listed(http, fake)] == ["taken"]


def test_secrets_are_there_after_a_restart(http: requests.Session, tmp_path: Path) -> None:
    with FakeAIHub(tmp_path) as fake:
        create(http, fake)
        create(http, fake, alias="gone")
        http.delete(f"{fake.root}/v2/aihub/secrets", json={"alias": "gone"})
        before = listed(http, fake)
    with FakeAIHub(tmp_path) as fake:
        assert listed(http, fake) == before


def test_sdk_makes_lists_changes_and_deletes_secrets(fake: FakeAIHub) -> None:
    sdk = AIHub(api_key="fake-sdk", ib_context="acme", api_root=fake.root)
    sdk.secrets.create("erp", HIDDEN, "SOME", allowed_workspaces=["w"])
    assert [secret.alias for secret in sdk.secrets.list(alias="erp").secrets] == ["erp"]
    sdk.secrets.update("erp", description="new", allowed_workspaces_type="NONE")
    [secret] = sdk.secrets.list().secrets
    assert (secret.description, secret.allowed_workspaces_type) == ("new", "NONE")
    sdk.secrets.delete("erp")
    assert sdk.secrets.list().secrets == []
    with pytest.raises(NotFoundException):
        sdk.secrets.delete("erp")
    with pytest.raises(NotFoundException):
        sdk.secrets.update("erp")
    sdk.client.rest_client.pool_manager.clear()
