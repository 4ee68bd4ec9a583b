"""The commands `state show`, `state export` and `state verify`; `forget.py` has `state forget`."""

from __future__ import annotations

import click
from msgspec.structs import replace

from aihub_runner.apply.job import Job
from aihub_runner.cli.forget import forget
from aihub_runner.cli.inspection import find_holder, opened_state
from aihub_runner.cli.options import LOCK_FILE, PLACES, Answer, Asked, over_specs
from aihub_runner.errors import DONE, STILL_GOING, StateError
from aihub_runner.state.content import export_state, find_flaws, sum_up
from aihub_runner.text.shown import count


@click.group(epilog="Example: runner state verify invoices.aihub.toml")
def state() -> None:
    """Show, export or verify the state file, or forget a part of it.

    Sends nothing. Only forget changes anything.
    """


@over_specs(*PLACES, example="runner state show invoices.aihub.toml")
def show(asked: Asked) -> None:
    """Show what the state file holds, in numbers."""

    def act(job: Job) -> Answer:
        with opened_state(job) as held:
            found = sum_up(held)
        runs = ", ".join(f"{number} {status}" for status, number in found["runs"].items()) or "none"
        lines = {
            "state": f"{job.state_path}, {find_holder(job) or 'not in use'}",
            "root": found["root"],
            "results": found["results"],
            "files": f"{found['files']} in {count(found['shards'], 'group')}, {found['closed']} of them closed",
            "batches": found["batches"],
            "runs": runs + f", {found['unconfirmed']} unconfirmed" * bool(found["unconfirmed"]),
        }
        text = "\n".join([f"{job.shown}:", *(f"  {name:<10} {value}" for name, value in lines.items())])
        return text, {"spec": job.shown, "state": str(job.state_path)} | found, DONE

    asked.in_full().each_job(act)


@over_specs(*PLACES, example="runner state export invoices.aihub.toml > state.json")
def export(asked: Asked) -> None:
    """Print all that the state file holds, as JSON. It names your files, and holds no secrets."""

    def act(job: Job) -> Answer:
        with opened_state(job) as held:
            return "", {"spec": job.shown, "state": str(job.state_path)} | export_state(held), DONE

    replace(asked, as_json=True).each_job(act)


@over_specs(*PLACES, LOCK_FILE, example="runner state verify invoices.aihub.toml")
def verify(asked: Asked) -> None:
    """Check the state file, the fetched results, and the lock file against each other.

    Exits with 5 if the state is damaged, and with 6 if the next apply has something to repair.
    """

    def act(job: Job) -> Answer:
        from aihub_runner.apply.assess import entries_to_import, look_for_damage

        with opened_state(job) as held:
            if flaws := find_flaws(held):
                raise StateError(
                    f"{job.state_path}: is damaged, {flaws[0]}" + f", and {len(flaws) - 1} more" * (len(flaws) > 1),
                    "move it away, and apply again: the lock file names what was paid",
                )
            damaged = sorted(look_for_damage(job, held).damaged)
            names = {run.id: run.remote_id for shard in held.load_shards() for run in shard.runs}
            entries = entries_to_import(job, held)
        found = [f"the results of run {names[row]} are missing or changed; apply fetches them again" for row in damaged]
        found += [
            f"run {entry.run_id or '(unconfirmed)'} of the lock file is not here; apply imports it" for entry in entries
        ]
        text = "\n".join([f"{job.shown}: {'sound' if not found else 'to repair'}", *(f"  {line}" for line in found)])
        return text, {"spec": job.shown, "found": found}, STILL_GOING if found else DONE

    asked.each_job(act)


for command in (export, forget, show, verify):
    state.add_command(command)
