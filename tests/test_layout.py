"""The architecture: packages import only those before them, there are no cycles, and modules stay small."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {"aihub_runner": ROOT / "runner", "fake_aihub": ROOT / "fake_server"}
# Packages and the modules beside them: each imports those before it, and itself. `certify` judges the fake from
# outside; all that it imports is itself, the catalogue of behaviours, and the test of addresses.
ORDER = {
    "aihub_runner": (
        *("errors", "text", "system", "model", "files", "outfile", "version"),
        *("spec", "environment", "settings", "sources", "plan", "state", "aihub", "results", "report"),
        *("codegen", "apply", "__init__", "cli", "__main__"),
    ),
    "fake_aihub": (
        *(
            "catalogue",
            "addresses",
            "redact",
            "files",
            "contract",
            "world",
            "extraction",
            "controls",
            "api",
            "certify",
            "server",
        ),
        *("pytest_plugin", "docs", "__init__", "__main__"),
    ),
}
OUTSIDE = {"certify": {"certify", "catalogue", "addresses"}}
# The fake is embedded in one place only.
CROSSING = {("aihub_runner.cli.options", "fake_aihub")}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 50


def paths(package: str) -> list[Path]:
    return sorted((SOURCES[package] / package).rglob("*.py"))


def name_of(path: Path) -> str:
    """The name of a module, such as `aihub_runner.spec.model`; of a package, that of its `__init__.py`."""
    package = next(package for package, source in SOURCES.items() if path.is_relative_to(source))
    return ".".join(path.relative_to(SOURCES[package]).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for package in SOURCES for path in paths(package)}


@functools.cache
def parsed(name: str) -> ast.Module:
    """The syntax tree of a module. No test changes it."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imported(name: str, *, types: bool = True) -> Iterator[str]:
    """The modules of this project that one imports, also in functions, and with `types` also for types only."""
    home = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    hidden = set[ast.AST]()
    for block in [] if types else ast.walk(parsed(name)):
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            hidden |= {node for one in block.body for node in ast.walk(one)}
    for node in ast.walk(parsed(name)):
        if node in hidden:
            continue
        if isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), home)
            names = [f"{module}.{alias.name}" for alias in node.names]
            yield from {one if one in MODULES else module for one in names} & MODULES.keys()
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & MODULES.keys()


@functools.cache
def imports() -> dict[str, set[str]]:
    """What each module imports. Not at the start, since each process that runs tests collects this file."""
    return {name: set(imported(name)) for name in MODULES}


def room_of(name: str) -> tuple[str, str]:
    """The package of a module, and its subpackage, or the module itself if it is in none."""
    package, _, rest = name.partition(".")
    return package, rest.split(".")[0] or "__init__"


@pytest.mark.slow  # `make check` runs it
def test_packages_import_only_those_before_them() -> None:
    for name, others in imports().items():
        package, room = room_of(name)
        order = ORDER[package]
        assert room in order, f"{name} has no place in the order of packages"
        allowed = OUTSIDE.get(room) or {*order[: order.index(room) + 1]}
        wrong = [other for other in others if room_of(other)[0] == package and room_of(other)[1] not in allowed]
        assert wrong == [], f"{name} imports {wrong}"


@pytest.mark.slow
def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: set(imported(name, types=False)) for name in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.slow
def test_packages_import_each_other_only_where_the_fake_is_embedded() -> None:
    pairs = {(name, other) for name, others in imports().items() for other in others}
    assert {pair for pair in pairs if room_of(pair[0])[0] != room_of(pair[1])[0]} == CROSSING


@pytest.mark.slow  # `make check` runs it
def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    declared = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", one)[0]).lower() for one in asked}  # type: ignore[index]
    declared.add("pytest")  # loads the fake's plugin, and not the other way round
    owners = packages_distributions()
    for name in MODULES:
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for top in {one.partition(".")[0] for one in names} - sys.stdlib_module_names - SOURCES.keys():
                owner = {re.sub(r"[-_.]+", "-", one).lower() for one in owners[top]}
                assert owner & declared, f"{name} imports {top}, which pyproject.toml does not declare"


def test_every_folder_is_a_package_and_every_other_file_is_installed_with_one() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert [ROOT / place for place in settings["packages"]["find"]["where"]] == list(SOURCES.values())
    for package, source in SOURCES.items():
        home = source / package
        assert [path for path in source.rglob("*.py") if not path.is_relative_to(home)] == []
        for path in home.rglob("*"):
            if path.suffix == ".py":
                assert (path.parent / "__init__.py").exists(), f"{path.parent} would not be installed"
            elif path.is_file() and path.suffix != ".pyc":
                patterns = settings["package-data"][package]
                assert any(fnmatch(path.relative_to(home).as_posix(), one) for one in patterns), path


def test_modules_stay_readable() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (*MODULES.values(), *(ROOT / "tests").rglob("*.py"))}
    assert [path for path, text in texts.items() if text.count("\n") > MAX_FILE_LINES] == []


@pytest.mark.slow
def test_functions_stay_readable() -> None:
    for name in MODULES:
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= MAX_FUNCTION_LINES, f"{name}: {node.name} has {length} lines"


@pytest.mark.parametrize("package", SOURCES)
def test_architecture_shows_the_tree_as_it_is_on_the_disk(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    [tree] = re.findall(rf"^```text\n{package}/\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    shown, folders = set(), [package]
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()  # type: ignore[union-attr]
        folders = [*folders[: len(indent) // 2], name.removesuffix("/")]
        if not name.endswith("/"):
            shown.add("/".join(folders))
    home = SOURCES[package] / package
    there = {path.relative_to(home.parent).as_posix() for path in home.rglob("*") if path.suffix != ".pyc"}
    there = {path for path in there if (home.parent / path).is_file() and not path.endswith("__init__.py")}
    assert shown == there - {f"{package}/py.typed"}


def test_architecture_names_functions_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    [part] = re.findall(r"^## Where is …\?$(.*?)^## ", text, re.DOTALL | re.MULTILINE)
    for home, rows in zip(SOURCES.items(), part.strip().split("\n\n"), strict=True):
        named = re.findall(r"`([a-z_/]+\.py)`: (`\w+`(?:, `\w+`)*)", rows)
        assert len(named) >= rows.count("\n") - 1
        for path, names in named:
            code = (home[1] / home[0] / path).read_text(encoding="utf-8")
            for name in re.findall(r"\w+", names):
                assert re.search(rf"^ *(async )?(def|class) {name}\b", code, re.MULTILINE), f"{path} has no {name}"


HEAVY = (
    *("asyncio", "bracex", "concurrent", "dataclasses", "email", "filelock", "jinja2", "logging", "pydantic"),
    *("requests", "rich", "secrets", "socket", "starlette", "tempfile", "urllib3", "wcmatch"),
    *("aihub_runner.cli.planning", "aihub_runner.results.documents"),
)


@pytest.mark.parametrize("command", ["main", "validate", "plan", "status"])
def test_commands_that_send_nothing_start_without_slow_imports(command: str) -> None:
    code = f"import sys, aihub_runner.cli.{command}\nprint(*sys.modules)"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(started.stdout.split()) & {*HEAVY} == set()


def test_worker_of_another_process_loads_nothing_of_what_the_coordinator_knows() -> None:
    code = "import sys, aihub_runner.apply.pool\nprint(*sys.modules)"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known = ("aihub_runner.state", "aihub_runner.apply.context", "aihub_runner.apply.job", "sqlite3")
    assert [name for name in started.stdout.split() if name.startswith(known)] == []
