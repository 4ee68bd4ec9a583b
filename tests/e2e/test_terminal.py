"""What a person sees on a real terminal, of tmux: sizes, colours, the question, Ctrl-C, a window that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from support.tmux import Screen
from support.waiting import wait_for

from .conftest import Project
from .test_bare_environments import COMMANDS

pytestmark = pytest.mark.slow

BARS = ("uploading", "fetching", "━")
Open = Callable[..., Screen]


@pytest.fixture
def screen(project: Project, tmux: str) -> Iterator[Open]:
    """Open a screen of a size, in the folder of the project."""
    with ExitStack() as stack:

        def open_screen(columns: int = 80, lines: int = 24) -> Screen:
            place = project.folder / "screen"
            place.mkdir()
            env = {name: value for name, value in project.env.items() if value is not None}
            return stack.enter_context(Screen(place, project.folder, env, columns, lines))

        yield open_screen


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40), (40, 12)])
def test_apply_shows_bars_while_it_works_and_leaves_only_text(
    project: Project, screen: Open, columns: int, lines: int
) -> None:
    project.write_files(3)
    project.fake.next_run(hold=True)
    shown = screen(columns, lines)
    shown.start("apply", "job.toml")
    shown.wait_for("[y/N]:")
    shown.type("y")
    wait_for(project.fake.runs)
    during = shown.wait_for("1 RUNNING")
    assert "runs" in during
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    code, text = shown.end()
    assert code == 0
    assert [bar for bar in BARS if bar in text] == [], text
    assert text.count("batch 1001 created") == 1
    assert "\n  documents  3\n" in text


def test_no_at_the_question_pays_nothing(project: Project, screen: Open) -> None:
    project.write_files(3)
    shown = screen()
    shown.start("apply", "job.toml")
    shown.wait_for("[y/N]:")
    shown.type("n")
    code, text = shown.end()
    assert (code, project.sent()) == (2, [])
    assert "[y/N]: n\nerror: " in text


@pytest.mark.parametrize("columns", [80, 40])
def test_ctrl_c_ends_in_order_and_gives_the_terminal_back(project: Project, screen: Open, columns: int) -> None:
    project.write_files(3)
    project.fake.next_run(hold=True)
    shown = screen(columns)
    shown.start("apply", "job.toml", "--yes")
    shown.wait_for("1 RUNNING")
    shown.press("C-c")
    code, text = shown.end()
    assert code == 130
    assert [bar for bar in BARS if bar in text] == [], text
    assert "interrupted after 3 files (51 bytes) sent, 1 run started" in text
    assert shown.cursor_is_visible
    shown.type("echo typed again")
    shown.wait_for("\ntyped again")


@pytest.mark.parametrize("sizes", [[(65, 24)], [(120, 40)], [(100, 10), (70, 30)]])
def test_window_that_changes_leaves_no_pieces_of_bars(
    project: Project, screen: Open, sizes: list[tuple[int, int]]
) -> None:
    text = resized(project, screen, sizes)
    assert [bar for bar in BARS if bar in text] == [], text


def test_window_that_becomes_narrower_than_the_bars_keeps_each_line_once(project: Project, screen: Open) -> None:
    text = resized(project, screen, [(20, 5), (80, 24)])
    assert max(text.count(bar) for bar in BARS[:2]) <= 2  # a terminal breaks those that it showed


def resized(project: Project, screen: Open, sizes: list[tuple[int, int]]) -> str:
    """Return what is shown after an apply on a window that had these sizes."""
    project.write_files(3)
    project.fake.next_run(hold=True)
    shown = screen()
    shown.start("apply", "job.toml", "--yes")
    shown.wait_for("1 RUNNING")
    for columns, lines in sizes:
        shown.resize(columns, lines)
        wait_for(lambda columns=columns: shown.columns == columns)
    project.fake.set_run(project.fake.runs()[0]["id"], status="COMPLETE")
    code, text = shown.end()
    assert code == 0
    for line in ("batch 1001 created", ": COMPLETE\n", "results of 3 files fetched", "  documents  3"):
        assert text.count(line) == 1, text
    return text


@pytest.mark.parametrize("off", ["NO_COLOR", "--no-color", ""])
def test_colours_can_be_switched_off(project: Project, screen: Open, off: str) -> None:
    project.write_files(3)
    project.env |= {"NO_COLOR": "1"} if off == "NO_COLOR" else {}
    shown = screen()
    code, _ = shown.run("plan", "job.toml", *["--no-color"] * (off == "--no-color"))
    assert code == 0
    assert ("\x1b[32m  + 3 files" in shown.read(colours=True)) is (off == "")


@pytest.mark.parametrize("columns", [80, 40])
def test_each_command_on_a_terminal(project: Project, screen: Open, columns: int) -> None:
    """It ends as it does anywhere else, asks where it must, and leaves no bars behind."""
    project.write_files(2)
    shown, codes = screen(columns, 24), dict[str, int]()
    questions = {
        "apply job.toml": (("[y/N]:", "y"),),
        "destroy job.toml": (("[y/N]:", "n"),),
        "init bills --app-name Bills": (("Which files?", ""), ("Whose app", ""), ("Which context", "")),
    }
    for line in COMMANDS:
        shown.clear()
        shown.start(*line.split())
        for question, answer in questions.get(line, ()):
            shown.wait_for(question)
            shown.type(answer)
        codes[line], text = shown.end()
        assert "Traceback" not in text, text
        assert [bar for bar in BARS if bar in text] == [], text
    assert codes == COMMANDS
