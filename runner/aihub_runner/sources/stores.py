"""Read files elsewhere, through fsspec: object stores, SFTP, and folders by `file://`. Each process opens its own.

Credentials and addresses come from where the store's own tools look for them. Whatever a store's library raises becomes
an error of ours here, or FileNotFoundError where a file is gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from aihub_runner.errors import RunnerError, ServiceError
from aihub_runner.model import Stat
from aihub_runner.spec.urls import SCHEMES, place_of, scheme_of
from aihub_runner.system.extras import find_missing
from aihub_runner.system.shortage import find_shortage
from aihub_runner.text.escape import clean_text

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # between attempts
CONNECTIONS = 64
CONNECT_S, READ_S, KEEPALIVE_S = 10, 30, 15
MOST_TIMEOUTS = 3  # of one request: each takes long
_S3_FILE = {"type": "file"}
_TREES = ("file", "sftp")  # have folders; the others have keys
_RANGE_BITS = 62  # of a number in the stat cache
_PASSING = frozenset({errno.EBUSY, errno.EAGAIN, errno.EREMOTEIO, errno.ETIMEDOUT})
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_NAMES = re.compile(r"Timeout|Connection|Disconnect|EndpointConnection|IncompleteRead|ResponseParser|Payload")
_NO_LOGIN = re.compile(r"Credential|ProfileNotFound|ClientAuthentication|KeyImport|KeyEncryption|HostKeyNotVerifiable")
AGAIN = "and apply again; nothing is lost"

T = TypeVar("T")
Pause = Callable[[float], None]  # waits, and raises Interrupted if it should not


class StoreError(ServiceError):
    """A store refused, or could not be reached."""


class Refused(StoreError):
    """A store does not let us read something. `reason` is what it says."""

    def __init__(self, message: str, hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


class ObjectChanged(Exception):
    """A file elsewhere was replaced while it was read."""


class Entry(Struct, frozen=True):
    """A file as a store lists it, or why it cannot be one: `detail` is empty for a regular file."""

    url: str
    stat: Stat
    detail: str = ""


class Listing(Struct, frozen=True):
    """What is directly in a folder: its files, and the URLs of the folders in it."""

    files: list[Entry]
    folders: list[str]


NOTHING = Stat(0, 0, 0, 0)


def has_folders(place: str) -> bool:
    """Whether a place has folders; otherwise it has keys, and lists all that begin alike."""
    return scheme_of(place) in _TREES


# The stores of this process

_opened: dict[tuple[int, str], Any] = {}
_opening = threading.Lock()


def _find_store(place: str) -> Any:
    """Return the store of a place, opened once in each process: its threads do not survive a fork."""
    with _opening:
        key = (os.getpid(), place)
        if key not in _opened:
            _opened[key] = _open_store(place)
        return _opened[key]


def _forget_store(place: str) -> None:
    """Forget a store whose connection broke, so that the next attempt opens another."""
    if scheme_of(place) == "sftp":
        with _opening:
            _opened.pop((os.getpid(), place), None)


def check_installed(place: str) -> None:
    """Raise InputError if the packages for a place are not installed."""
    if missing := find_missing(SCHEMES[scheme_of(place)]):
        raise missing


def _open_store(place: str) -> Any:
    check_installed(place)
    import fsspec  # slow to import, like all stores

    scheme = scheme_of(place)
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "sftp":
        from sshfs import SSHFileSystem

        url = urlsplit(place)
        given = {"port": url.port, "username": url.username}
        return SSHFileSystem(
            url.hostname,
            known_hosts=(),  # those of the user: the default of sshfs trusts every host
            connect_timeout=CONNECT_S,
            login_timeout=READ_S,
            keepalive_interval=KEEPALIVE_S,
            sftp_client_kwargs={"path_errors": "surrogateescape"},
            skip_instance_cache=True,
            **{name: value for name, value in given.items() if value},
        )
    if scheme == "s3":
        times = {"connect_timeout": CONNECT_S, "read_timeout": READ_S}
        once = {"retries": {"total_max_attempts": 1}}  # ours have pauses that a signal ends
        config = {"max_pool_connections": CONNECTIONS, **times, **once}
        store = fsspec.filesystem("s3", config_kwargs=config, **options)
        store.retries = 1
        return store
    return fsspec.filesystem(scheme, **options)


def _inner(url: str) -> str:
    """Return a URL as its store knows it: bucket and key, or a path."""
    scheme, _, rest = url.partition("://")
    return f"/{rest.partition('/')[2]}" if scheme in _TREES else rest


def _outer(place: str, name: str) -> str:
    """Return the URL of what a store names so."""
    return f"{place}{name}" if has_folders(place) else f"{scheme_of(place)}://{name}"


# Requests


def ask(url: str, act: Callable[[Any], T], pause: Pause) -> T:
    """Ask the store of a URL, again after a failure that may pass.

    Raises StoreError, of these Refused; InputError, FileNotFoundError, ObjectChanged; Interrupted by `pause`.
    """
    place, timeouts = place_of(url), 0
    for wait_s in (*PAUSES_S, None):
        store = None
        try:
            store = _find_store(place)
            return act(store)
        except (FileNotFoundError, ObjectChanged):
            raise
        except Exception as error:  # of any library
            _raise_known(error)
            timeouts += "Timeout" in type(error).__name__
            if wait_s is None or timeouts == MOST_TIMEOUTS or not _may_pass(error):
                raise explain(url, error, is_open=store is not None) from None
            if not isinstance(error, OSError) or error.errno not in _PASSING:
                _forget_store(place)
            pause(wait_s)
    raise AssertionError


def _raise_known(error: Exception) -> None:
    """Raise an error that has a type of its own here."""
    if isinstance(error, RunnerError):
        raise error
    if type(error).__name__ == "FileExpired" or _code_of(error) in ("PreconditionFailed", "412"):
        raise ObjectChanged from None
    if isinstance(error, OSError | MemoryError) and (shortage := find_shortage(error)):
        raise shortage from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _code_of(error: BaseException) -> str:
    """Return the code that S3 gives for an error; empty for others."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _status_of(error: BaseException) -> int:
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, Mapping):
            return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        for name in ("status_code", "status", "code"):
            if isinstance(status := getattr(one, name, None), int) and status >= 100:
                return status
    return 0


