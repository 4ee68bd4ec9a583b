"""Random histories of deleted batches, lost and old records, groupings, versions and clones: nothing is paid twice.

`test_model.py` says what each apply pays. Here, far more may happen, and the model only says what must not be paid.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from aihub_runner.plan.batching import hashed_name, plain_name
from fake_aihub import FakeAIHub
from fake_aihub.world.entities import Run
from support.contract import check_journal
from support.world import bring_back, keep

from .conftest import WRITES, Outcome, Project

pytestmark = pytest.mark.timeout(1800)

STATE, LOCK = KEPT = ("job.state.db", "job.lock.toml")
PATHS = [f"{folder}/{name}.txt" for folder in "xyz" for name in "abc"]
PLAIN = {name(f"in/{path}"): plain_name(path) for path in PATHS for name in (plain_name, hashed_name)}
ENTRY = "\n[[run]]\n"
SPEC = """\
name = "job"
files = "in/**/*"
app_name = "Invoice Extraction"
owner = "instabase"
context = "acme"
{group_by}
[run]
version = "{version}"
[cleanup]
delete_input = "{delete}"
[limits]
{limit}
settle_s = 0.05
poll_min_s = 0.01
poll_max_s = 0.05
"""
chances = st.randoms(use_true_random=False)


class Site:
    """A clone: its files, and the paths at which its state knows each content."""

    def __init__(self, fake: FakeAIHub) -> None:
        self.folder, self.copies = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        self.project = Project(self.folder, fake, {"AIHUB_API_KEY": "fake-model", "AIHUB_API_ROOT": fake.root})
        self.files: dict[str, str] = {}
        self.places: dict[str, set[str]] = {}
        self.copied_places: dict[str, set[str]] = {}

    def put(self, path: str, content: str) -> None:
        self.project.write(f"in/{path}", content)
        self.files[path] = content

    def take(self, path: str) -> str:
        """Remove a file, and return its content."""
        (self.folder / "in" / path).unlink()
        return self.files.pop(path)

    def pull_files(self, other: Site) -> None:
        for path in [*self.files]:
            self.take(path)
        for path, content in other.files.items():
            self.put(path, content)

    def note_places(self) -> None:
        """A known path that vanished while a new one has its content moves with all that it had."""
        known = set[str]().union(*self.places.values())
        gone = sorted(known - self.files.keys())
        for new in sorted(self.files.keys() - known):
            old = next((one for one in gone if one in self.places.get(self.files[new], ())), None)
            if old is not None:
                gone.remove(old)
                for places in self.places.values():
                    if old in places:
                        places.remove(old)
                        places.add(new)
        for path, content in self.files.items():
            self.places.setdefault(content, set()).add(path)

    def known_runs(self) -> set[str]:
        """Return the runs in the state and in the lock file."""
        ids = {entry["run_id"] for entry in map(tomllib.loads, self.entries())}
        if (self.folder / STATE).exists():
            with closing(sqlite3.connect(self.folder / STATE)) as state:
                ids |= {run for (run,) in state.execute("SELECT remote_id FROM runs")}
        return ids

    def entries(self) -> list[str]:
        """Return the entries of the lock file, as text."""
        lock = self.folder / LOCK
        return [entry.strip() for entry in lock.read_text().split(ENTRY)[1:]] if lock.exists() else []

    def merge_lock(self, other: Site) -> None:
        """Add the other's entries. Of a run in both, that of the other counts."""
        entries = {identity(entry): entry for entry in [*self.entries(), *other.entries()]}
        theirs = other.folder / LOCK
        if theirs.exists():
            first = theirs.read_text().split(ENTRY)[0]
            (self.folder / LOCK).write_text(first + "".join(f"{ENTRY}{entry}\n" for entry in entries.values()))


def identity(entry: str) -> tuple[Any, ...]:
    """Return what identifies an entry of a lock file."""
    values = tomllib.loads(entry)
    return tuple(values[key] for key in ("fingerprint", "run_key", "attempt", "batch_id"))


