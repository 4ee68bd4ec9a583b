"""Measure the report of 50,000 documents of 5 fields: the size of the page, and the time to write it.

Run by `make bench`; prints, and asserts nothing.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from support.made_results import MadeFile, make_documents, make_job, make_results

DOCUMENTS = 50_000


def main() -> None:
    """Make results, report on them, and print."""

    def make(number: int) -> MadeFile:
        return MadeFile(f"in/{number:06}-invoice.pdf", make_documents(number), None if number else b"one")

    with tempfile.TemporaryDirectory() as folder:
        job = make_job(Path(folder))
        make_results(job, DOCUMENTS, make)
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "aihub_runner", "report", str(job.spec_path), "--fake"], check=True)
        seconds = time.perf_counter() - begun
        size = (job.results_path / "report.html").stat().st_size / 1e6
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        sys.stdout.write(f"{DOCUMENTS} documents: {size:.1f} MB in {seconds:.1f} s, {memory:.0f} MB of memory\n")


if __name__ == "__main__":
    main()
