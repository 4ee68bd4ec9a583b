"""The user's settings: token, root and context, from the environment, `.env`, or a secrets folder."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from aihub_runner.errors import InputError
from aihub_runner.files import read_regular
from aihub_runner.model import SPEC_ENDING, Secret
from aihub_runner.spec.model import MAX_SPEC_BYTES
from aihub_runner.spec.parsing import parse_as
from aihub_runner.spec.targets import AS_IT_IS, Choice, Parsed
from aihub_runner.spec.values import check_context, is_this_machine, name_variable

STDIN = Path("-")
PUBLIC_ROOT = "https://aihub.instabase.com/api"
API_KEY, API_ROOT = "API_KEY", "API_ROOT"
SECRETS_FOLDER = Path("/run/secrets")
_OF_SECRET = re.compile(r"AIHUB_SECRET_.+|AIHUB_(.+_)?API_KEY|AIHUB_RUNNER_NOTIFY_TOKEN")
_WRITE_ROOT = f"write it as {PUBLIC_ROOT}"


class Settings(Struct, frozen=True):
    """The checked settings of a target, or of none. `key_from` and `root_from` name their sources."""

    api_key: Secret | None
    api_root: str
    context: str | None
    key_from: str = ""
    root_from: str = ""
    target: str = ""

    @property
    def key_name(self) -> str:
        """The name of the variable with the token."""
        return name_variable(self.target, API_KEY)


def load_spec(path: Path, choice: Choice = AS_IT_IS) -> Parsed:
    """Load a spec as a target sees it. Raises InputError (SpecErrors: all mistakes at once)."""
    if path.name.endswith(".lock.toml"):
        raise InputError(f"{path}: is a lock file, not a spec", "name the spec")
    if os.path.isdir(path):
        folder = "" if path == Path() else f" {shlex.quote(str(path))}"
        hint = f"write one with `runner init{folder}`"
        raise InputError(f"{path}: no specs in this folder; a spec is a file named *{SPEC_ENDING}", hint)
    if path == STDIN:
        data = _read_stdin()
    else:
        data = read_file(path, MAX_SPEC_BYTES + 1, "name a spec, such as invoices.aihub.toml")
    if len(data) > MAX_SPEC_BYTES:
        raise InputError(f"{path}: too large for a spec, more than {MAX_SPEC_BYTES} bytes", "name the spec")
    if data.startswith(b"\xef\xbb\xbf"):
        raise InputError(f"{path}: starts with a byte order mark", "save it as UTF-8 without a byte order mark")
    return parse_as(_decode(data, str(path)), path, choice._replace(find=find_variable))


def _read_stdin() -> bytes:
    try:
        return sys.stdin.buffer.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        what = error.strerror or type(error).__name__
    raise InputError(f"{STDIN}: standard input cannot be read, {what}", "redirect a spec to it")


def read_file(path: Path, size: int, hint: str) -> bytes:
    """Read the start of a file that the user named. Raises InputError."""
    try:
        return read_regular(path, size)
    except OSError as error:
        what = error.strerror or type(error).__name__
    raise InputError(f"{path}: cannot be read, {what}", hint)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        at = error.start
    raise InputError(f"{name}: not UTF-8, byte {at} of {len(data)}", "save it as UTF-8")


# Where settings come from


class Origin(Struct, frozen=True):
    """A source of settings, and how it finds a variable."""

    name: str
    find: Callable[[str], str | None]


def _list_origins() -> list[Origin]:
    """Return the sources, the strongest first."""
    origins = [Origin("the environment", os.environ.get)]
    if in_file := _read_env_file(Path(".env")):
        origins.append(Origin(".env", in_file.get))
    named = os.environ.get("AIHUB_SECRETS_DIR", "")
    if named and not os.path.isdir(named):
        raise InputError(f"AIHUB_SECRETS_DIR: not a folder, {named}", "set it to a folder, or unset it")
    folder = Path(named) if named else SECRETS_FOLDER
    if os.path.isdir(folder):
        origins.append(Origin(str(folder), lambda name: _read_secret_file(folder, name)))
    return origins


def find_variable(name: str) -> str | None:
    """Find a variable of a spec. A secrets folder does not count: values of a spec are shown."""
    return os.environ.get(name) or _read_env_file(Path(".env")).get(name)


def _read_env_file(path: Path) -> Mapping[str, str]:
    """Return the variables of a `.env`, verbatim.

    `${…}` is not expanded: a `.env` may come from a pull request, and could otherwise send any variable of the
    environment to wherever the spec sends a secret.
    """
    if os.path.isdir(path) or not os.path.exists(path):  # a folder of that name is usually a virtual environment
        return {}
    import io

    from dotenv.parser import parse_stream

    text = _decode(
        read_file(path, MAX_SPEC_BYTES, "make it readable, or remove it").removeprefix(b"\xef\xbb\xbf"), ".env"
    )
    found = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise InputError(f".env:{binding.original.line}: not NAME=value", "fix the line and check its quotes")
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found


def _read_secret_file(folder: Path, name: str) -> str | None:
    """Return the content of a file in a secrets folder, named like a variable in upper or lower case."""
    for path in (folder / name, folder / name.lower()):
        if os.path.lexists(path):
            data = read_file(path, MAX_SPEC_BYTES, "make it readable")
            return _decode(data, str(path)).removesuffix("\n").removesuffix("\r")
    return None


# Settings and secrets


def load_settings(target: str = "") -> Settings:
    """Return the settings. Raises InputError. A root never comes from a weaker source than the key.

    Those of a target are a pair from one source, and nothing else counts for it.
    """
    origins = _list_origins()
    if target:
        return _load_pair(origins, target)
    key_rank, root_rank = _find(origins, "AIHUB_API_KEY"), _find(origins, "AIHUB_API_ROOT")
    if key_rank < root_rank < len(origins):
        raise InputError(
            f"AIHUB_API_ROOT: comes from {origins[root_rank].name}, but AIHUB_API_KEY from {origins[key_rank].name}, "
            "so it could send the token elsewhere",
            "set both in one place",
        )
    key, root, context = _read_from(origins)
    return Settings(
        api_key=Secret(_check_token(key, "AIHUB_API_KEY")) if key else None,
        api_root=normalise_root(root or PUBLIC_ROOT),
        context=None if context is None else _check_context(context),
        key_from=_name_origin(origins, key_rank),
        root_from=_name_origin(origins, root_rank),
    )


def read_key_again(settings: Settings) -> Secret | None:
    """Return the key that is now where these settings are from, or None if it may not replace theirs.

    It comes from the same source and belongs to the same root, else it could be sent elsewhere.
    """
    try:
        found = load_settings(settings.target)
    except InputError:  # it may be half-written
        return None
    is_same = (found.key_from, found.api_root) == (settings.key_from, settings.api_root)
    return found.api_key if is_same else None


def _name_origin(origins: list[Origin], rank: int, nowhere: str = "the default") -> str:
    return origins[rank].name if rank < len(origins) else nowhere


def _read_from(origins: list[Origin]) -> tuple[str, str, str | None]:
    """Return key, root and context as they are written."""
    if len(origins) == 1:  # nothing to merge: importing pydantic-settings takes longer than a plan of a small job
        find = origins[0].find
        return (find("AIHUB_API_KEY") or "").strip(), (find("AIHUB_API_ROOT") or "").strip(), find("AIHUB_CONTEXT")
    from aihub_runner.environment import read_environment

    found = read_environment([origin.find for origin in origins])
    return found.api_key.get_secret_value() if found.api_key else "", found.api_root, found.context


def _find(origins: list[Origin], name: str) -> int:
    """Return the rank of a variable's source. An empty value counts as not set."""
    return next((rank for rank, origin in enumerate(origins) if (origin.find(name) or "").strip()), len(origins))


