"""Places elsewhere for tests: a folder, SFTP by Debian's `sshd`, and S3 by moto's server."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

Respond = Callable[..., Any]
App = Callable[[dict[str, Any], Respond], Iterable[bytes]]
# What a rule does with a request: answer it itself, with a status and an XML code, or None to pass it on.
Act = Callable[[], tuple[int, str] | None]
WORDS = {503: "503 Slow Down", 403: "403 Forbidden", 404: "404 Not Found", 500: "500 Internal Server Error"}


class Place(Protocol):
    """Files elsewhere, by their keys."""

    url: str
    env: dict[str, str]

    def put(self, key: str, data: bytes) -> None:
        """Write a file."""

    def delete(self, key: str) -> None:
        """Delete a file."""


class Folder:
    """A folder, by its URL."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"file://{folder}"
        self.env: dict[str, str] = {}

    def put(self, key: str, data: bytes) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, key: str) -> None:
        (self.folder / key).unlink()


class Sshd:
    """A server of SFTP on its own port, for the user of the tests. `home` is what its clients have as HOME."""

    def __init__(self, sshd: str, home: Path, folder: Path) -> None:
        self._sshd, self._home, self.folder = sshd, home, folder
        keys = home / ".ssh"
        keys.mkdir(parents=True, mode=0o700)
        for name in ("host", "id_ed25519"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(keys / "id_ed25519.pub", keys / "authorized")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{folder}"
        self.env = {"HOME": str(home), "SSH_AUTH_SOCK": ""}
        self.trust()
        self.start()

    def trust(self) -> None:
        """Let the client know the server."""
        kind, key, *_ = (self._home / ".ssh/host.pub").read_text().split()
        (self._home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        keys = self._home / ".ssh"
        settings = {
            "ListenAddress": "127.0.0.1",
            "HostKey": keys / "host",
            "AuthorizedKeysFile": keys / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "yes",
            "Subsystem": "sftp internal-sftp",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        command = [self._sshd, "-D", "-e", "-f", "none", "-p", str(self.port), *options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        for line in self._process.stderr:
            if "listening" in line:
                break
        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def stop(self) -> None:
        """Stop the server, and break all connections."""
        for process in [self._process.pid, *_list_children(self._process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()

    def put(self, key: str, data: bytes) -> None:
        Folder(self.folder).put(key, data)

    def delete(self, key: str) -> None:
        Folder(self.folder).delete(key)


def _list_children(parent: int) -> list[int]:
    """List the processes below a process: each connection has its own, in a session of its own."""
    above: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            above[int(status.parent.name)] = int(re.findall(r"^PPid:\s*(\d+)", status.read_text(), re.MULTILINE)[0])
    found = [parent]
    for process in found:
        found += [one for one, its in above.items() if its == process]
    return found[1:]


class S3Server:
    """S3 on its own port. It counts requests, and rules may answer in its place."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Silent(WSGIRequestHandler):
            protocol_version = "HTTP/1.1"

            def log(self, *_: object, **__: object) -> None:
                """Log nothing."""

        self._app: App = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.calls: list[tuple[str, str]] = []
        self.rules: list[tuple[re.Pattern[str], Act]] = []
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Silent)
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _answer(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        call = f"{environ['REQUEST_METHOD']} {environ['RAW_URI']}"
        with self._lock:
            self.calls.append((environ["REQUEST_METHOD"], environ["RAW_URI"]))
            acts = [act for pattern, act in self.rules if pattern.search(call)]
        for act in acts:
            if answer := act():
                body = f"<Error><Code>{answer[1]}</Code><Message>{answer[1]}</Message></Error>".encode()
                body = b"" if environ["REQUEST_METHOD"] == "HEAD" else body
                respond(WORDS[answer[0]], [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
        return self._app(environ, respond)

    def on(self, pattern: str, act: Act) -> None:
        """Call `act` at each request whose method and raw URI match."""
        with self._lock:
            self.rules.append((re.compile(pattern), act))

    def clear(self) -> None:
        """Remove the rules, and forget the requests."""
        with self._lock:
            self.rules.clear()
            self.calls.clear()

    def reads(self) -> list[str]:
        """List the objects that were read, or asked for one by one."""
        return [uri for method, uri in self.calls if method in ("GET", "HEAD") and "list-type=" not in uri]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Bucket:
    """A new bucket of a server."""

    def __init__(self, server: S3Server, name: str = "") -> None:
        import boto3

        self.server, self.name = server, name or f"b-{uuid.uuid4().hex[:12]}"
        self.url = f"s3://{self.name}"
        self.env = {
            "AWS_ENDPOINT_URL": server.root,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=server.root, **keys)
        self.client.create_bucket(Bucket=self.name)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def put_as_it_is(self, key: str, data: bytes) -> None:
        """Write an object whose key no URL can carry to moto's server."""
        from moto.backends import get_backend

        get_backend("s3")["123456789012"]["aws"].put_object(self.name, key, data)

    def put_in_parts(self, key: str, data: bytes) -> None:
        """Write an object whose ETag is not that of its bytes."""
        made = self.client.create_multipart_upload(Bucket=self.name, Key=key)
        where = {"Bucket": self.name, "Key": key, "UploadId": made["UploadId"]}
        part = self.client.upload_part(**where, PartNumber=1, Body=data)
        parts = [{"ETag": part["ETag"], "PartNumber": 1}]
        self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)