class Histories(RuleBasedStateMachine):
    """What people may do, and what must not be paid for again.

    A content is paid for once for each version and each path at which the state of a clone knows it; again only with
    `--retry-failed` where it failed, after a decision of the user, or where nothing is left that proves the payment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeAIHub().__enter__()
        self.sites = [Site(self.fake), Site(self.fake)]
        self.site = self.sites[0]
        self.version, self.limit, self.by_folder, self.deletes = "1", 1000, False, False
        self.fails, self.counter = 0, 0
        self.past: set[tuple[str, str]] = set()
        self.cases: dict[frozenset[tuple[str, str]], set[str]] = {}  # by what files a folder has: such folders
        self.as_case: set[str] = set()  # runs of whole folders
        self.excused: set[str] = set()  # runs that the user paid again for
        self.is_excused = False  # whether a second payment was allowed
        self.write_specs()

    def teardown(self) -> None:
        check_journal(self.fake.journal)
        self.fake.__exit__()
        for site in self.sites:
            shutil.rmtree(site.folder)
            shutil.rmtree(site.copies)

    def write_specs(self) -> None:
        for site in self.sites:
            text = SPEC.format(
                group_by='group_by = "folder"' * self.by_folder,
                version=self.version,
                delete="after-results" if self.deletes else "never",
                limit="" if self.by_folder else f"files_per_batch = {self.limit}",
            )
            site.project.write("job.toml", text)

    # Files

    @initialize(chance=chances)
    def begin(self, chance: Any) -> None:
        self.write_new(chance)
        self.write_new(chance)
        self.finish()

    @rule(chance=chances)
    def write_new(self, chance: Any) -> None:
        for path in chance.sample(PATHS, chance.randint(1, 3)):
            self.counter += 1
            self.site.put(path, f"content {self.counter:05}" + "x" * chance.randint(0, 1))

    @precondition(lambda self: self.past)
    @rule(chance=chances)
    def bring_back_a_file(self, chance: Any) -> None:
        self.site.put(*chance.choice(sorted(self.past)))

    @rule(chance=chances, path=st.sampled_from(PATHS), same_name=st.booleans())
    def copy(self, chance: Any, path: str, same_name: bool) -> None:
        old = chance.choice(sorted(self.site.files))
        self.site.put(f"{path[0]}/{old[2:]}" if same_name else path, self.site.files[old])

    @rule(chance=chances)
    def remove(self, chance: Any) -> None:
        if len(self.site.files) > 1:
            self.site.take(chance.choice(sorted(self.site.files)))

    @rule(chance=chances, new=st.sampled_from(PATHS))
    def rename(self, chance: Any, new: str) -> None:
        if new not in self.site.files:
            self.site.put(new, self.site.take(chance.choice(sorted(self.site.files))))

    @rule(chance=chances, folder=st.sampled_from("xyz"))
    def sort_into_a_folder(self, chance: Any, folder: str) -> None:
        for path in sorted(self.site.files):
            new = f"{folder}/{path[2:]}"
            if new not in self.site.files and chance.random() < 0.7:
                self.site.put(new, self.site.take(path))

    # Settings

    @rule()
    def change_the_version(self) -> None:
        self.version = "2" if self.version == "1" else "1"
        self.write_specs()

    @rule(limit=st.sampled_from([1, 2, 1000]))
    def change_the_limit(self, limit: int) -> None:
        self.limit = limit
        self.write_specs()

    @rule()
    def change_the_grouping(self) -> None:
        self.by_folder = not self.by_folder
        self.write_specs()

    @rule()
    def change_the_cleanup(self) -> None:
        self.deletes = not self.deletes
        self.write_specs()

    # The service, and the records

    @rule(chance=chances)
    def delete_batches(self, chance: Any) -> None:
        for batch in sorted(self.fake.world.batches):
            if chance.random() < 0.6:
                del self.fake.world.batches[batch]

    @rule(times=st.sampled_from([1, 2]))
    def let_the_next_runs_fail(self, times: int) -> None:
        self.fails = times

    @rule(names=st.sampled_from([(STATE,), (LOCK,), KEPT]))
    def lose(self, names: tuple[str, ...]) -> None:
        bring_back(self.site.folder, self.site.folder / "nowhere", *names)
        if STATE in names:
            self.site.places = {}
            shutil.rmtree(self.site.folder / "results", ignore_errors=True)

    @rule()
    def keep_copies(self) -> None:
        shutil.rmtree(self.site.copies)
        keep(self.site.folder, self.site.copies, *KEPT)
        self.site.copied_places = {content: {*places} for content, places in self.site.places.items()}

    @rule(names=st.sampled_from([(STATE,), (LOCK,), KEPT]))
    def restore_copies(self, names: tuple[str, ...]) -> None:
        names = tuple(name for name in names if (self.site.copies / name).exists())
        bring_back(self.site.folder, self.site.copies, *names)
        if STATE in names:
            self.site.places = {content: {*places} for content, places in self.site.copied_places.items()}
            shutil.rmtree(self.site.folder / "results", ignore_errors=True)

    @rule(merges=st.booleans())
    def let_the_other_clone_go_on(self, merges: bool) -> None:
        """It pulls the files, and the lock file unless somebody forgot to commit it."""
        other = self.sites[self.site is self.sites[0]]
        other.pull_files(self.site)
        if merges:
            other.merge_lock(self.site)
        self.site = other

    # Applies

    @rule(data=st.data())
    def apply_to_some(self, data: Any) -> None:
        path = data.draw(st.sampled_from(sorted(self.site.files)))
        only, limit = ("--only", f"in/{path}"), ("--limit", "1")
        self.invoke(*data.draw(st.sampled_from([(), only] if self.by_folder else [(), only, limit])))

    @rule(retry=st.booleans())
    def apply(self, retry: bool) -> None:
        if retry:
            self.invoke("--retry-failed")
        self.finish()

    @rule(chance=chances)
    def write_and_apply(self, chance: Any) -> None:
        self.write_new(chance)
        self.finish()

    def finish(self) -> None:
        """Apply until it needs no decision. Then all is there, and one more apply changes nothing."""
        outcome = self.decide(self.invoke())
        self.check_results(outcome)
        self.fake.clear_journal()
        again = self.invoke()
        assert [entry["operation"] for entry in self.fake.journal if entry["method"] in WRITES] == []
        assert again.code == outcome.code, again.text

    def decide(self, outcome: Outcome) -> Outcome:
        """Take the ways out that are told: `--adopt`, then `resolve --resubmit`, and `--again` as the last one."""
        for options in [("--adopt",), (), ("--adopt",), (), ("--again",), ()]:
            if outcome.code == 7:
                if not options and self.site.project.run("resolve", "--resubmit").code == 0:
                    self.excuse()
                if "--again" in options:
                    assert "--again" in outcome.text
                    self.excuse()
                outcome = self.invoke(*options)
        assert outcome.code in (0, 3), outcome.text
        return outcome

    def excuse(self) -> None:
        self.excused |= {*self.fake.world.runs}
        self.is_excused = True

    def invoke(self, *options: str) -> Outcome:
        self.site.note_places()
        self.note_cases()
        before = [*self.fake.world.runs.values()]
        known = self.site.known_runs()
        unproved = self.list_unproved(before, known)
        self.is_excused |= bool(unproved)
        if self.fails:
            self.fake.next_run(status="FAILED", message="as told", times=self.fails)
        outcome = self.site.project.apply(*options)
        assert outcome.code in (0, 3, 7), outcome.text
        self.fake.world.next_runs.clear()
        new = [run for run in self.fake.world.runs.values() if run not in before]
        self.fails = 0 if new else self.fails
        if "--retry-failed" in options:
            self.excused |= {run.id for run in before if run.script}
        if "--again" not in options:
            paid = [run for run in before if run.id not in self.excused | unproved]
            self.check_payments(paid, new, known, outcome.text)
        self.as_case |= {run.id for run in new if self.by_folder}
        return outcome

    def note_cases(self) -> None:
        self.past |= {*self.site.files.items()}
        for folder in "xyz":
            case = frozenset((plain_name(path), text) for path, text in self.site.files.items() if path[0] == folder)
            self.cases.setdefault(case, set()).add(folder)

    def list_unproved(self, runs: list[Run], known: set[str]) -> set[str]:
        """List the runs of which nothing is left that proves that they paid: see "What it cannot promise"."""
        files = self.site.files
        here = Counter((plain_name(path), content) for path, content in files.items())
        taken = {hashed_name(f"in/{path}"): content for path, content in files.items()}  # a path that another file had
        return {
            run.id
            for run in runs
            if run.id not in known and run.batch_id not in self.fake.world.batches
            if run.script
            or Counter(self.files_of(run)) - here
            or any(
                taken.get(file.name, text) != text
                for file, (_, text) in zip(run.files, self.files_of(run), strict=True)
            )
        }

    def check_payments(self, paid: list[Run], new: list[Run], known: set[str], text: str) -> None:
        """A payment before counts if the state or the lock file listed it, or if a file still has its name, too."""
        here = {(plain_name(path), one) for path, one in self.site.files.items()}
        if self.by_folder:
            cases = Counter(self.case_of(run) for run in [*paid, *new] if run.id in self.as_case or run in new)
            for run in new:
                files, _ = case = self.case_of(run)
                assert cases[case] <= len(self.cases[files]), text
            return
        before, as_case = Counter[tuple[str, str]](), set[str]()
        for run in paid:
            for name, content in self.files_of(run):
                before[content, self.version_of(run)] += run.id in known or (name, content) in here
                as_case |= {content} if run.id in self.as_case else set()
        added = Counter((content, self.version_of(run)) for run in new for _, content in self.files_of(run))
        for (content, version), times in added.items():
            places = self.site.places[content]
            is_loose = len(places) > 1 and content in as_case  # it may be in one of the cases only, several times
            assert times <= len(places) - (0 if is_loose else before[content, version]), (content, text)

    def check_results(self, outcome: Outcome) -> None:
        """Each file has results of its own, or is listed and was run in vain."""
        lines = {line["path"].removeprefix("in/"): line for line in self.site.project.documents if line["present"]}
        assert lines.keys() <= self.site.files.keys()
        for path, line in lines.items():
            content = self.site.files[path]
            run = self.fake.world.runs[line["run_id"]]
            assert line["sha256"].endswith(hashlib.sha256(content.encode()).hexdigest())
            assert (content, self.version) in {(one, self.version_of(run)) for _, one in self.files_of(run)}
        missing = self.site.files.keys() - lines.keys()
        is_left = "on it is not recorded here" in outcome.err  # a batch, for a run that only the lost state knew
        assert outcome.code == (3 if missing or is_left else 0), outcome.text
        for path in missing:
            assert f"in/{path}" in outcome.text
            fates = {bool(run.script) for run in self.runs_of(self.site.files[path], plain_name(path))}
            assert any(run.script for run in self.runs_of(self.site.files[path])), (path, outcome.text)
            is_alone = len(self.site.places[self.site.files[path]]) == 1
            assert fates == {True} or self.by_folder or self.is_excused or not is_alone, (path, outcome.text)

    def runs_of(self, content: str, name: str = "") -> Iterator[Run]:
        """Yield the runs of a content with today's version."""
        for run in self.fake.world.runs.values():
            if self.version_of(run) == self.version:
                yield from (run for one, text in self.files_of(run) if text == content and name in ("", one))

    def case_of(self, run: Run) -> tuple[frozenset[tuple[str, str]], str]:
        return frozenset(self.files_of(run)), self.version_of(run)

    def files_of(self, run: Run) -> list[tuple[str, str]]:
        """List the names and contents of a run's files."""
        return [(PLAIN[file.name], self.fake.world.blobs._memory[file.digest].decode()) for file in run.files]

    @staticmethod
    def version_of(run: Run) -> str:
        return str(run.request.get("version"))


MORE = int(os.environ.get("AIHUB_HISTORIES", "0"))  # and then other ones each time


@pytest.mark.slow
def test_histories_pay_nothing_twice() -> None:
    chosen = settings(
        max_examples=MORE or 5,
        stateful_step_count=25,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Histories if MORE else seed(0)(Histories), settings=chosen)