def _is_refused(error: BaseException) -> bool:
    return isinstance(error, PermissionError) or _status_of(error) in (401, 403)


def _may_pass(error: BaseException) -> bool:
    if _is_refused(error) or any(_NO_LOGIN.search(type(one).__name__) for one in _chain(error)):
        return False
    if isinstance(error, TimeoutError | ConnectionError) or _status_of(error) in _PASSING_STATUS:
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    return any(_PASSING_NAMES.search(type(one).__name__) for one in _chain(error))


def explain(url: str, error: BaseException, *, is_open: bool) -> StoreError:
    """Return the error to report for what a store's library raised. It shows no query, which may hold a signature.

    `is_open` says that the store let us in before.
    """
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    what = clean_text(re.sub(r"\?\S*", "?…", text))
    names = [type(one).__name__ for one in _chain(error)]
    shown = clean_text(url)
    if any(_NO_LOGIN.search(name) for name in names) or (_is_refused(error) and not is_open):
        where = "set them in the environment or a profile, as the store's own tools expect"
        return StoreError(f"{shown}: no valid credentials for {place_of(url)}, {what}", f"{where}, {AGAIN}")
    if _is_refused(error):
        hint = f"check the credentials and what they may read, {AGAIN}"
        return Refused(f"{shown}: the store refuses to show it, {what}", hint, what)
    if _may_pass(error):
        hint = f"check the address and the network, {AGAIN}"
        return StoreError(f"{shown}: cannot be read, although it was tried again, {what}", hint)
    return StoreError(f"{shown}: cannot be read, {what}", f"check that the place exists, {AGAIN}")


# Listing


def list_all(root: str, pause: Pause) -> Iterator[Entry]:
    """Yield all files whose keys begin with a folder. Only for places with keys."""
    place = place_of(root)
    if scheme_of(root) == "s3":
        for page in _list_pages(root, pause):
            yield from page.files
        return
    for name, info in _must_exist(root, lambda store: store.find(_inner(root), detail=True), pause).items():
        yield _entry(_outer(place, name), info)


def list_folder(url: str, pause: Pause) -> Listing | None:
    """Return what is directly in a folder; None if there is no such folder."""
    if scheme_of(url) == "s3":
        pages = list(_list_pages(url, pause, Delimiter="/"))
        return Listing([one for page in pages for one in page.files], [one for page in pages for one in page.folders])
    place = place_of(url)
    try:
        found = ask(url, lambda store: store.ls(_inner(url), detail=True), pause)
    except (FileNotFoundError, NotADirectoryError):
        return None
    here, files, folders = _inner(url).rstrip("/"), list[Entry](), list[str]()
    for info in found:
        name = info["name"]
        if name.rstrip("/") == here and not name.endswith("/"):
            continue  # a file of this name, beside the folder
        if info["type"] == "directory":
            folders.append(_outer(place, name.rstrip("/")))
        else:
            files.append(_entry(_outer(place, name), info))
    return Listing(files, folders)


