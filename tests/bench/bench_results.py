"""Measure writing results: 1,000,000 documents of 20 fields, from raw pages made here.

Each format is written in a process of its own. Run by `make bench`, or with how many documents, how many in a file,
and which formats; prints, and asserts nothing.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aihub_runner.results.documents import update_documents
from aihub_runner.results.folder import update_tables
from aihub_runner.results.reader import find_results
from aihub_runner.state.store import State
from support.made import goal, open_state, record_run, scan_of

FIELDS, FILES_IN_RUN, FILES_IN_PAGE = 20, 1000, 100
FORMATS = ["jsonl", "csv", "parquet"]
CLASSES = ["Invoice", "Receipt", "Bank Statement"]


def make_document(number: int) -> dict[str, object]:
    fields = [
        {
            "field_name": f"field_{place:02}",
            "value": f"{number * 31 + place * 7919:010} of {number % 997}",
            "type": "TEXT",
            "confidence": {"model": (number * 7 + place) % 1000 / 1000, "ocr": 0.987},
        }
        for place in range(FIELDS)
    ]
    return {"class_name": CLASSES[number % 3], "page_numbers": [0, 1], "fields": fields}


def make_pages(first: int, files: int, each: int) -> Iterator[bytes]:
    """Make the pages of a run whose files begin with a number."""
    for start in range(first, first + files, FILES_IN_PAGE):
        answers = [
            {
                "original_file_name": f"{file:07}.pdf",
                "documents": [make_document(file * each + n) for n in range(each)],
            }
            for file in range(start, min(start + FILES_IN_PAGE, first + files))
        ]
        yield json.dumps({"files": answers, "has_more": True}).encode()


def make(folder: Path, documents: int, each: int) -> None:
    """Make raw pages and a state that lists them."""
    files = documents // each
    with closing(open_state(folder)) as state:
        for number, first in enumerate(range(0, files, FILES_IN_RUN), 1):
            pages = make_pages(first, min(FILES_IN_RUN, files - first), each)
            record_run(state, folder, f"run-{number:05}", pages, number=number)


def render_cost(who: int) -> str:
    """Render processor time and memory of this process, or of those that it started."""
    used = resource.getrusage(who)
    return f"CPU {used.ru_utime + used.ru_stime:.1f} s and {used.ru_maxrss / 1024:.0f} MB"


def write(folder: Path, formats: list[str]) -> None:
    """Write documents.jsonl and the tables as an apply does, and print time and memory."""
    begun = time.perf_counter()
    with closing(State(folder / "job.state.db")) as state:
        shards = state.load_shards()
        scan = scan_of(member for shard in shards for member in shard.members)
        found = find_results(state, shards, scan, goal(), folder)
        ready = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        update_documents(found)
        documents_s = time.perf_counter() - begun
        refused = update_tables(found, formats)
    seconds, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sizes = {ending: sum(path.stat().st_size for path in folder.rglob(f"*.{ending}")) / 1e6 for ending in formats}
    sys.stdout.write(
        f"{'+'.join(formats)}: {seconds:.0f} s ({documents_s:.0f} s of it documents.jsonl), peak {peak:.0f} MB "
        f"({ready:.0f} MB before the first page), {render_cost(resource.RUSAGE_SELF)}, "
        f"helper {render_cost(resource.RUSAGE_CHILDREN)}, "
        + ", ".join(f"{ending} {size:,.0f} MB" for ending, size in sizes.items())
        + "".join(f"; refused {error.message}" for error in refused)
        + "\n"
    )


def main(documents: int = 1_000_000, each: int = 10, *formats: str) -> None:
    """Make results, and write them in each format."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for task in (["make", documents, each], *(["write", format] for format in formats or FORMATS)):
            begun = time.perf_counter()
            command = [sys.executable, __file__, str(task[0]), folder, *map(str, task[1:])]
            subprocess.run(command, check=True)
            if task[0] == "make":
                raw = sum(path.stat().st_size for path in Path(folder).rglob("*.json")) / 1e6
                sys.stdout.write(
                    f"{documents:,} documents of {FIELDS} fields, {each} in a file: {raw:,.0f} MB of raw pages, "
                    f"made in {time.perf_counter() - begun:.0f} s\n"
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["write"]:
        write(Path(sys.argv[2]), sys.argv[3].split("+"))
    else:
        main(*map(int, sys.argv[1:3]), *sys.argv[3:])