def _load_pair(origins: list[Origin], target: str) -> Settings:
    """Return the token and the root of a target. Without a token, only commands that send nothing work."""
    key_name, root_name = name_variable(target, API_KEY), name_variable(target, API_ROOT)
    key_rank, root_rank = _find(origins, key_name), _find(origins, root_name)
    key_from, root_from = _name_origin(origins, key_rank, "nowhere"), _name_origin(origins, root_rank, "nowhere")
    if root_rank == len(origins):
        raise InputError(f"{root_name}: not set", f"set it together with {key_name}; no other variable counts")
    if key_rank not in (root_rank, len(origins)):
        raise InputError(
            f"{key_name}: comes from {key_from}, but {root_name} from {root_from}, so it could be sent elsewhere",
            "set both in one place",
        )
    find = origins[root_rank].find
    key, root = (find(key_name) or "").strip(), (find(root_name) or "").strip()
    token = Secret(_check_token(key, key_name)) if key else None
    return Settings(token, normalise_root(root, root_name), None, key_from, root_from, target)


def _check_token(token: str, name: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{name}: contains invalid characters", "copy the token again")
    return token


def _check_context(context: str) -> str:
    try:
        return check_context(context.strip())
    except ValueError as error:
        what = f"AIHUB_CONTEXT: {error}"
    raise InputError(what, "copy the context again")


def normalise_root(root: str, name: str = "AIHUB_API_ROOT") -> str:
    """Return a root in canonical form: lower case, no default port, no trailing slash.

    Raises InputError if it is not https, except for this machine. The message never shows a refused root, which may
    hold a password.
    """
    try:
        parts = urlsplit(root.strip())
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        host = ""
    if not host or "@" in parts.netloc or parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", root.strip()):
        raise InputError(f"{name}: not a plain https URL", _WRITE_ROOT)
    if not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", host):
        raise InputError(f"{name}: invalid host", _WRITE_ROOT)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_this_machine(host)):
        raise InputError(f"{name}: not https, {parts.scheme}://{host}", _WRITE_ROOT)
    shown = f"[{host}]" if ":" in host else host
    if port not in (None, {"https": 443, "http": 80}[parts.scheme]):
        shown += f":{port}"
    path = posixpath.normpath(re.sub("//+", "/", parts.path or "/")).rstrip("/")
    return urlunsplit((parts.scheme, shown, path, "", ""))


def identify_root(root: str) -> str:
    """Return what identifies the service of a normalised root: this machine has several names."""
    parts = urlsplit(root)
    host = parts.hostname or ""
    if host not in ("localhost", "::1"):
        return root
    return urlunsplit((parts.scheme, "127.0.0.1" + (f":{parts.port}" if parts.port else ""), parts.path, "", ""))


def list_secrets() -> list[str]:
    """List the secrets in the environment: tokens of all targets, and what a spec can name."""
    return [value.strip() for name, value in os.environ.items() if _OF_SECRET.fullmatch(name) and value.strip()]


def read_secrets(names: Iterable[str]) -> dict[str, Secret]:
    """Return secrets by the names of their variables (AIHUB_SECRET_…). Raises InputError for those not set."""
    origins = _list_origins()
    found = {}
    missing = []
    for name in names:
        value = next((value for origin in origins if (value := origin.find(name))), "")
        if not value:
            missing.append(name)
        elif not value.isprintable():
            raise InputError(f"{name}: contains control characters", "set it again, in one line")
        found[name] = Secret(value)
    if missing:
        what = f"{', '.join(missing)}: not set"
        raise InputError(what, "set it in the environment, .env or the secrets folder")
    return found
