"""Limits on payment: runs in a day, pages, pages of one file, and the cost."""

from __future__ import annotations

import io

import pypdf
import pytest

from support.world import check_paid_once, lose

from .conftest import Project

PNG = b"\x89PNG\r\n\x1a\n and the rest"


def make_pdf(pages: int, password: str = "") -> bytes:
    writer = pypdf.PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(10, 10)
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def limit(project: Project, *lines: str) -> None:
    project.change_spec("[limits]", "\n".join(["[limits]", *lines]))


def test_plan_and_summary_show_pages_and_their_cost(project: Project) -> None:
    limit(project, "unit_price = 0.25", "files_per_batch = 2")
    for name, content in {"a.pdf": make_pdf(3), "b.PNG": PNG, "c.txt": b"words", "d.pdf": b"%PDF-1.4 damaged"}.items():
        project.write(f"in/{name}", content)
    assert "2 runs to pay for 4 pages and 2 files without a page count, cost at least 1.50;" in project.run("plan").out
    assert project.run("plan", "--json").json["pages"] == {"known": 4, "silent": 2, "cost": 1.5}
    assert "(2 started now, 4 pages and 2 files without a page count, cost at least 1.50)" in project.apply().out
    assert "page" not in project.run("status").out
    project.write("in/a.pdf", make_pdf(2))
    assert "(1 started now, 2 pages, cost 0.50)" in project.apply().out


def test_pages_are_shown_without_a_price_where_files_tell_them(project: Project) -> None:
    project.write("in/c.txt", "words")
    assert "1 run to pay; " in project.run("plan").out
    project.write("in/a.pdf", make_pdf(1))
    assert "1 run to pay for 1 page and 1 file without a page count; " in project.run("plan").out


def test_more_pages_than_allowed_are_not_paid_for(project: Project) -> None:
    limit(project, "max_pages = 4")
    project.write("in/a.pdf", make_pdf(3))
    project.write("in/b.txt", "this counts as one page")
    assert project.apply().code == 0
    project.write("in/c.pdf", make_pdf(4))
    project.write("in/d.txt", "one more")
    outcome = project.apply()
    assert (outcome.code, "would pay for 5 pages, 4 are allowed" in outcome.err) == (2, True), outcome.err
    check_paid_once(project.fake, 2)


def test_limits_hold_for_what_is_planned_after_an_import(project: Project) -> None:
    limit(project, "max_pages = 2", "files_per_batch = 1")
    project.write("in/a.pdf", make_pdf(1))
    project.write("in/b.pdf", make_pdf(5))
    assert project.apply("--limit", "1").code == 0
    lose(project.folder, "job.state.db", "job.lock.toml")
    outcome = project.apply("--limit", "1")  # finds the run of the first file, and turns to the second
    assert (outcome.code, "would pay for 5 pages, 2 are allowed" in outcome.err) == (2, True), outcome.text
    check_paid_once(project.fake, 1)


def test_limit_of_pages_needs_the_extra(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(project, "max_pages = 4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = project.run("validate")
    assert outcome.code == 2
    assert ":7:1: max_pages needs pypdf, which is not installed" in outcome.err


@pytest.mark.parametrize(
    ("pages", "post_process", "most"), [(801, "", 800), (101, "generate_post_process_pdf = true", 100)]
)
@pytest.mark.slow
def test_file_with_too_many_pages_is_skipped_before_anything_is_paid(
    project: Project, pages: int, post_process: str, most: int
) -> None:
    project.change_spec("[limits]", f"[run]\n{post_process}\n[limits]")
    project.write("in/long.pdf", make_pdf(pages))
    project.write("in/fits.pdf", make_pdf(most))
    outcome = project.apply("--json")
    assert outcome.code == 3
    assert outcome.json["skipped"] == [
        {"path": "in/long.pdf", "reason": "too many pages", "detail": f"{pages} pages, at most {most}"}
    ]
    check_paid_once(project.fake, 1)
    project.forget_requests()
    assert (project.apply().code, project.fake.journal) == (3, [])


def test_file_that_was_run_stays_done_however_long_it_is(project: Project) -> None:
    project.write("in/a.pdf", make_pdf(101))
    assert project.apply().code == 0
    project.change_spec("[limits]", "[run]\ntags = ['x']\n[limits]")  # no change of work
    assert project.apply().code == 0


def test_runs_of_a_day_are_limited_over_all_applies(project: Project) -> None:
    limit(project, "max_runs_per_day = 2", "files_per_batch = 1")
    project.write_files(2)
    assert project.apply().code == 0
    project.write_files(1, start=5)
    outcome = project.apply()
    assert outcome.code == 2
    assert "would start 1 run after 2 in the last 24 hours, 2 are allowed" in outcome.err
    check_paid_once(project.fake, 2)
    project.fake.clock.advance(86_401)
    assert project.apply().code == 0
    check_paid_once(project.fake, 3)


def test_password_protected_file_tells_no_pages_and_is_sent(project: Project) -> None:
    project.write("in/a.pdf", make_pdf(900, password="x"))
    assert project.apply("--json").code == 0
