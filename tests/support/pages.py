"""The pages of the documentation, their blocks of code, and how tests run these."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "specs" / "README.md"]
}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
# Every command of a page is run, but for what cannot run in a test. Functions of the shell stand in for these, each for
# a reason, and check what can be checked.
STAND_INS = {
    # A fake is there already, on another port. The options must exist; scripted faults are handed to that fake.
    "fake-aihub": """
        if [ "${1-}" = certify ]; then command fake-aihub "$@"; return; fi
        command fake-aihub "$@" --help >help.txt
        if [ "${1-}" = --faults ]; then python "$TOOLS/arm.py" "$2" | curl $root/_fake/faults -d @-; fi""",
    # It would build and keep an image. The options behind the name of the image must exist.
    "docker": 'while [ "$1" != fake-aihub ]; do shift; done; "$@"',
    # It would install from a registry. `test_extras_of_a_page_exist` checks what it names.
    "pip": '[ "$1" = install ]',
    # It is not installed, and has no bucket to write to. The folder must be there.
    "aws": '[ "$1 $2" = "s3 sync" ] && [ -d "$3" ]',
    # It would stay. Its options and the module that it loads first must exist.
    "dask": 'python -m dask "$@" --help >help.txt; case "$*" in *--preload*) python -c "import ${@: -1}";; esac',
    # There is no repository. A clone is this folder by another name.
    "git": 'case "$1" in clone) ln -s . "$3";; diff) [ -e "$REPOSITORY/$2" ];; clean) [ -e "$3" ];; *) false;; esac',
    # It would install. Its other commands are run.
    "make": 'eval "$(python "$TOOLS/recipe.py" "$1")"',
}
# What each script of a page has before it. A test that a page names is collected, not run: the tests run it anyway.
TOOLS = {
    "arm.py": """\
import json, sys, tomllib
print(json.dumps({"faults": tomllib.load(open(sys.argv[1], "rb"))["fault"]}))
""",
    "recipe.py": "import sys; from support.pages import recipe_of; print(recipe_of(sys.argv[1]))",
    "python": f"""\
#!/bin/sh
if [ "$1 $2" != "-m pytest" ]; then exec {sys.executable} "$@"; fi
shift 2 && cd "$REPOSITORY" && exec {sys.executable} -m pytest --collect-only -qq -p no:cacheprovider "$@"
""",
}


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return [body for found, body in all_blocks(text) if found == language]


def all_blocks(text: str) -> list[tuple[str, str]]:
    """Return all blocks of code, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def recipe_of(target: str) -> str:
    """Return what the Makefile runs for a target."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(BIN)", ".venv/bin")
    [recipe] = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    return " && ".join(line.strip() for line in recipe.splitlines())


def write_script(folder: Path, script: str, root: str) -> Path:
    """Write a script that runs in this folder, against the fake at `root`, with stand-ins for what cannot run here."""
    tools = folder / "tools"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (folder / ".venv" / "bin" / "python").symlink_to(tools / "python")
    functions = "\n".join(f"{name}() {{ {body}\n}}" for name, body in STAND_INS.items())
    place = root.removesuffix("/api")
    script = script.replace("http://127.0.0.1:8800", place).replace("https://aihub.instabase.com/api", root)
    script = re.sub(r"\.venv/bin/(?=runner|fake-aihub)", "", script).replace("…", "fake-me")
    script = re.sub(r" &$", "", script, flags=re.MULTILINE)  # a stand-in does not stay
    path = folder / "script.sh"
    path.write_text(f"""\
set -euo pipefail
export HOME=$PWD/home PATH=$PWD/.venv/bin:$PATH PYTHONPATH={":".join(sys.path)} TOOLS={tools} REPOSITORY={ROOT}
export AIHUB_API_ROOT={root} AIHUB_API_KEY=fake-me root={place}
curl() {{ command curl --silent --show-error --fail-with-body "$@"; }}
{functions}
{script}""")
    return path
