"""The pages of `report` and `diff` in a real browser: complete, self-contained, and safe."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from support.browser import find_barriers, launch
from support.made_results import MadeFile, make_documents, make_job, make_results

from .conftest import Project

pytestmark = pytest.mark.slow  # a browser starts

HOSTILE = [
    "<script>window.acted = 1</script>",
    "</script><script>window.acted = 1</script>",
    "<!--<script>",
    "--><img src=x onerror='window.acted = 1'>",
    "javascript:window.acted=1",
    '" onmouseover="window.acted=1" x=\'',
    "]]></style><svg onload=window.acted=1>",
    "\u202etxt.exe\u2066\u200f",
    "line\u2028and\u2029paragraph\r\n\x00\x1b[31m\x7f\x9b",
    "\ud800 alone",
    "&lt;b&gt; &amp; {{7*7}} ${7*7}",
    "long " * 200_000,
]
COMPARE = ("diff", "--version", "", "--version", "", "--html")
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    with launch(chromium) as browser:
        yield browser


@dataclass
class Shown:
    """An open page, and everything that it said or asked for."""

    page: Any
    told: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def rows(self, section: str) -> list[str]:
        return self.page.locator(f"#{section} tbody tr td.first").all_inner_texts()


def show(browser: Any, path: Path, **context: Any) -> Shown:
    shown = Shown(browser.new_context(**context).new_page())
    shown.page.set_default_timeout(10_000)
    shown.page.on("console", lambda message: shown.told.append(message.text))
    shown.page.on("pageerror", lambda error: shown.told.append(str(error)))
    shown.page.on("dialog", lambda dialog: shown.told.append(dialog.message))
    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.goto(path.as_uri())
    return shown


def report(project: Project, *args: str) -> Path:
    outcome = project.run("report", "--fake", *args)
    assert outcome.code == 0, outcome.text
    return project.folder / "job.fake" / "results" / "report.html"


@pytest.fixture
def plain(project: Project) -> Project:
    job = make_job(project.folder)
    make_results(
        job, 240, lambda n: MadeFile(f"in/{n:03}.txt", make_documents(n), b"%d" % n if n < 3 else None), per=80
    )
    project.write("in/empty.txt", b"")
    return project


@pytest.fixture
def hostile(project: Project) -> Project:
    """A job whose paths, classes, names, values and messages are all hostile, in two versions."""

    def documents(number: int, turn: int) -> list[dict[str, Any]]:
        text = HOSTILE[(number + turn) % len(HOSTILE)]
        made = {"field_name": text, "value": text, "type": text, "error_msg": text, "confidence": {"model": 0.5}}
        odd = {"field_name": f"{number}", "value": {"a": [text]}, "confidence": {"model": text}, "error_msg": None}
        return [{"class_name": text, "page_numbers": [1], "fields": [made, odd, made]}]

    def file(number: int, turn: int) -> MadeFile:
        name = HOSTILE[number].encode("utf-8", "replace").decode().replace("\0", "")[:60]
        gone = "\n" in name  # such a file is skipped where it is found
        return MadeFile(f"in/{number} #?%41{name}.txt", documents(number, turn), None if gone else b"%d" % number)

    for turn, version in enumerate(("1", "2")):
        job = make_job(project.folder, version)
        run = HOSTILE[turn].replace("/", "")
        make_results(job, len(HOSTILE), lambda n, turn=turn: file(n, turn), run=lambda _, run=run: run)
    project.write("in/<img src=x onerror=window.acted=1>\x1b[31m\u202e.txt", b"")
    return project


def test_report_opens_from_disk_and_asks_for_nothing(plain: Project, browser: Any) -> None:
    path = report(plain)
    shown = show(browser, path)
    assert (shown.told, shown.requests) == ([], [path.as_uri()])
    assert shown.rows("documents")[:2] == ["in/000.txt", "in/001.txt"]
    assert shown.page.locator("#problems").inner_text().count("in/empty.txt") == 1
    assert shown.page.locator("figure svg").count() == 7  # timeline, classes, five fields
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_has_no_barriers(plain: Project, browser: Any, scheme: str) -> None:
    page = show(browser, report(plain), bypass_csp=True, color_scheme=scheme).page
    page.locator("#documents button[aria-expanded]").first.click()
    assert find_barriers(page) == []
    unnamed = "all => all.filter(one => !one.caption && !one.ariaLabel).length"
    assert page.locator("table").evaluate_all(unnamed) == 0
    names = page.locator("#documents button[aria-expanded]").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert len(set(names)) == len(names) == 25
    tools = page.locator(".tools button").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert len(set(tools)) == len(tools)


def test_report_is_searched_sorted_and_turned_over(plain: Project, browser: Any) -> None:
    page = (shown := show(browser, report(plain))).page
    documents = page.locator("#documents")
    assert len(shown.rows("documents")) == 25
    documents.get_by_role("button", name="Next").click()
    assert shown.rows("documents")[0] == "in/025.txt"
    documents.get_by_role("button", name="File").click()
    assert shown.rows("documents")[0] == "in/000.txt"
    documents.get_by_role("button", name="File").click()
    assert shown.rows("documents")[0] == "in/239.txt"
    documents.get_by_role("button", name="Failed").click()
    assert shown.rows("documents")[:2] == ["in/099.txt", "in/199.txt"]
    documents.get_by_role("searchbox").fill("in/19 receipt")
    assert {text[:5] for text in shown.rows("documents")} == {"in/19"}
    assert set(documents.locator("td[data-label=Class]").all_inner_texts()) == {"Receipt"}
    documents.locator("button[aria-expanded]").first.click()
    assert "due_date" in documents.locator("tr.detail").inner_text()
    page.locator("#look input[type=number]").fill("0")
    assert sorted(shown.rows("look")) == ["in/099.txt", "in/199.txt"]
    assert shown.told == []


def test_print_says_how_many_rows_of_how_many_it_has(plain: Project, browser: Any) -> None:
    page = (shown := show(browser, report(plain))).page
    printed = page.locator("#documents .printed")
    assert not printed.is_visible()
    page.emulate_media(media="print")
    assert printed.inner_text() == "25 of 240 documents"
    page.emulate_media(media="screen")
    page.locator("#documents").get_by_role("button", name="Next").click()
    page.emulate_media(media="print")
    assert printed.inner_text() == "26\u201350 of 240 documents"
    look = page.locator("#look .printed").inner_text()
    assert look.startswith("25 of ")
    assert look.endswith("documents that need review")
    assert shown.told == []


def test_report_follows_the_colour_scheme_and_fits_a_phone(plain: Project, browser: Any) -> None:
    path, colours = report(plain), set()
    for scheme in ("light", "dark"):
        shown = show(browser, path, color_scheme=scheme, viewport={"width": 375, "height": 800})
        body = "getComputedStyle(document.body)"
        bar = "getComputedStyle(document.querySelector('.histograms svg .bar')).fill"
        colours.add(tuple(shown.page.evaluate(f"[{body}.color, {body}.backgroundColor, {bar}]")))
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 375
        assert shown.told == []
    first, second = colours
    assert not set(first) & set(second)


def test_links_lead_to_the_files(hostile: Project, browser: Any) -> None:
    shown = show(browser, report(hostile))
    links = shown.page.locator("#documents td.first a")
    found = {links.nth(index).evaluate("link => link.href") for index in range(links.count())}
    assert {urlsplit(link).scheme for link in found} == {"file"}
    paths = {os.path.realpath(unquote(urlsplit(link).path)) for link in found}
    assert len(paths) == len(HOSTILE) - 1
    assert all(Path(path).read_bytes().isdigit() for path in paths)


def test_nothing_hostile_acts(hostile: Project, browser: Any) -> None:
    page = hostile.folder / "diff.html"
    outcome = hostile.run("diff", "--fake", "--version", "1", "--version", "2", "--html", str(page))
    assert outcome.code == 0, outcome.text
    for path in (report(hostile), page):
        shown = show(browser, path)
        for toggle in shown.page.locator("button[aria-expanded]").all():
            toggle.click()
        assert shown.page.locator("tbody td.first").count() >= len(HOSTILE)
        assert (shown.told, shown.requests) == ([], [path.as_uri()])
        assert shown.page.evaluate("window.acted") is None
        assert shown.page.locator("script").count() == 2
        assert shown.page.locator("img, iframe, [onload], [onerror], [onmouseover], [style]").count() == 0
        assert not ACTING.search(shown.page.locator("body").inner_text())
        assert path.stat().st_size < 2_000_000


def test_policy_stops_what_would_be_put_into_the_page(plain: Project, browser: Any) -> None:
    page = (shown := show(browser, report(plain))).page
    page.evaluate(
        "root => { const one = document.createElement('script'); one.textContent = 'window.acted = 1';"
        " const two = new Image(); two.src = root; document.body.append(one, two);"
        " return new Promise(done => { two.onerror = done; }).then(() => 1); }",
        plain.fake.root,
    )
    assert page.evaluate("window.acted") is None
    assert any("Content Security Policy" in text for text in shown.told)
    assert plain.fake.journal == []


@pytest.mark.slow
def test_report_stays_below_15_mb_whatever_there_is_and_says_what_is_left_out(project: Project) -> None:
    def make(number: int) -> MadeFile:
        fields = [one | {"value": "&" * 200} for one in 3 * make_documents(number, 10)[0]["fields"]]
        fields = [one | {"field_name": f"{number % 40}{n}" + "'" * 90} for n, one in enumerate(fields)]
        fields[0]["error_msg"] = "<" * 200
        document = {"class_name": f"{number}" + "<" * 90, "page_numbers": [1], "fields": fields}
        return MadeFile(f"in/{number}/" + "&" * 500 + ".txt", [document])

    make_results(make_job(project.folder), 4000, make, run=lambda number: f"{number}" + "<" * 5000, per=100)
    for number in range(800):
        project.write(f"in/{number}" + "&" * 200 + ".txt", b"")
    page = report(project)
    assert 14_000_000 < page.stat().st_size < 15_000_000
    text = page.read_text()
    for told in ("earlier runs left out", "more are not listed here", "documents are left out", "The fields of"):
        assert told in text


def test_report_of_what_was_never_applied_is_refused(project: Project) -> None:
    project.write_files(1)
    outcome = project.run("report")
    assert outcome.code == 2
    assert "has no results yet" in outcome.err


def test_report_by_the_command_line_sends_nothing(project: Project) -> None:
    project.write_files(2)
    project.apply()
    project.forget_requests()
    outcome = project.run("report", "--json", "--output", str(project.folder / "page.html"))
    assert outcome.code == 0
    assert outcome.json["documents"] == 2
    assert set(outcome.json["phases_s"]) == {"upload", "wait", "run", "fetch"}
    assert (project.folder / "page.html").stat().st_mode & 0o777 == 0o600
    assert project.fake.journal == []


@pytest.mark.parametrize("output", ["in/page.html", "in/00000.txt", "job.toml", "job.state.db", "./in/../in/x/y.html"])
@pytest.mark.parametrize("command", [("report", "--output"), ("results", "--format", "csv", "--output"), COMPARE])
def test_page_is_not_written_where_it_would_be_sent_or_do_harm(
    project: Project, command: tuple[str, ...], output: str
) -> None:
    project.write_files(1)
    project.apply()
    before = {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()}
    outcome = project.run(*command, output)
    assert outcome.code == 2
    assert f"error: {output}: " in outcome.err or "x/y.html" in outcome.err
    assert {path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["status", "plan", "apply", "report"])
def test_names_of_files_do_not_act_on_the_terminal(project: Project, command: str) -> None:
    project.write("in/\x1b[31m\u202e\x9bred.txt", b"")
    project.write("in/fine\x1b]0;title\x07.txt", b"fine")
    project.apply()
    outcome = project.run(command)
    assert not ACTING.search(outcome.text.replace("\n", ""))
    assert r"\x1b" in outcome.text or command == "report"
