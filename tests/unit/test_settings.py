"""Token, root and context: the precedence of their sources, and a token that never goes to the wrong place."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from aihub_runner.errors import InputError
from aihub_runner.settings import (
    PUBLIC_ROOT,
    Settings,
    load_settings,
    load_spec,
    normalise_root,
    read_key_again,
    read_secrets,
)


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AIHUB_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def token() -> str:
    key = load_settings().api_key
    return key.reveal() if key else ""


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


OWN = "AIHUB_API_ROOT=https://own.example/api\n"


@pytest.mark.parametrize(
    ("files", "again"),
    [
        ({".env": f"AIHUB_API_KEY=new\n{OWN}"}, "new"),
        ({".env": f"{OWN}AIHUB_API_KEY=old\n"}, "old"),
        ({".env": "AIHUB_API_KEY=new\nAIHUB_API_ROOT=https://thief.example/api\n"}, None),
        ({".env": "AIHUB_API_KEY=new\n"}, None),
        ({".env": f'AIHUB_API_KEY="n\n{OWN}'}, None),
        ({".env": OWN}, None),
        ({".env": OWN, "secrets/AIHUB_API_KEY": "new"}, None),
        ({".env": "", "secrets/AIHUB_API_KEY": "new", "secrets/AIHUB_API_ROOT": "https://own.example/api"}, None),
    ],
    ids=["rotated", "same", "root changed", "root gone", "half-written", "gone", "elsewhere", "both elsewhere"],
)
def test_key_is_read_again_only_from_its_source_and_for_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], again: str | None
) -> None:
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(tmp_path / "secrets"))
    (tmp_path / ".env").write_text(f"AIHUB_API_KEY=old\n{OWN}")
    settings = load_settings()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    key = read_key_again(settings)
    assert (key.reveal() if key else None) == again


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://Own.Example:443/api/", "https://own.example/api"),
        ("HTTPS://own.example/api", "https://own.example/api"),
        ("http://127.0.0.1:8800/api", "http://127.0.0.1:8800/api"),
        ("http://[::1]:8800/api", "http://[::1]:8800/api"),
        ("http://localhost/api", "http://localhost/api"),
        ("http://127.9.9.9:80/api", "http://127.9.9.9/api"),
        (" https://own.example/api//\n", "https://own.example/api"),
        ("https://own.example:8443", "https://own.example:8443"),
    ],
)
def test_root_is_written_the_one_way(given: str, normal: str) -> None:
    assert normalise_root(given) == normal


@pytest.mark.parametrize(
    "given",
    [
        "http://own.example/api",
        "own.example",
        "https://u:s3cret@own.example",
        "https://u:s3cret@own.example:x",
        "https://own.example:99999",
        "https://own.example/api?token=s3cret",
        "https://own.example/#s3cret",
        "https://own.example\\@thief.example",
        "https://own.example/a b",
        "https://öwn.example",
        "https://[::1",
        "https://",
        "ftp://x",
        "http://localhost.thief.example",
        "http://127.0.0.1.thief.example",
        "http://0.0.0.0",
    ],
)
def test_root_that_is_not_plain_https_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(InputError) as caught:
        normalise_root(given)
    assert caught.value.message.startswith("AIHUB_API_ROOT: ")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("bad", ["s3cret\nX-Evil: 1", "s3crét", "s3cret x", "s3cret\x7f"])
def test_token_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", bad)
    with pytest.raises(InputError) as caught:
        load_settings()
    assert "s3cr" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


def test_secrets_are_read_by_name_and_missed_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_SECRET_A", "a")
    (tmp_path / ".env").write_text("AIHUB_SECRET_B=b\n")
    found = read_secrets(["AIHUB_SECRET_A", "AIHUB_SECRET_B"])
    assert [value.reveal() for value in found.values()] == ["a", "b"]
    with pytest.raises(InputError, match="AIHUB_SECRET_C: not set"):
        read_secrets(["AIHUB_SECRET_C"])


def test_token_loses_the_blanks_around_it_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_API_KEY", " s3cret\r\n")
    assert token() == "s3cret"
    assert "s3cret" not in f"{load_settings()!r} {load_settings()} {read_secrets([])!r}"


def test_variables_that_are_set_to_nothing_are_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("AIHUB_API_KEY=key\nAIHUB_API_ROOT=https://own.example\nAIHUB_CONTEXT=acme\n")
    monkeypatch.setenv("AIHUB_API_KEY", "")
    monkeypatch.setenv("AIHUB_API_ROOT", " ")
    monkeypatch.setenv("AIHUB_CONTEXT", "")
    assert (token(), load_settings().api_root) == ("key", "https://own.example")
    assert load_settings().context == ""  # no context, on purpose


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"AIHUB_API_KEY": " key\n", "AIHUB_API_ROOT": " https://Own.example/api/ ", "AIHUB_CONTEXT": " acme "},
        {"AIHUB_API_KEY": "", "AIHUB_API_ROOT": "", "AIHUB_CONTEXT": ""},
        {"AIHUB_API_KEY": " ", "AIHUB_API_ROOT": " ", "AIHUB_CONTEXT": " "},
        {"AIHUB_API_KEY": "a key", "AIHUB_API_ROOT": "own.example", "AIHUB_CONTEXT": "ä"},
        {"AIHUB_CONTEXT": "a\nb"},
    ],
)
def test_environment_alone_is_read_as_it_is_with_a_secrets_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    """Only the latter imports pydantic-settings."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)

    def read() -> Settings | str:
        try:
            return load_settings()
        except InputError as error:
            return error.message

    alone = read()
    (tmp_path / "secrets").mkdir()
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(tmp_path / "secrets"))
    assert read() == alone


