"""Take the pictures in docs/pictures from a real run: the report, the fake's page, and a session on a terminal.

The fake's clock stands still, and its ids come from a seed, so that the same code gives nearly the same pictures.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aihub.exceptions import ApiException
from click.testing import CliRunner
from freezegun import freeze_time
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from aihub_runner.cli.main import cli
from fake_aihub.api.app import create_app
from fake_aihub.api.service import make_service
from fake_aihub.server.embedded import Background
from fake_aihub.server.handle import Handle
from support.browser import launch
from support.proof import open_sdk
from support.tmux import Screen

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
BEGUN = "2026-03-31T09:00:00Z"
READ = "2026-03-31 09:05:00"  # when the report is written
WIDE, NARROW, HIGH = 1280, 1000, 900
COLUMNS, LINES = 100, 40
SPEC = """\
name = "invoices"
files = "invoices/*"
app_name = "Invoice Extraction"
owner = "instabase"
context = "acme"
[results]
include = ["confidence"]
[limits]
parallel_uploads = 1
files_per_batch = 4
"""


@contextmanager
def serving() -> Iterator[tuple[Handle, str]]:
    """Serve a fake whose clock stands still."""
    service = make_service(clock=BEGUN, seed=7)
    with Background(create_app(service)) as background:
        yield Handle(service), background.root
    service.world.close()


def call(folder: Path, root: str, *words: str) -> None:
    """Run a command in a folder, against a fake."""
    environment = {"AIHUB_API_ROOT": root, "AIHUB_API_KEY": "fake-me"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(cli, words, env=environment)
    finally:
        os.chdir(before)
    assert done.exit_code in (0, 6), done.output


def take_report(browser: Any, folder: Path, output: Path) -> None:
    """Apply in three steps, with time between them, and show the report."""
    with serving() as (fake, root):
        fake.next_run(times=0, after_s=40)
        for step in range(3):
            call(folder, root, "apply", "invoices.aihub.toml", "--yes", "--no-wait")
            fake.clock.advance(25 + 10 * step)
            if step == 1:
                shutil.copy(folder / "invoices" / "kestrel.csv", folder / "invoices" / "osprey.csv")
        fake.clock.advance(60)
        call(folder, root, "apply", "invoices.aihub.toml", "--yes")
        with freeze_time(READ):
            call(folder, root, "report", "invoices.aihub.toml")
    page = browser.new_page(viewport={"width": NARROW, "height": HIGH}, color_scheme="light")
    page.goto((folder / "results" / "invoices" / "report.html").as_uri())
    end = page.locator("#classes").bounding_box()
    page.set_viewport_size({"width": NARROW, "height": int(end["y"] + end["height"]) + 20})
    page.screenshot(path=output)
    page.close()


def take_page(browser: Any, folder: Path, output: Path) -> None:
    """Let the runner and the vendor's SDK work, and show the fake's page."""
    with serving() as (fake, root):
        page = browser.new_page(viewport={"width": WIDE, "height": HIGH}, color_scheme="light")
        page.goto(f"{root.removesuffix('/api')}/_fake/")
        page.wait_for_selector("#link[data-open]")
        fake.faults(operation="addFileToBatch", nth=3, do="status", status=503)
        call(folder, root, "apply", "invoices.aihub.toml", "--yes")
        fake.next_run(hold=True)
        fake.faults(operation="getRunStatus", do="status", status=429, headers={"Retry-After": "2"})
        with open_sdk(root) as sdk:
            batch = sdk.batches.create(name="script")
            for _ in range(2):
                sdk.batches.add_file(batch.id, file_name="invoice.pdf", file=io.BytesIO(b"%PDF-1.4"))
            run = sdk.apps.runs.create(app_name="Invoice Extraction", owner="instabase", batch_id=batch.id)
            with suppress(ApiException):
                sdk.apps.runs.status(run.id)
        fake.faults(operation="listRuns", do="lag", seconds=60)
        page.locator("#runs tbody tr", has_text="RUNNING").wait_for()
        page.locator("#ledger tbody tr.bad").wait_for()
        page.locator("#faults tbody tr", has_text="lag").wait_for()
        page.screenshot(path=output, full_page=True)
        page.close()


def take_session(folder: Path, output: Path) -> None:
    """Plan, apply, and apply again on a terminal."""
    with tempfile.TemporaryDirectory() as place, Screen(Path(place), folder, {}, COLUMNS, LINES) as screen:
        screen.type(f"PS1='$ ' PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; clear")
        for command, last in (
            ("plan invoices.aihub.toml --fake", "unchanged"),
            ("apply invoices.aihub.toml --fake --yes", "results  "),
            ("apply invoices.aihub.toml --fake --yes", "nothing to do"),
        ):
            screen.type(f"runner {command}")
            screen.wait_for(last)
            screen.wait_for_last("$")
        shown = screen.read(colours=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(shown.rpartition("$")[0].strip("\n")))
    # These parts name sites.
    form = re.sub(
        r"@font-face \{\{.*?\}\}\s*|<!--.*?-->\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL
    )  # they name sites
    output.write_text(console.export_svg(title="runner", code_format=form), encoding="utf-8")


def take_all(output: Path, chromium: str) -> None:
    """Take all pictures into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    with launch(chromium) as browser:
        for name, take in (("report.png", take_report), ("fake.png", take_page)):
            with tempfile.TemporaryDirectory() as made:
                take(browser, copy_examples(Path(made), SPEC), output / name)
    with tempfile.TemporaryDirectory() as made:
        take_session(copy_examples(Path(made), (SPECS / "invoices.aihub.toml").read_text()), output / "session.svg")


def copy_examples(folder: Path, spec: str) -> Path:
    """Copy the example documents into a folder, with a spec."""
    shutil.copytree(SPECS / "invoices", folder / "invoices")
    (folder / "invoices.aihub.toml").write_text(spec, encoding="utf-8")
    return folder


if __name__ == "__main__":
    found = shutil.which("chromium")
    if not (found and shutil.which("tmux")):
        raise SystemExit("error: chromium or tmux is missing; on Debian or Ubuntu: apt-get install chromium tmux")
    take_all(Path(sys.argv[1]), found)
