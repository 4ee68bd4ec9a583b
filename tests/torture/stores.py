"""5,000 objects in S3, with names that hurt: the results are those from disk, while the store fails now and then.

Run it by `make torture`. It prints what it found, and exits with 1 if anything is wrong.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from fake_aihub import FakeAIHub
from support.stores import Bucket, S3Server
from support.world import check_paid_once

OBJECTS = 5_000
NAMES = (
    "{:05}.txt",
    "a b {:05}.txt",
    "a+b%2F{:05}.txt",
    "\u00fc{:05}.txt",
    "CASE{:05}.txt",
    "case{:05}.txt",
    "d/{:05}.txt",
)
SPEC = """\
name = "job"
files = "{files}"
app_name = "A"
context = "{context}"
[limits]
settle_s = 0.2
poll_min_s = 0.01
poll_max_s = 0.1
"""
OVERLOADED = ((503, "SlowDown"), (500, "InternalError"))
TROUBLE = 0.005  # of all requests
REFUSED = (3_000, 11_000)  # the numbers of requests
MOST_APPLIES = 4


class Job:
    """A spec in a folder, and applies of it in processes of their own."""

    def __init__(self, folder: Path, files: str, context: str, env: dict[str, str], *allowed: str) -> None:
        self.folder, self._env, self._allowed = folder, env, allowed
        folder.mkdir(exist_ok=True)
        (folder / "job.toml").write_text(SPEC.format(files=files, context=context))

    def apply(self) -> int:
        """Apply, and return the exit code."""
        command = [sys.executable, "-m", "aihub_runner", "apply", "job.toml", "--yes", "--quiet", *self._allowed]
        done = subprocess.run(command, cwd=self.folder, env=os.environ | self._env, capture_output=True, text=True)
        self.output = done.stdout + done.stderr
        return done.returncode

    def read(self, prefix: str) -> dict[str, Any]:
        """Return the results by path below a prefix, without what differs each time."""
        lines = map(json.loads, (self.folder / "results/job/documents.jsonl").read_text().splitlines())
        return {line["path"].removeprefix(prefix): [line["sha256"], line["fields"]] for line in lines}


class Trouble:
    """A store that is overloaded now and then, and twice refuses what it showed before."""

    def __init__(self) -> None:
        self._chance, self._requests = random.Random(1), itertools.count(1)

    def answer(self) -> tuple[int, str] | None:
        """Return how to answer a request; None to answer it well."""
        if next(self._requests) in REFUSED:
            return 403, "AccessDenied"
        return self._chance.choice(OVERLOADED) if self._chance.random() < TROUBLE else None


def fill(bucket: Bucket, folder: Path) -> None:
    """Write the same files to both."""
    for number in range(OBJECTS):
        key, data = f"in/{NAMES[number % len(NAMES)].format(number // 2)}", f"document {number}".encode()
        bucket.put_as_it_is(key, data)
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def main() -> int:
    """Apply from disk, then from the store with trouble, and compare."""
    place, server = Path(tempfile.mkdtemp(prefix="torture-")), S3Server()
    begun = time.monotonic()
    try:
        with FakeAIHub(run_seconds=0) as fake:
            env = {"AIHUB_API_KEY": "fake-torture", "AIHUB_API_ROOT": fake.root}
            bucket = Bucket(server)
            fill(bucket, place / "disk")
            disk = Job(place / "disk", "in/**/*.txt", "disk", env)
            assert disk.apply() == 0, disk.output
            store = Job(place / "store", f"{bucket.url}/**/*.txt", "s3", env | bucket.env, "--allow-remote", bucket.url)
            trouble = Trouble()
            server.on("(GET|HEAD) ", trouble.answer)
            codes = [store.apply()]
            while codes[-1] and len(codes) < MOST_APPLIES:
                codes.append(store.apply())
            assert set(codes) == {0, 4}, (codes, store.output)
            assert codes[-1] == 0, (codes, store.output)
            with redirect_stdout(StringIO()):
                check_paid_once(fake, 2 * OBJECTS)
            results = store.read(f"{bucket.url}/")
            assert len(results) == OBJECTS
            assert results == disk.read(""), "the results differ from those from disk"
            server.clear()
            fake.clear_journal()
            assert store.apply() == 0, store.output
            assert (server.reads(), list(fake.journal)) == ([], []), (
                "an apply with nothing to do read or sent something"
            )
    finally:
        server.close()
        shutil.rmtree(place, ignore_errors=True)
    took_s = time.monotonic() - begun
    sys.stdout.write(f"{OBJECTS} objects, exit codes {codes}, {took_s:.0f} s: as from disk, each paid once\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