def test_environment_alone_is_read_without_slow_imports() -> None:
    code = "import sys, aihub_runner.settings as s\ns.load_settings()\nprint('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("key_from", "root_from", "refused"),
    [
        ("env", "file", True),
        ("env", "folder", True),
        ("file", "folder", True),
        ("env", "env", False),
        ("file", "env", False),
        ("folder", "file", False),
        ("folder", "folder", False),
        ("", "file", False),
    ],
)
def test_root_counts_from_where_the_key_came_from_or_stronger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key_from: str, root_from: str, refused: bool
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(secrets))
    for name, value, place in (("KEY", "s3cret", key_from), ("ROOT", "https://own.example", root_from)):
        if place == "env":
            monkeypatch.setenv(f"AIHUB_API_{name}", value)
        elif place == "file":
            with (tmp_path / ".env").open("a") as file:
                file.write(f"AIHUB_API_{name}={value}\n")
        elif place:
            (secrets / f"AIHUB_API_{name}").write_text(value)
    if refused:
        with pytest.raises(InputError, match="could send the token elsewhere"):
            load_settings()
    else:
        assert load_settings().api_root == "https://own.example"


def test_env_file_cannot_read_the_rest_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_TOKEN", "s3cret")
    (tmp_path / ".env").write_text("AIHUB_SECRET_A=${OTHER_TOKEN}\nAIHUB_CONTEXT='${OTHER_TOKEN}'\n")
    assert read_secrets(["AIHUB_SECRET_A"])["AIHUB_SECRET_A"].reveal() == "${OTHER_TOKEN}"
    assert load_settings().context == "${OTHER_TOKEN}"


def test_env_file_counts_in_the_current_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("AIHUB_API_KEY=key\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert load_settings().api_key is None


def test_env_file_takes_quotes_comments_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('\ufeffexport AIHUB_API_KEY="key" # mine\nFOO\n\nAIHUB_CONTEXT = acme\n')
    assert (token(), load_settings().context) == ("key", "acme")


def test_env_folder_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert load_settings().api_key is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"OTHER=1\nAIHUB_API_KEY='s3cret\n", r"\.env:2: not NAME=value"),
        (b"AIHUB_API_KEY=s3cret\xff\n", r"\.env: not UTF-8, byte 20"),
    ],
)
def test_env_file_that_cannot_be_read_is_told_without_showing_it(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    for load in (load_settings, lambda: read_secrets(["AIHUB_SECRET_A"])):
        with pytest.raises(InputError, match=message) as caught:
            load()
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_secrets_folder_that_is_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(tmp_path / "none"))
    with pytest.raises(InputError, match="AIHUB_SECRETS_DIR: not a folder"):
        load_settings()
    (tmp_path / ".env").write_text(f"AIHUB_SECRETS_DIR={tmp_path}\n")
    (tmp_path / "AIHUB_API_KEY").write_text("key")
    monkeypatch.delenv("AIHUB_SECRETS_DIR")
    assert load_settings().api_key is None  # it counts from the environment only


def test_secrets_keep_their_blanks_but_not_the_end_of_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_SECRETS_DIR", str(tmp_path))
    (tmp_path / "aihub_secret_a").write_text(" pä$$ word \r\n", newline="")
    assert read_secrets(["AIHUB_SECRET_A"])["AIHUB_SECRET_A"].reveal() == " pä$$ word "


def test_secret_with_control_characters_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_SECRET_A", "s3cret\nX-Evil: 1")
    with pytest.raises(InputError, match="AIHUB_SECRET_A: contains control characters") as caught:
        read_secrets(["AIHUB_SECRET_A"])
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_secrets_that_are_not_set_are_all_named() -> None:
    with pytest.raises(InputError, match="AIHUB_SECRET_A, AIHUB_SECRET_B: not set"):
        read_secrets(["AIHUB_SECRET_A", "AIHUB_SECRET_B"])


def test_context_that_no_header_can_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_CONTEXT", "acme\nX-Evil: 1")
    with pytest.raises(InputError, match="AIHUB_CONTEXT: contains invalid characters"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"\xef\xbb\xbffiles = 1", "starts with a byte order mark"),
        ("a.toml", "files = 1".encode("utf-16"), "not UTF-8, byte 0"),
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
    with pytest.raises(InputError, match="no specs in this folder"):
        load_spec(tmp_path)
