"""Measure the fake: 1,000 uploads of 100 KB over 32 connections, with the server in its own process.

Run by `make bench`; prints the rate, and asserts nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from queue import Empty, SimpleQueue

import requests

UPLOADS, SIZE, CONNECTIONS = 1000, 100 * 1024, 32


def upload_all(root: str) -> float:
    """Send everything, and return the seconds that it took."""
    headers = {"Authorization": "Bearer fake-bench", "Content-Type": "application/octet-stream"}
    batch = requests.post(f"{root}/v2/batches", json={"name": "bench"}, headers=headers, timeout=10).json()["id"]
    bodies = [os.urandom(SIZE) for _ in range(CONNECTIONS)]
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(UPLOADS):
        numbers.put(number)

    def work(body: bytes) -> None:
        with requests.Session() as session:
            session.headers.update(headers)
            session.trust_env = False
            while True:
                try:
                    number = numbers.get_nowait()
                except Empty:
                    return
                url = f"{root}/v2/batches/{batch}/files/{number}.bin"
                session.put(url, data=body, timeout=30).raise_for_status()

    threads = [threading.Thread(target=work, args=(body,)) for body in bodies]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def main() -> None:
    """Start the fake with a folder, measure it three times, and print."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fake_aihub", "--port", "0", "--data-dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            root = server.stdout.readline().strip()
            for _ in range(3):
                seconds = upload_all(root)
                sys.stdout.write(
                    f"{UPLOADS} uploads of {SIZE // 1024} KB in {seconds:.2f} s: {UPLOADS / seconds:.0f}/s\n"
                )
            server.terminate()


if __name__ == "__main__":
    main()
