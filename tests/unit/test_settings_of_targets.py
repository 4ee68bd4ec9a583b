"""Token and root of a target: a pair from one source, and never those of another target."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aihub_runner.errors import InputError
from aihub_runner.settings import load_settings, read_key_again

KEY, ROOT = "AIHUB_TEST_API_KEY", "AIHUB_TEST_API_ROOT"
OWN = "https://test.example/api"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("AIHUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(tmp_path / "secrets"))
    return tmp_path


def put(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str, value: str) -> None:
    """Set a variable in one of the three sources."""
    if place == "environment":
        monkeypatch.setenv(name, value)
    elif place == ".env":
        with (folder / ".env").open("a") as file:
            file.write(f"{name}={value}\n")
    else:
        (folder / place / name).write_text(value)


@pytest.mark.parametrize("place", ["environment", ".env", "secrets"])
def test_pair_of_a_target_is_read_from_each_source(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    put(folder, monkeypatch, place, KEY, "s3cret")
    put(folder, monkeypatch, place, ROOT, OWN + "/")
    found = load_settings("test")
    assert (found.api_key and found.api_key.reveal(), found.api_root, found.context) == ("s3cret", OWN, None)
    assert found.key_from == found.root_from


def test_dashes_of_a_target_are_underscores_in_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_EU_WEST_API_KEY", "k")
    monkeypatch.setenv("AIHUB_EU_WEST_API_ROOT", OWN)
    assert load_settings("eu-west").api_root == OWN


@pytest.mark.parametrize(
    ("key_place", "root_place"),
    [
        (first, second)
        for first in ("environment", ".env", "secrets", "")
        for second in ("environment", ".env", "secrets", "")
        if first != second and first
    ],
)
def test_half_of_a_pair_is_refused_without_showing_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key_place: str, root_place: str
) -> None:
    put(folder, monkeypatch, key_place, KEY, "s3cret")
    if root_place:
        put(folder, monkeypatch, root_place, ROOT, OWN)
    with pytest.raises(InputError) as caught:
        load_settings("test")
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"
    assert KEY in f"{caught.value.message}{caught.value.hint}"
    assert ROOT in caught.value.message


@pytest.mark.parametrize(("half", "whole"), [(KEY, ".env"), (ROOT, ".env"), (KEY, "secrets"), (ROOT, "secrets")])
def test_half_in_the_environment_is_not_completed_by_a_weaker_pair(
    folder: Path, monkeypatch: pytest.MonkeyPatch, half: str, whole: str
) -> None:
    put(folder, monkeypatch, whole, KEY, "k")
    put(folder, monkeypatch, whole, ROOT, OWN)
    put(folder, monkeypatch, "environment", half, "https://other.example/api")
    with pytest.raises(InputError, match="so it could be sent elsewhere"):
        load_settings("test")


def test_plain_settings_never_count_for_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", "plain")
    monkeypatch.setenv("AIHUB_API_ROOT", "https://plain.example/api")
    monkeypatch.setenv("AIHUB_CONTEXT", "live")
    with pytest.raises(InputError, match=f"{ROOT}: not set"):
        load_settings("test")
    monkeypatch.setenv(ROOT, OWN)
    found = load_settings("test")
    assert (found.api_key, found.api_root, found.context) == (None, OWN, None)


def test_settings_of_targets_never_count_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "k")
    monkeypatch.setenv(ROOT, OWN)
    assert load_settings().api_key is None


@pytest.mark.parametrize(("name", "value"), [(ROOT, "http://thief.example"), (KEY, "s3cr\u00e9t"), (KEY, "s3cret x")])
def test_invalid_setting_of_a_target_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(KEY, "k")
    monkeypatch.setenv(ROOT, OWN)
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        load_settings("test")
    assert caught.value.message.startswith(f"{name}: ")
    assert "s3cr" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "again"),
    [
        (f"{KEY}=new\n{ROOT}={OWN}\nAIHUB_API_KEY=plain\n", "new"),
        (f"{KEY}=new\n{ROOT}=https://thief.example/api\n", None),
        (f"AIHUB_API_KEY=plain\nAIHUB_API_ROOT={OWN}\n", None),
        (f"{KEY}=new\n", None),
        (f"{ROOT}={OWN}\n", None),
    ],
    ids=["rotated", "root changed", "plain only", "root gone", "key gone"],
)
def test_token_of_a_target_is_read_again_as_its_own(folder: Path, text: str, again: str | None) -> None:
    (folder / ".env").write_text(f"{KEY}=old\n{ROOT}={OWN}\nAIHUB_API_KEY=plain\nAIHUB_API_ROOT={OWN}\n")
    settings = load_settings("test")
    (folder / ".env").write_text(text)
    key = read_key_again(settings)
    assert (key.reveal() if key else None) == again
