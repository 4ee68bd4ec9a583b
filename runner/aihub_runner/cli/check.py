"""The command `check`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import asdict

from aihub_runner.apply.checkup import Check, check_up
from aihub_runner.cli.options import ALLOW_OUTSIDE, ALLOW_REMOTE, LOCK_FILE, STATE, Answer, Asked, over_specs
from aihub_runner.errors import worst_code


@over_specs(ALLOW_OUTSIDE, ALLOW_REMOTE, LOCK_FILE, STATE, here=True, example="runner check invoices.aihub.toml")
def check(asked: Asked) -> None:
    """Check what an apply needs, and pay for nothing.

    Looks at the settings, the spec, the connection, the account, the app, the clock, and the places to write. Sends
    requests that only read. Without a spec, checks those of the current folder.
    """

    def act(path: Path) -> Answer:
        open_it = None if os.path.isdir(path) else lambda offline: asked.open(path, offline=offline)
        checks = list(check_up(open_it, asked.target))
        shown = "settings" if open_it is None else str(path)
        data = {"spec": str(path) if open_it else None, "checks": [asdict(one) for one in checks]}
        return render_checks(shown, checks), data, worst_code(one.exit_code for one in checks)

    asked.each_spec(act)


def render_checks(title: str, checks: Sequence[Check]) -> str:
    """Render a line for each check, and its hint below it."""
    lines = [f"{title}: {_sum_up(checks)}"]
    for one in checks:
        lines.append(f"  {one.verdict:<8} {one.name:<10} {one.text}")
        lines += [f"  {'':<8} {'hint':<10} {one.hint}"] * bool(one.hint)
    return "\n".join(lines)


def _sum_up(checks: Sequence[Check]) -> str:
    failed = sum(one.verdict == "failed" for one in checks)
    return f"{failed} of {len(checks)} checks failed" if failed else "no check failed"
