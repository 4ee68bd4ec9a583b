"""All remote state: files, runs, secrets, and the audit log."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fake_aihub.world.clock import Clock
from fake_aihub.world.entities import ApiError, AuditEntry, File, Run, Secret
from fake_aihub.world.event_log import event
from fake_aihub.world.storage import Storage

MAX_AUDIT = 10_000


class World(Storage):
    """The whole state of the fake. Only the event loop's thread changes it."""

    def __init__(self, clock: Clock, folder: Path | None = None) -> None:
        self.runs: dict[str, Run] = {}
        self.next_runs: list[dict[str, Any]] = []
        self.unused_scripts: list[dict[str, Any]] = []
        self.units_left: int | None = None
        self.due_webhooks: dict[str, None] = {}
        self.secrets: dict[tuple[str, str], Secret] = {}
        self.audit: deque[AuditEntry] = deque(maxlen=MAX_AUDIT)
        super().__init__(clock, folder)

    # Runs

    def start_run(self, context: str, batch_id: int | None, request: dict[str, Any], user: str = "fake-user") -> Run:
        """Start a run on a batch or on the folder `input_dir`. Raises ApiError 403 if no consumption units are left."""
        if self.units_left == 0:
            raise ApiError(403, "Not enough consumption units.")
        chosen = self._find_script(request, self._input_of(context, batch_id, request))
        script = {} if chosen is None else self.next_runs[chosen]
        course = {key: value for key, value in script.items() if key not in ("app", "file", "times")}
        return self._add_run(batch_id, request, course, context, user, chosen)

    def _input_of(self, context: str, batch_id: int | None, request: dict[str, Any]) -> list[File]:
        if batch_id is not None:
            return list(self.batches[batch_id].files.values())
        folder, tree = request["input_dir"], self.trees.get(context, {})
        return [replace(tree[path], name=path[len(folder) + 1 :]) for path in self.list_tree(context, folder)]

    @event("run")
    def _add_run(
        self,
        batch_id: int | None,
        request: dict[str, Any],
        script: dict[str, Any],
        context: str | None = None,
        user: str = "fake-user",
        chosen: int | None = None,
        now_ns: int = 0,
    ) -> Run:
        if context is None:  # the form of events in 0.1.0
            context = self.batches[batch_id or 0].context
        files = self._input_of(context, batch_id, request)
        run = Run(self._make_id("run"), context, batch_id, now_ns, request, files, script, user)
        self.runs[run.id] = run
        self.ledger["runs"][str(batch_id or request.get("input_dir"))] += 1
        for tag in (request.get("settings") or {}).get("tags") or []:
            self.ledger["tags"][tag] += 1
        if ((request.get("settings") or {}).get("webhook_config") or {}).get("url"):
            self.due_webhooks[run.id] = None
        if self.units_left is not None:
            self.units_left -= 1
        if chosen is not None:
            self._use_script(chosen)
        return run

    def get_run(self, context: str, run_id: str) -> Run:
        """Return a run. Raises ApiError 404 if it does not exist in this context."""
        run = self.runs.get(run_id)
        if run is None or run.context != context:
            raise ApiError(404, f"Run {run_id} does not exist.")
        return run

    def delete_run(self, run: Run, *, with_record: bool = True) -> None:
        """Delete a run's output. `with_record` also deletes the run itself."""
        self._remove_run(run.id, with_record)

    @event("run_gone")
    def _remove_run(self, run_id: str, with_record: bool = True) -> None:
        self.runs[run_id].has_output = False
        if with_record:
            self.runs.pop(run_id)
            self.due_webhooks.pop(run_id, None)
        self.ledger["deletions"][f"run {run_id}"] += 1

    def expire(self, kind: str, before_s: float) -> None:
        """Remove what is older than a time: batches, runs, or results. The default is batches and runs."""
        batches = [key for key, batch in self.batches.items() if batch.created_ms < before_s * 1000]
        runs = [key for key, run in self.runs.items() if run.started_ns < before_s * 1e9]
        results = [key for key in runs if self.runs[key].has_output] if kind == "results" else []
        batches, runs = batches if kind in ("batches", "") else [], runs if kind in ("runs", "") else []
        if batches or runs or results:
            self._remove_expired(batches, runs, results)

    @event("expired")
    def _remove_expired(self, batches: list[int], runs: list[str], results: list[str]) -> None:
        for run_id in results:
            self.runs[run_id].has_output = False
        for run_id in runs:
            del self.runs[run_id]
            self.due_webhooks.pop(run_id, None)
        for batch_id in batches:
            del self.batches[batch_id]

    @event("units")
    def set_units(self, left: int | None) -> None:
        """Set the number of runs that the consumption units cover. None means unlimited."""
        self.units_left = left

    # Run scripts

    @event("script")
    def add_script(self, script: dict[str, Any]) -> None:
        """Script the next `times` runs (0: all future runs), optionally only those of an `app` or with a `file`."""
        self.next_runs.append(script)
        self.unused_scripts.append(script)

    @event("scripts_gone")
    def clear_scripts(self) -> None:
        """Remove all scripts for future runs."""
        self.next_runs.clear()
        self.unused_scripts.clear()

    def _find_script(self, request: dict[str, Any], files: list[File]) -> int | None:
        names = [request.get(key) for key in ("app_name", "app_id", "deployment_id")]
        for index, script in enumerate(self.next_runs):
            of_app = "app" not in script or script["app"] in names
            if of_app and ("file" not in script or any(fnmatchcase(file.name, script["file"]) for file in files)):
                return index
        return None

    def _use_script(self, index: int) -> None:
        if (script := self.next_runs[index]) in self.unused_scripts:
            self.unused_scripts.remove(script)
        times = script.get("times", 1)
        if times == 1:
            self.next_runs.pop(index)
        elif times > 1:
            self.next_runs[index] = {**script, "times": times - 1}

    def poll_run(self, run: Run) -> None:
        """Count a status request, if the run's script ends it after polls."""
        if run.polls <= run.script.get("after_polls", -1):
            self._count_poll(run.id)

    @event("poll")
    def _count_poll(self, run_id: str, now_ns: int = 0) -> None:
        self.runs[run_id].polls += 1
        self.runs[run_id].polled_ns = now_ns

    def set_run(self, run_id: str, script: dict[str, Any]) -> None:
        """Set the status and message of a run from now on."""
        self._set_script(run_id, {"set_ns": self.clock.now_ns(), **script})

    def release_run(self, run_id: str) -> None:
        """Release a held run. It ends as its script says."""
        script = {key: value for key, value in self.runs[run_id].script.items() if key not in ("hold", "after_polls")}
        self._set_script(run_id, script | {"end_ns": self.clock.now_ns()})

    @event("run_set")
    def _set_script(self, run_id: str, script: dict[str, Any]) -> None:
        self.runs[run_id].script = script

    def note_webhook(self, run_id: str, outcome: str, is_last: bool) -> None:
        """Record a webhook call of a run: the response status, or why there is none."""
        if run_id in self.runs:
            self._add_call(run_id, outcome, is_last)

    @event("webhook")
    def _add_call(self, run_id: str, outcome: str, is_last: bool, now_s: float = 0.0) -> None:
        self.runs[run_id].webhook.append({"at_s": now_s, "outcome": outcome})
        if is_last:
            self.due_webhooks.pop(run_id, None)

    # Secrets

    def get_secret(self, context: str, alias: str) -> Secret:
        """Return a secret. Raises ApiError 404 if it does not exist in this context."""
        if (context, alias) not in self.secrets:
            raise ApiError(404, "No secret has this alias.")
        return self.secrets[context, alias]

    @event("secret")
    def set_secret(self, context: str, user: str, facts: dict[str, Any], now_ms: int = 0) -> None:
        """Create a secret, or update the one with that alias. Its value is not stored."""
        key = (context, facts["alias"])
        old = self.secrets.get(key) or Secret(facts["alias"], context, "", "ALL", [], now_ms, user, now_ms, user)
        self.secrets[key] = replace(old, **facts, updated_ms=now_ms, updated_by=user)

    @event("secret_gone")
    def delete_secret(self, context: str, alias: str) -> None:
        """Delete a secret."""
        self.secrets.pop((context, alias), None)

    # The audit log

    @event("audit")
    def note(self, *, now_ms: int = 0, **facts: Any) -> None:
        """Add an entry to the audit log."""
        self.audit.append(AuditEntry(now_ms=now_ms, **facts))