def _must_exist(root: str, act: Callable[[Any], T], pause: Pause) -> T:
    try:
        return ask(root, act, pause)
    except FileNotFoundError as error:
        raise StoreError(f"{clean_text(place_of(root))}: does not exist", "check the name of the bucket") from error


def _list_pages(root: str, pause: Pause, **how: str) -> Iterator[Listing]:
    """Yield the pages of a listing of S3. Each is asked for again by itself if it fails."""
    bucket, _, prefix = _inner(root).partition("/")
    asked = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else "", **how}
    while True:
        page = _must_exist(root, lambda store: store.call_s3("list_objects_v2", **asked), pause)
        folders = [f"s3://{bucket}/{one['Prefix'].removesuffix('/')}" for one in page.get("CommonPrefixes", ())]
        files = [_entry(f"s3://{bucket}/{one['Key']}", _S3_FILE | one) for one in page.get("Contents", ())]
        yield Listing(files, folders)
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _entry(url: str, info: Mapping[str, Any]) -> Entry:
    if info.get("islink") or info["type"] == "link":
        return Entry(url, NOTHING, "a symbolic link")
    if info["type"] != "file":
        return Entry(url, NOTHING, "not a regular file")
    return Entry(url, stat_of(info))


def stat_of(info: Mapping[str, Any]) -> Stat:
    """Return what changes with the content of a file elsewhere: its ETag, or its times.

    An ETag is hashed into negative numbers. They are older than any time, so it counts at once.
    """
    size = int(info["Size"] if "Size" in info else info["size"] or 0)
    tag = info.get("ETag") or info.get("etag") or info.get("generation")
    if tag:
        digest = hashlib.sha256(str(tag).encode()).digest()
        first, second = (int.from_bytes(digest[at : at + 8], "big") >> (64 - _RANGE_BITS) for at in (0, 8))
        return Stat(size, -first, -second, 0)
    times = (info.get(name) for name in ("mtime", "LastModified", "last_modified", "updated"))
    modified = _ns(next((one for one in times if one is not None), 0))
    changed = _ns(info.get("created", 0)) if "ino" in info else modified
    return Stat(size, modified, changed, int(info.get("ino", 0)))


def _ns(time: object) -> int:
    if isinstance(time, datetime):
        return int(time.timestamp() * 1_000_000) * 1000
    return int(time * 1_000_000_000) if isinstance(time, int | float) else 0


# Reading


class Object:
    """A file elsewhere that is open for reading. Use it with `with`; several threads may read.

    `stat` is what it was when it was opened. `check` raises ObjectChanged if it was replaced since.
    """

    def __init__(self, url: str, pause: Pause) -> None:
        self.url, self._pause, self._lock = url, pause, threading.Lock()
        self._store, self._file, self.stat = ask(url, self._open, pause)

    def __enter__(self) -> Object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except Exception:
            return

    def _open(self, store: Any) -> tuple[Any, Any, Stat]:
        path = _inner(self.url)
        if has_folders(self.url):
            info = store.info(path)
            if _entry(self.url, info).detail:
                raise FileNotFoundError(errno.ENOENT, "it is no regular file any more")
            return store, store.open(path, "rb"), stat_of(info)
        file = store.open(path, "rb", cache_type="none")
        if file.details["type"] != "file":  # only keys below it are left
            raise FileNotFoundError(errno.ENOENT, "no such object")
        return store, file, stat_of(file.details)

    def read(self, start: int, length: int) -> bytes:
        """Read a range. Raises ObjectChanged if the file is shorter by now."""
        data = ask(self.url, lambda store: self._read(store, start, length), self._pause)
        if len(data) != length:
            raise ObjectChanged
        return data

    def _read(self, store: Any, start: int, length: int) -> bytes:
        if store is not self._store:  # the connection broke, and the file with it
            raise ObjectChanged
        if hasattr(self._file, "_fetch_range"):
            return bytes(self._file._fetch_range(start, start + length))
        with self._lock:
            self._file.seek(start)
            return bytes(self._file.read(length))

    def check(self) -> None:
        """Check that the file is still as it was opened. Raises ObjectChanged, FileNotFoundError."""
        if ask(self.url, lambda store: stat_of(store.info(_inner(self.url))), self._pause) != self.stat:
            raise ObjectChanged


def split_ranges(size: int, length: int) -> Iterable[tuple[int, int]]:
    """Yield the start and length of each range of a file."""
    return ((start, min(length, size - start)) for start in range(0, size, length))
