"""The architecture, checked: imports go down the layers only, and nothing grows too large."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [
    {"jsontext", "align", "moment"},
    {"arguments", "errors", "extras", "model", "naming", "shortage", "shown", "tables", "streams"},
    {
        "spec",
        "globs",
        "mistakes",
        "fingerprint",
        "wire",
        "events",
        "interrupt",
        "bodies",
        "files",
        "pace",
        "response",
        "rawpage",
        "sink",
        "filters",
    }
    | {"plots", "timeline", "webpage"},
    {"subject", "shards", "steps", "written", "listing", "reasons", "xlsx", "parquet"},
    {"plan", "formats", "stdout"},
    {"settings", "sources", "walk", "boundaries", "disks"}
    | {"outfile"}
    | {"lock", "database", "fetches", "state", "lockfile", "session", "transport", "api", "progress"},
    {"upload", "look", "results", "pages", "jsonl", "reference"},
    {"engine", "job", "takeup", "report", "census", "exports", "extract"},
    {"lapsed", "places", "reconcile", "recorder", "diff", "overview"},
    {"coordinator", "delivery", "diffwords"},
    {"diffpage"},
    {"apply"},
    {"inspection"},
    {"resolve"},
    {"commands", "views"},
    {"insights", "outputs"},
    {"cli", "__init__"},
    {"__main__"},
]
# Within a layer, these stand on those.
WITHIN = {
    ("shortage", "errors"),
    ("extras", "errors"),
    ("spec", "globs"),
    ("spec", "mistakes"),
    ("fingerprint", "spec"),
    ("fetches", "database"),
    ("state", "database"),
    ("state", "fetches"),
    ("api", "transport"),
    ("transport", "session"),
    ("sources", "boundaries"),
    ("sources", "disks"),
    ("sources", "walk"),
    ("walk", "disks"),
    ("walk", "boundaries"),
    ("results", "look"),
    ("jsonl", "pages"),
    ("extract", "exports"),
    ("tables", "naming"),
}
# What judges the fake, and knows nothing of how it is made.
CERTIFY = {"certificate", "certify", "deletion", "disclosure", "hub", "promise", "suite", "target"}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 50


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).glob("*.py"))


def imported(path: Path) -> set[str]:
    """Module names that a file imports of this project, such as `aihub_runner.spec.model`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ("runner", "fake_server")}


@pytest.mark.parametrize("path", modules("runner"), ids=lambda path: path.stem)
def test_layers_of_the_runner_import_downwards_only(path: Path) -> None:
    level = next((index for index, layer in enumerate(LAYERS) if path.stem in layer), None)
    assert level is not None, f"{path.name} has no layer"
    for name in imported(path):
        part = name.split(".")[1] if name.startswith("runner.") else ""
        target = next((index for index, layer in enumerate(LAYERS) if part in layer), None)
        if target is not None and path.stem != "__init__":
            assert target < level or (path.stem, part) in WITHIN, f"{path.name} imports {name}"


def test_packages_import_each_other_only_where_the_fake_is_embedded() -> None:
    crossing = {
        (path.parent.name, path.stem)
        for package, other in (("runner", "fake_server"), ("fake_server", "runner"))
        for path in modules(package)
        if any(name.split(".")[0] == other for name in imported(path))
    }
    assert crossing == {("runner", "commands")}


def test_certify_judges_the_fake_from_outside() -> None:
    suite = CERTIFY | {path.stem for path in modules("fake_server") if path.stem.startswith("promises_")}
    for stem in suite:
        found = {name.split(".")[1] for name in imported(ROOT / "fake_server" / f"{stem}.py") if "." in name}
        assert found <= suite, f"{stem}.py imports {found - suite}"


@pytest.mark.parametrize(
    "path", modules("runner") + modules("fake_server"), ids=lambda path: f"{path.parent.name}.{path.stem}"
)
def test_sizes_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"
