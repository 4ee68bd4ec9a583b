"""Random histories of files, settings, failures, lost and old states, clones and clocks: the ledger matches a model."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from aihub_runner.plan.batching import hashed_name, plain_name
from fake_aihub import FakeAIHub
from fake_aihub.world.entities import Batch, Run
from support.contract import check_journal
from support.forks import Forks
from support.proxy import Proxy, shifted

from .conftest import QUICK, WRITES, Project

pytestmark = pytest.mark.timeout(1800)

KEPT = ("job.state.db", "job.lock.toml")
NAMES = st.sampled_from([f"{folder}/{name}.txt" for folder in "xy" for name in "abcd"])

# Settings that change the outcome: lines of the spec in place of others, and how a run tells that it was made so.
PLAIN = {"app_name": 'app_name = "Invoice Extraction"', "owner": 'owner = "instabase"', "context": 'context = "acme"'}
VARIANTS: dict[str, tuple[dict[str, str], Callable[[Any, dict[str, Any], Any], bool]]] = {
    "app_name": ({"app_name": 'app_name = "Other"'}, lambda run, request, _: request.get("app_name") == "Other"),
    "app_id": ({"app_name": 'app_id = "a-1"'}, lambda run, request, _: request.get("app_id") == "a-1"),
    "deployment_id": (
        {"app_name": 'deployment_id = "d-1"', "owner": ""},
        lambda run, request, _: request.get("deployment_id") == "d-1",
    ),
    "owner": ({"owner": 'owner = "me"'}, lambda run, request, _: request.get("owner") == "me"),
    "no owner": (
        {"owner": ""},
        lambda run, request, _: not request.get("owner") and not request.get("deployment_id"),
    ),
    "context": ({"context": 'context = "other"'}, lambda run, *_: run.context == "other"),
    "workspace": ({"workspace": 'workspace = "w"'}, lambda run, request, batch: batch.workspace == "w"),
    "version": ({"run": 'version = "1"'}, lambda run, request, _: request.get("version") == "1"),
    "custom keys": ({"run": "keys.custom.a = 1"}, lambda *it: settings_of(*it, "keys", "custom") == {"a": 1}),
    "secret keys": ({"run": 'keys.secret.a = "b"'}, lambda *it: settings_of(*it, "keys", "secret") == {"a": "b"}),
    "pdf": (
        {"run": "generate_post_process_pdf = true"},
        lambda *it: settings_of(*it, "runtime_config", "generate_post_process_pdf") is True,
    ),
    "output_workspace": (
        {"run": 'output_workspace = "o"'},
        lambda run, request, _: request.get("output_workspace") == "o",
    ),
    "output_dir": ({"run": 'output_dir = "/a/w/fs/d/o/"'}, lambda run, request, _: bool(request.get("output_dir"))),
    "": ({}, lambda *_: True),
}


def target_of(version: str) -> tuple[str, bool]:
    """Return the context that a variant works in, and whether in a workspace of its own."""
    return "other" if version == "context" else "acme", version == "workspace"


def settings_of(run: Run, request: dict[str, Any], _: object, *path: str) -> Any:
    """Find a setting that a run was started with."""
    found: Any = request["settings"]
    for key in path:
        found = (found or {}).get(key)
    return found


def variant_of(run: Run, batch: Batch) -> str:
    """Return the settings of a run, from its request."""
    return next(name for name, (_, is_so) in VARIANTS.items() if is_so(run, run.request, batch))


def render_spec(variant: str, limit: int) -> str:
    lines = PLAIN | {"workspace": "", "run": ""} | VARIANTS[variant][0]
    run = lines.pop("run")
    top = "\n".join(['name = "job"', 'files = "in/**/*"', *lines.values()])
    return f"{top}\n[run]\n{run}\n[limits]\nfiles_per_batch = {limit}\n{QUICK}\n"


class Histories(RuleBasedStateMachine):
    """What a person may do between applies, and what each apply must then pay for.

    The model: `paid` holds what was paid and is not known to have failed, `failed` what was, and failed.
    """

    forks: Forks

    def __init__(self) -> None:
        super().__init__()
        self.folder, self.copies = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        self.fake = FakeAIHub().__enter__()
        self.proxy = Proxy(self.fake.root).__enter__()
        env = {"AIHUB_API_KEY": "fake-model", "AIHUB_API_ROOT": self.proxy.root}
        self.project = Project(self.folder, self.fake, env)
        self.files: dict[str, str] = {}
        self.version, self.limit = "", 1000
        self.project.write("job.toml", render_spec(self.version, self.limit))
        self.paid: set[tuple[str, str, str]] = set()
        self.failed: set[tuple[str, str, str]] = set()
        self.expected: Counter[tuple[str, str]] = Counter()
        self.fails_next = False
        # After the state is lost: what only the lock file lists, as (content, version, whether it failed).
        self.listed: set[tuple[str, str, bool]] = set()
        self.vanished: set[str] = set()  # contents that no file had when they were imported
        self.counter = 0

    def teardown(self) -> None:
        check_journal(self.fake.journal)
        self.proxy.__exit__()
        self.fake.__exit__()
        shutil.rmtree(self.folder)
        shutil.rmtree(self.copies)

    def put(self, path: str, content: str) -> None:
        self.project.write(f"in/{path}", content)
        self.files[path] = content

    @rule(path=NAMES)
    def write_something_new(self, path: str) -> None:
        self.counter += 1
        self.put(path, f"content {self.counter:05}")

    @rule(path=NAMES, chance=st.randoms(use_true_random=False))
    def write_what_was_there_before(self, path: str, chance: Any) -> None:
        contents = sorted({content for paid, content, _ in self.paid | self.failed if paid == path})
        contents = [content for content in contents if content not in self.vanished]
        if self.listed:  # files of equal bytes are told apart by a state only
            contents = [content for content in contents if content not in self.files.values()]
        if contents:
            self.put(path, chance.choice(contents))

    @precondition(lambda self: self.files and not self.listed)
    @rule(path=NAMES, chance=st.randoms(use_true_random=False))
    def copy(self, path: str, chance: Any) -> None:
        self.put(path, self.files[chance.choice(sorted(self.files))])

    @precondition(lambda self: len(self.files) > 1)
    @rule(chance=st.randoms(use_true_random=False))
    def remove(self, chance: Any) -> None:
        path = chance.choice(sorted(self.files))
        (self.folder / "in" / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(new=NAMES, chance=st.randoms(use_true_random=False))
    def move(self, new: str, chance: Any) -> None:
        old = chance.choice(sorted(self.files))
        if new not in self.files:
            self.put(new, self.files.pop(old))
            (self.folder / "in" / old).unlink()

    @precondition(lambda self: (self.folder / "job.state.db").exists() and self.contents_are_told_apart())
    @rule()
    def lose_the_state(self) -> None:
        """A fresh clone: the next apply recognises paid files by their bytes only, in any place."""
        self.remove_the_state()
        self.listed |= {(content, version, False) for _, content, version in self.paid}
        self.listed |= {(content, version, True) for _, content, version in self.failed}
        self.paid.clear()
        self.failed.clear()

    def remove_the_state(self) -> None:
        (self.folder / "job.state.db").unlink()
        shutil.rmtree(self.folder / "results")

    @precondition(lambda self: (self.folder / "job.state.db").exists() and self.nothing_changed() and self.are_named())
    @precondition(lambda self: self.fates_are_told_apart())
    @rule()
    def lose_state_and_lock_file(self) -> None:
        """Nothing is left here: what is grouped as before is recognised, for the rest apply stops and asks."""
        self.remove_the_state()
        (self.folder / "job.lock.toml").unlink()
        outcome = self.project.apply()
        if outcome.code == 7:
            outcome = self.project.apply("--adopt")
        self.check(outcome.code, {(path, content, self.version) for path, content in self.files.items()}, outcome.text)

    def nothing_changed(self) -> bool:
        """Whether each run on the service is of files that are here: others cannot be verified without a lock file."""
        known = self.paid | self.failed
        return (
            not self.listed
            and not self.vanished
            and {item[:2] for item in known} == set(self.files.items())
            and {v for *_, v in known} == {self.version}
        )

    def are_named(self) -> bool:
        """Whether each file has a unique name in its batch: batches are matched by names alone."""
        sent = {(file.name, self.content(file.digest)) for run in self.fake.world.runs.values() for file in run.files}
        return all(
            {(plain_name(f"in/{path}"), content), (hashed_name(f"in/{path}"), content)} & sent
            for path, content in self.files.items()
        )

    def fates_are_told_apart(self) -> bool:
        """Whether equal files have the same fate: of two with one name, nothing tells any more which one failed."""
        return not {content for _, content, _ in self.paid} & {content for _, content, _ in self.failed}

    def contents_are_told_apart(self) -> bool:
        pairs = {(path, content) for path, content, _ in self.paid | self.failed} | set(self.files.items())
        return len({content for _, content in pairs}) == len(pairs)

    @rule(path=NAMES)
    def touch(self, path: str) -> None:
        if path in self.files:
            (self.folder / "in" / path).touch()

    @rule(version=st.sampled_from(sorted(VARIANTS)))
    def choose_settings(self, version: str) -> None:
        self.version = version
        self.project.write("job.toml", render_spec(self.version, self.limit))

    @rule(limit=st.sampled_from([1, 2, 3, 1000]))
    def change_the_limit(self, limit: int) -> None:
        self.limit = limit
        self.project.write("job.toml", render_spec(self.version, self.limit))

    @rule()
    def let_the_next_runs_fail(self) -> None:
        self.fails_next = True

    # Others, and other times: in a folder of their own, which is gone afterwards.

    @rule(hours=st.sampled_from([0, 2, -2, 30_000, -30_000]))
    def let_the_date_be_wrong(self, hours: int) -> None:
        """From now on all answers carry it."""
        self.proxy.date = shifted(3600 * hours)

    @precondition(lambda self: (self.folder / "job.state.db").exists())
    @rule()
    def keep_a_copy(self) -> None:
        for name in KEPT:
            shutil.copy2(self.folder / name, self.copies / name)

    @precondition(lambda self: (self.folder / "job.state.db").exists() and self.nothing_is_due() and self.are_named())
    @rule(kind=st.sampled_from(["old state", "old lock file", "nothing", "name", "root", "both", "limit"]))
    def apply_in_a_clone(self, kind: str) -> None:
        """All was paid; whatever the clone knows of it, by whatever name and root: nothing is paid there."""
        with self.clone() as clone:
            old = {name: self.copies / name for name in KEPT}
            for name in KEPT if kind in ("nothing", "name", "root") else KEPT[:1] if kind == "old lock file" else ():
                if kind != "root" or name == KEPT[0]:
                    (clone.folder / name).unlink()
            for name in {"old state": KEPT[:1], "old lock file": KEPT[1:], "both": KEPT}.get(kind, ()):
                if old[name].exists():
                    shutil.copy2(old[name], clone.folder / name)
            if kind == "name":
                clone.change_spec('name = "job"', 'name = "invoices"')
            elif kind == "root":
                clone.env = clone.env | {"AIHUB_API_ROOT": self.proxy.root.replace("127.0.0.1", "localhost") + "/"}
            elif kind == "limit":
                clone.write("job.toml", render_spec(self.version, 1))
            for options in ((), ("--adopt",)):
                outcome = clone.apply(*options)
                assert self.payments() == self.expected, outcome.text
                assert outcome.code in (0, 2, 3, 7), outcome.text

    @precondition(lambda self: (self.folder / "job.state.db").exists() and not self.nothing_is_due())
    @rule()
    def let_a_clone_pay(self) -> None:
        """It has the same state, and pays first; then there is nothing left to be paid here."""
        if self.fails_next:
            return
        self.follow_moves()
        due = {(path, content, self.version) for path, content in self.files.items()} - self.paid - self.failed
        self.expected.update((content, version) for _, content, version in due)
        with self.clone() as clone:
            outcome = clone.apply()
            assert self.payments() == self.expected, outcome.text
        self.paid |= due
        self.apply_and_compare(False)

    @contextmanager
    def clone(self) -> Iterator[Project]:
        folder = Path(tempfile.mkdtemp())
        shutil.copytree(self.folder / "in", folder / "in")
        for name in ("job.toml", *KEPT):
            shutil.copy2(self.folder / name, folder / name)
        yield Project(folder, self.fake, self.project.env)
        shutil.rmtree(folder)

    def nothing_is_due(self) -> bool:
        today = {(path, content, self.version) for path, content in self.files.items()}
        return bool(today) and today <= self.paid | self.failed and not self.fails_next

    # Three rules, so that about every third step applies.
    @precondition(lambda self: self.files)
    @rule(retry=st.booleans())
    def apply(self, retry: bool) -> None:
        self.apply_and_compare(retry)

    @precondition(lambda self: self.files)
    @rule()
    def apply_now(self) -> None:
        self.apply_and_compare(False)

    @precondition(lambda self: self.files)
    @rule(path=NAMES)
    def change_and_apply(self, path: str) -> None:
        self.write_something_new(path)
        self.apply_and_compare(False)

    @precondition(lambda self: self.files)
    @rule(boundary=st.integers(1, 60))
    def crash_and_apply(self, boundary: int) -> None:
        if self.fails_next:  # which runs the crashed apply has started is not for the model to know
            return
        self.forks.run(boundary, self.folder, self.project.env, "apply", "job.toml")
        self.apply_and_compare(False)

    def go_back_where_only_others_are_listed(self) -> None:
        """With no state, and a lock file that lists other targets only, apply stops before anything is sent."""
        if (self.folder / "job.state.db").exists() or not (self.folder / "job.lock.toml").exists():
            return
        batches = [self.fake.world.batches[entry["batch_id"]] for entry in self.project.lock]
        listed = {(batch.context, batch.workspace == "w") for batch in batches}
        if listed and target_of(self.version) not in listed:
            outcome = self.project.apply()
            assert outcome.code == 2, outcome.text
            assert self.payments() == self.expected, outcome.text
            self.choose_settings(next(version for version in VARIANTS if target_of(version) in listed))

    def apply_and_compare(self, retry: bool) -> None:
        self.go_back_where_only_others_are_listed()
        self.follow_moves()
        today = {(path, content, self.version) for path, content in self.files.items()}
        retried = self.failed if retry else set()
        due = today - self.paid - (self.failed - retried)
        if self.fails_next and due:
            self.fake.next_run(status="FAILED", message="as told", times=len(due))
        outcome = self.project.apply(*["--retry-failed"] * retry)
        self.fake.world.next_runs.clear()
        self.expected.update((content, version) for _, content, version in due)
        if self.fails_next:
            self.failed |= due
        else:
            self.paid |= due
            self.failed -= due
        self.fails_next = False
        self.check(outcome.code, today, outcome.text)

    def import_listed(self) -> None:
        """The lock file identifies files by their bytes, in any place. Only the current context is read."""
        target = target_of(self.version)
        listed = {item for item in self.listed if target_of(item[1]) == target}
        self.listed -= listed
        paths = {content: path for path, content in self.files.items()}
        for content, version, has_failed in listed:
            if content in paths:
                (self.failed if has_failed else self.paid).add((paths[content], content, version))
            else:
                self.vanished.add(content)

    def follow_moves(self) -> None:
        """A recorded path that vanished while a new one has content that it had: all its records are re-addressed."""
        self.import_listed()
        recorded = {item[:2] for item in self.paid | self.failed}
        paths = {path for path, _ in recorded}
        gone = sorted(paths - self.files.keys())
        for new in sorted(self.files.keys() - paths):
            old = next((path for path in gone if (path, self.files[new]) in recorded), None)
            if old is not None:
                gone.remove(old)
                for known in (self.paid, self.failed):
                    moved = {item for item in known if item[0] == old}
                    known -= moved
                    known |= {(new, content, version) for _, content, version in moved}

    def check(self, code: int, today: set[tuple[str, str, str]], text: str) -> None:
        assert code == (3 if today & self.failed else 0), text
        assert self.payments() == self.expected, text
        lines = {line["path"].removeprefix("in/"): line for line in self.project.documents if line["present"]}
        assert lines.keys() == {path for path, *_ in today - self.failed}
        self.fake.clear_journal()
        assert self.project.apply().code == code
        assert [entry for entry in self.fake.journal if entry["method"] in WRITES] == []

    def payments(self) -> Counter[tuple[str, str]]:
        """Count what was paid, over all states and clones."""
        paid: Counter[tuple[str, str]] = Counter()
        for run in self.fake.world.runs.values():
            batch = self.fake.world.batches[run.batch_id]
            paid.update((self.content(file.digest), variant_of(run, batch)) for file in run.files)
        return paid

    def content(self, digest: str) -> str:
        return self.fake.world.blobs._memory[digest].decode()


MORE = int(os.environ.get("AIHUB_HISTORIES", "0"))  # and then other ones each time
PARTS = 8


@pytest.mark.matrix(most=1)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.slow
def test_histories_are_paid_as_the_model_says(forks: Forks, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    if part % 2 == 0:  # no file is young, so that jobs with nothing to do are recognised without planning
        now_ns = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10**10)
    chosen = settings(
        max_examples=(MORE or 40) // PARTS,
        stateful_step_count=40,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    machine = type("Histories", (Histories,), {"forks": forks})
    run_state_machine_as_test(machine if MORE else seed(part)(machine), settings=chosen)
