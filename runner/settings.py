"""Who and where: the token, the root and the context, from the environment, `.env`, or a secrets folder."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from runner.errors import InputError
from runner.spec import Spec, parse_spec

PUBLIC_ROOT = "https://aihub.instabase.com/api"
MAX_SPEC_BYTES = 1_000_000


class Settings(BaseSettings):
    """What the environment says; the default root is the public one."""

    model_config = SettingsConfigDict(env_prefix="AIHUB_", extra="ignore", hide_input_in_errors=True, frozen=True)
    api_key: SecretStr | None = None
    api_root: str = PUBLIC_ROOT
    context: str | None = None


def load_spec(path: Path) -> Spec:
    """Load a spec. Raises InputError (SpecErrors: all mistakes at once)."""
    if path.name.endswith(".lock.toml"):
        raise InputError(f"{path.name}: is a lock file, not a spec", "name the spec")
    try:
        data = path.read_bytes()
        if len(data) > MAX_SPEC_BYTES:
            raise InputError(f"{path.name}: is too large for a spec, {len(data)} bytes", "is it the right file?")
        return parse_spec(data.decode("utf-8"), path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read, {error.strerror}", "name a spec, such as invoices.toml") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is not UTF-8, byte {error.start}", "save it as UTF-8") from None


def _secrets_folder() -> Path | None:
    named = os.environ.get("AIHUB_SECRETS_DIR")
    if named and not Path(named).is_dir():
        raise InputError(f"AIHUB_SECRETS_DIR: is no folder, {named}", "name a folder, or unset it")
    folder = Path(named or "/run/secrets")
    return folder if folder.is_dir() else None


def _sources(model: type[BaseSettings]) -> list[tuple[str, PydanticBaseSettingsSource]]:
    """List the sources by name, the strongest first."""
    sources: list[tuple[str, PydanticBaseSettingsSource]] = [
        ("the environment", EnvSettingsSource(model)),
        (".env", DotEnvSettingsSource(model, env_file=Path.cwd() / ".env", env_file_encoding="utf-8")),
    ]
    if folder := _secrets_folder():
        sources.append((str(folder), SecretsSettingsSource(model, secrets_dir=folder)))
    return sources


def load_settings() -> Settings:
    """Load the settings. Raises InputError; a root never comes from a weaker source than the key."""
    values: dict[str, str] = {}
    origin: dict[str, int] = {}
    names: list[str] = []
    for rank, (name, source) in enumerate(_read_sources(Settings)):
        names.append(name)
        for key, value in source.items():
            if key not in values and key in Settings.model_fields:
                values[key], origin[key] = str(value), rank
    if "api_root" in values and "api_key" in values and origin["api_root"] > origin["api_key"]:
        raise InputError(
            f"AIHUB_API_ROOT: comes from {names[origin['api_root']]}, but AIHUB_API_KEY from "
            f"{names[origin['api_key']]}, so it could send the token elsewhere",
            "set both in one place",
        )
    token = _check_token(values["api_key"]) if values.get("api_key", "").strip() else None
    root = normalise_root(values.get("api_root", "") or PUBLIC_ROOT)
    return Settings.model_construct(api_key=token, api_root=root, context=values.get("context"))


def _read_sources(model: type[BaseSettings]) -> list[tuple[str, dict[str, object]]]:
    try:
        return [(name, source()) for name, source in _sources(model)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"settings: cannot be read, {type(error).__name__}", "check .env") from None


def _check_token(token: str) -> SecretStr:
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("AIHUB_API_KEY: holds characters that no token has", "copy the token again")
    return SecretStr(token)


def normalise_root(root: str) -> str:
    """Write a root the one way: lower case, no default port, no slash at the end.

    Raises InputError where it is not https, except to this machine itself.
    """
    try:
        parts = urlsplit(root.strip())
        port = parts.port
    except ValueError:
        raise InputError(f"AIHUB_API_ROOT: is no URL, {root}", f"write it as {PUBLIC_ROOT}") from None
    host, scheme = (parts.hostname or "").lower(), parts.scheme.lower()
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise InputError("AIHUB_API_ROOT: is no plain https URL", f"write it as {PUBLIC_ROOT}")
    if scheme != "https" and not (scheme == "http" and _is_this_machine(host)):
        raise InputError(f"AIHUB_API_ROOT: is not https, {scheme}://{host}", f"write it as {PUBLIC_ROOT}")
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != {"https": 443, "http": 80}[scheme]:
        shown += f":{port}"
    return urlunsplit((scheme, shown, parts.path.rstrip("/"), "", ""))


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_secrets(names: Iterable[str]) -> dict[str, SecretStr]:
    """Read secrets by the names of their variables (AIHUB_SECRET_…). Raises InputError for the ones not set."""
    from dotenv import dotenv_values

    folder, filed = _secrets_folder(), dotenv_values(Path.cwd() / ".env")
    found = {}
    for name in names:
        kept = folder / name if folder else None
        value = os.environ.get(name) or filed.get(name) or (kept.read_text().strip() if kept and kept.is_file() else "")
        if not value:
            raise InputError(f"{name}: is not set", "set it in the environment, .env or the secrets folder")
        found[name] = SecretStr(value)
    return found
