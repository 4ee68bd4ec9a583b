"""Render a script that does a job once without this tool, in the language you choose."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import Struct

from aihub_runner.aihub.schemas import include_parameters, run_body
from aihub_runner.codegen.literals import LITERALS, Code, comment
from aihub_runner.model import MB, UPSTREAM, Goal, Member
from aihub_runner.settings import API_KEY, API_ROOT, PUBLIC_ROOT
from aihub_runner.spec.model import Spec
from aihub_runner.spec.values import name_variable
from aihub_runner.text.shown import count

if TYPE_CHECKING:
    from jinja2 import Environment

POLL_S = 5.0  # as the vendor's guide does, within the limits of the spec
ENDINGS = {"python-sdk": "py", "python": "py", "curl": "sh", "javascript": "mjs"}
STARTS = {"python-sdk": "python3", "python": "python3", "curl": "bash", "javascript": "node"}
NEEDS = {
    "python-sdk": "Python 3.9, and `pip install instabase-aihub`",
    "python": "Python 3.9, and `pip install requests`",
    "curl": "bash, curl 7.76 and jq",
    "javascript": "Node.js 18",
}


class Work(Struct, frozen=True):
    """What a script is to do: the spec, its batches, and how you asked for the script."""

    spec: Spec
    goal: Goal
    batches: Sequence[tuple[Member, ...]]
    skipped: Sequence[str]
    command: str
    target: str = ""
    root: str = PUBLIC_ROOT

    @property
    def context(self) -> str | None:
        """The context. None means AIHUB_CONTEXT, which does not apply to targets."""
        return "" if self.spec.context is None and self.target else self.spec.context

    @property
    def place(self) -> str:
        """What the paths of files that lie elsewhere begin with."""
        folder = self.goal.input
        return "" if folder in ("", UPSTREAM) else folder.rstrip("/") + "/"

    @property
    def secrets(self) -> list[str]:
        """List the variables that hold passwords, and headers of the webhook."""
        hook = self.spec.run.webhook
        headers = {ref.env for ref in hook.headers.values()} if hook else set()
        return sorted(headers | {member.password for member in chain(*self.batches) if member.password})


def render_script(work: Work, language: str) -> str:
    """Render the script. It holds no secret, and reads them from the environment."""
    spec, hook = work.spec, work.spec.run.webhook
    webhook = {"url": hook.url, "headers": {}} if hook else None
    run = run_body(work.goal.settings, work.goal.batch_id, list(spec.run.tags), {}, webhook)
    if work.batches:
        del run["batch_id"]  # of a batch that the script creates
    deployment = quote(spec.deployment_id or "", safe="")
    batches = [_batch(work, number) for number in range(len(work.batches))]
    values = {
        "about": _describe(work, language),
        "root": work.root,
        "context": work.context,
        "workspace": spec.workspace,
        "batches": batches,
        "place": work.place,
        "run": run,
        "run_path": f"/v2/apps/deployments/{deployment}/runs" if deployment else "/v2/apps/runs",
        "deployment_id": spec.deployment_id,
        "include": dict(include_parameters(work.goal.include)),
        "headers": {name: ref.env for name, ref in hook.headers.items()} if hook else {},
        "secrets": work.secrets,
        "has_passwords": bool(batches) and "passwords" in batches[0],
        "has_large": bool(batches) and "large" in batches[0],
        "dropped": _list_dropped(spec),
        "poll_s": min(max(POLL_S, spec.limits.poll_min_s), spec.limits.poll_max_s),
        "connect_timeout_s": spec.limits.connect_timeout_s,
        "read_timeout_s": spec.limits.read_timeout_s,
    }
    return _environment(language, work.target).get_template(f"{language}.{ENDINGS[language]}.j2").render(values)


def _batch(work: Work, number: int) -> Mapping[str, Any]:
    """Return a batch as the templates see it: its name, and its files by their names in it."""
    spec, members, count = work.spec, work.batches[number], len(work.batches)
    batch: dict[str, Any] = {
        "name": f"{spec.name} {number + 1} of {count}" if count > 1 else spec.name,
        "files": {member.name: member.path for member in members},
    }
    everything = list(chain(*work.batches))
    if any(_is_large(spec, member) for member in everything):
        batch["large"] = [member.name for member in members if _is_large(spec, member)]
    if any(member.password for member in everything):
        batch["passwords"] = {member.name: member.password for member in members if member.password}
    return batch


def _is_large(spec: Spec, member: Member) -> bool:
    return member.size > spec.limits.part_threshold_mb * MB


def _describe(work: Work, language: str) -> list[str]:
    """Return what a reader of the script needs to know, as lines."""
    spec, name = work.spec, f"{work.spec.name}.{ENDINGS[language]}"
    key_name, root_name = (name_variable(work.target, name) for name in (API_KEY, API_ROOT))
    read = [root_name, *(["AIHUB_CONTEXT"] if work.context is None else []), *work.secrets]
    files = f"{count(sum(map(len, work.batches)), 'file')} in {count(len(work.batches), 'batch')}"
    if not work.batches:
        batch = f"batch {work.goal.batch_id}" if work.goal.batch_id else "the upstream integration"
        files = f"one run of the files in {work.place or batch}"
    return [
        f"Does a job once without aihub-runner: {files}.",
        f"Made by `{work.command}`.",
        f"Run it in the folder of the spec: {STARTS[language]} {shlex.quote(name)} > results.jsonl",
        f"It needs {NEEDS[language]}, and {key_name} in the environment.",
        f"It also reads {', '.join(read)} from there.",
        "It prints one line of JSON for each file. It stops at the first error, and repeats nothing.",
        "Each time it runs, it pays again. `runner apply` does not.",
        *([f"The files are those that matched when it was made: {', '.join(spec.files)}"] if work.batches else []),
        *(f"Not sent: {item}" for item in work.skipped),
    ]


def _list_dropped(spec: Spec) -> list[str]:
    """List what the vendor's SDK leaves out of a request, in the words of the spec."""
    settings = [*(["run.tags"] if spec.run.tags else []), *(["run.webhook"] if spec.run.webhook else [])]
    return [*settings, "limits.connect_timeout_s", "limits.read_timeout_s"]


def _environment(language: str, target: str) -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda name: _load(name).replace("AIHUB_API_", name_variable(target, "API_"))),
        finalize=_require_code,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "literal": LITERALS[language],
        "whole": math.ceil,
        "comment": comment,
        "url": lambda text: quote(text, safe=""),
        "place": lambda path: path if path.startswith("/") else f"./{path}",
    }
    return environment


def _require_code(value: object) -> str:
    """Let nothing into a script that was not written as a literal."""
    if not isinstance(value, Code):
        raise TypeError(f"not a literal: {value!r}")
    return value


def _load(name: str) -> str:
    return resources.files("aihub_runner.codegen").joinpath("templates", name).read_text(encoding="utf-8")
