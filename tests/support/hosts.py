"""Hosts on this machine: network namespaces with addresses of their own, on a bridge. Needs root, and `ip`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

BRIDGE, NETWORK = "br-aihub", "10.77.0"
FORWARD = Path(__file__).with_name("forward.py")


def ip(*args: str, check: bool = True) -> None:
    subprocess.run(["ip", *args], check=check, capture_output=True, text=True)


def can_make_hosts() -> bool:
    """Whether this process may make namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    try:
        ip("netns", "add", "aihub-try")
        ip("netns", "del", "aihub-try")
    except subprocess.CalledProcessError:
        return False
    return True


class Hosts:
    """Some hosts, numbered from 0. This machine is at `gateway` for them."""

    gateway = f"{NETWORK}.1"

    def __init__(self, count: int) -> None:
        self.count = count

    def name(self, number: int) -> str:
        return f"aihub-{number}"

    def inside(self, number: int) -> list[str]:
        """What goes before a command, so that it runs on a host."""
        return ["ip", "netns", "exec", self.name(number)]

    def __enter__(self) -> Hosts:
        self._remove()
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{self.gateway}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for number in range(self.count):
            name, near, far = self.name(number), f"aihub-n{number}", f"aihub-f{number}"
            ip("netns", "add", name)
            ip("link", "add", near, "type", "veth", "peer", "name", far)
            ip("link", "set", near, "master", BRIDGE, "up")
            ip("link", "set", far, "netns", name)
            ip("-n", name, "addr", "add", f"{NETWORK}.{10 + number}/24", "dev", far)
            ip("-n", name, "link", "set", far, "up")
            ip("-n", name, "link", "set", "lo", "up")
        return self

    def cut(self, number: int) -> None:
        """Drop every packet to and from a host, without a word to anybody."""
        ip("link", "set", f"aihub-n{number}", "nomaster")

    def join(self, number: int) -> None:
        """Let packets through again."""
        ip("link", "set", f"aihub-n{number}", "master", BRIDGE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for number in range(self.count):
            ip("netns", "del", self.name(number), check=False)
            ip("link", "del", f"aihub-n{number}", check=False)
        ip("link", "del", BRIDGE, check=False)


@contextmanager
def forwarded(hosts: Hosts | None, port: int) -> Iterator[None]:
    """Let each host reach the fake under its own loopback address."""
    with ExitStack() as stack:
        for number in range(hosts.count if hosts else 0):
            assert hosts
            for before, listen, to in (
                ([], (hosts.gateway, str(port + 1)), ("127.0.0.1", str(port))),
                (hosts.inside(number), ("127.0.0.1", str(port)), (hosts.gateway, str(port + 1))),
            ):
                if before or number == 0:
                    process = subprocess.Popen([*before, sys.executable, str(FORWARD), *listen, *to])
                    stack.callback(process.kill)
        yield
