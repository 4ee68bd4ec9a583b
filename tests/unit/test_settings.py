"""Who and where: sources by strength, and a token that is never sent where it does not belong."""

from pathlib import Path

import pytest

from runner.errors import InputError
from runner.settings import PUBLIC_ROOT, load_settings, load_spec, normalise_root, read_secrets


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AIHUB_API_KEY", "AIHUB_API_ROOT", "AIHUB_CONTEXT", "AIHUB_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def token() -> str:
    key = load_settings().api_key
    return key.get_secret_value() if key else ""


def test_settings_without_anything_are_the_public_root_and_no_token() -> None:
    assert (load_settings().api_root, load_settings().api_key, load_settings().context) == (PUBLIC_ROOT, None, None)


def test_settings_come_from_the_environment_then_env_file_then_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "aihub_api_key").write_text("from-secrets\n")
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(secrets))
    assert token() == "from-secrets"
    (tmp_path / ".env").write_text("AIHUB_API_KEY=from-file\nOTHER=1\nAIHUB_CONTEXT=acme\n")
    assert token() == "from-file"
    assert load_settings().context == "acme"
    monkeypatch.setenv("AIHUB_API_KEY", "from-environment")
    assert token() == "from-environment"


def test_settings_never_send_a_key_from_the_environment_to_a_root_from_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("AIHUB_API_ROOT=https://thief.example\n")
    monkeypatch.setenv("AIHUB_API_KEY", "s3cret")
    with pytest.raises(InputError, match="could send the token elsewhere") as caught:
        load_settings()
    assert "s3cret" not in caught.value.message
    monkeypatch.setenv("AIHUB_API_ROOT", "https://own.example/api/")
    assert load_settings().api_root == "https://own.example/api"


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://Own.Example:443/api/", "https://own.example/api"),
        ("HTTPS://own.example/api", "https://own.example/api"),
        ("http://127.0.0.1:8800/api", "http://127.0.0.1:8800/api"),
        ("http://[::1]:8800/api", "http://[::1]:8800/api"),
        ("http://localhost/api", "http://localhost/api"),
    ],
)
def test_root_is_written_the_one_way(given: str, normal: str) -> None:
    assert normalise_root(given) == normal


@pytest.mark.parametrize(
    "given",
    ["http://own.example/api", "own.example", "https://u:p@own.example", "ftp://x", "https://x?y", "https://x:99999"],
)
def test_root_that_is_not_plain_https_is_refused(given: str) -> None:
    with pytest.raises(InputError):
        normalise_root(given)


@pytest.mark.parametrize("bad", ["s3cret\nX-Evil: 1", "s3crét", "s3cret x"])
def test_token_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", bad)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert "s3cr" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


def test_secrets_are_read_by_name_and_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_SECRET_A", "a")
    (tmp_path / ".env").write_text("AIHUB_SECRET_B=b\n")
    found = read_secrets(["AIHUB_SECRET_A", "AIHUB_SECRET_B"])
    assert [value.get_secret_value() for value in found.values()] == ["a", "b"]
    with pytest.raises(InputError, match="AIHUB_SECRET_C: is not set"):
        read_secrets(["AIHUB_SECRET_C"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"\xff", "not UTF-8"),
        ("a.lock.toml", b"", "is a lock file"),
        ("a.toml", b"x" * 1_000_001, "too large"),
    ],
)
def test_spec_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_spec(tmp_path / name)


def test_spec_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        load_spec(tmp_path / "none.toml")
