"""The results of a run: every page is fetched, byte for byte. May be repeated, and costs nothing."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import ResultFile, ResultPage, include_parameters
from aihub_runner.apply import events
from aihub_runner.apply.steps import Gone, Outcome, Step
from aihub_runner.apply.tasks.run import check_gone, record_gone
from aihub_runner.errors import ResultsError, ServiceError, Shortage
from aihub_runner.files import explain_late, safe_segment, write_file
from aihub_runner.model import MB, UPSTREAM, Answer, Member, Page, Shard
from aihub_runner.plan.placeholders import name_members
from aihub_runner.text.jsontext import as_unicode

if TYPE_CHECKING:
    from aihub_runner.apply.context import Context

MAX_FETCHES = 5
AHEAD = 8  # pages of a run to request before the one before is read
MAX_AHEAD_BYTES = MB  # of a page: larger ones are read one after another, to save memory
_Body = tuple[bytes, ResultPage]


class FetchResults(Step, frozen=True):
    """Fetch every page of a run's results into `folder`; `names` (NFC) are the files that were sent.

    `from_s` is a time before the run started. Until `young_until_s` (monotonic clock), retry a 404. `others` as for
    `PollRun`. `was_fetched` says that the results were fetched before: then the run stays done in any case. `kept` are
    the files with an answer in an earlier fetch of the same kind, which must not be replaced by fewer.
    """

    run: int
    remote_id: str
    from_s: float
    young_until_s: float
    include: str
    folder: Path
    names: frozenset[str]
    others: frozenset[str] = frozenset()
    remote_batch: int = 0
    was_fetched: bool = False
    kept: frozenset[str] = frozenset()
    tag: str = ""


class Fewer(Outcome, frozen=True):
    """The service no longer has the results of these files, which were fetched before."""

    names: tuple[str, ...]


class Fetched(Outcome, frozen=True):
    """All pages are on disk."""

    pages: tuple[Page, ...]
    answers: tuple[Answer, ...]


def fetch(context: Context, shard: Shard) -> None:
    """Fetch all results of a complete run."""
    run = context.run_of(shard)
    assert run.remote_id is not None
    context.shards[shard.id].fetched = run.attempt
    names = frozenset(member.name for member in shard.members)
    context.submit(
        FetchResults(
            shard.id,
            run.id,
            run.remote_id,
            run.bound_s,
            context.young_until_s(run.since),
            context.goal.include,
            context.job.results_path,
            names,
            context.others(run),
            run.remote_batch,
            bool(run.fetched),
            names & context.state.load_answers(run.id, context.goal.include).keys(),
            run.tag,
        )
    )


def fetch_results(client: AIHub, step: FetchResults) -> Fetched | Fewer | Gone:
    """Fetch all results, or return Gone where the run does not exist on the service any more."""
    try:
        lost = _find_lost(client, step) if step.kept else []
        return Fewer(tuple(lost)) if lost else _fetch_until_sure(client, step)
    except ServiceError as error:
        if error.status != 404 or time.monotonic() < step.young_until_s:
            raise
        check_gone(client, step.remote_id, step.from_s, None if step.was_fetched else step.others, step.tag)
        return Gone()


def _find_lost(client: AIHub, step: FetchResults) -> list[str]:
    """Find the files whose results the service no longer has, before writing replaces those that are here."""
    found = _fetch_once(client, step, writes=False)
    return sorted(step.kept - {answer.name for answer in found.answers})


def _fetch_until_sure(client: AIHub, step: FetchResults) -> Fetched:
    """Fetch all pages until each file sent has exactly one answer, or two complete fetches agree.

    Two fetches agree if they have the same files, in the same places, with as many documents. Their bytes may differ,
    by a time or a signed address. Raises ServiceError if they never agree, or if an empty page says that more
    follow.
    """
    before: tuple[Answer, ...] | None = None
    for _ in range(MAX_FETCHES):
        fetched = _fetch_once(client, step)
        names = [answer.name for answer in fetched.answers]
        if len(names) == len(set(names)) and (set(names) == step.names or fetched.answers == before):
            return fetched
        before = fetched.answers
    raise ServiceError(
        f"run {step.remote_id}: its results change with every fetch, or name a file twice", "apply again in a while"
    )


class _Pages:
    """The pages of a run's results. While one is read, those that should follow are requested, too.

    The service says how many files a page has only in the page itself. So the offsets of later pages are guesses from
    the first. A page is kept only if it starts where the one before ends; after a wrong guess, nothing is guessed.
    """

    def __init__(self, client: AIHub, step: FetchResults, pool: Executor) -> None:
        self._client, self._step, self._pool = client, step, pool
        self._parameters = include_parameters(step.include)
        self._guesses: dict[int, Future[_Body]] = {}
        self._size = 0  # of the first page; 0 where nothing is guessed
        self._is_first = True

    def get(self, offset: int) -> _Body:
        """Return the page that starts at an offset, as bytes and parsed."""
        guess = self._guesses.pop(offset, None)
        try:
            page = guess.result() if guess else self._ask(offset)
        except (ServiceError, Shortage):
            if guess is None:
                raise
            self._drop_guesses()
            page = self._ask(offset)
        end = offset + len(page[1].files)
        if self._guesses and end not in self._guesses:
            self._drop_guesses()
        if self._is_first and page[1].has_more and len(page[0]) <= MAX_AHEAD_BYTES:
            self._size = len(page[1].files)
        self._is_first = False
        self._guess(end)
        return page

    def _ask(self, offset: int) -> _Body:
        step = self._step
        with self._client.working_for(step.shard):  # perhaps in a thread of its own
            return self._client.get_results(
                step.remote_id, self._parameters, offset, batch_id=step.remote_batch or None
            )

    def _guess(self, start: int) -> None:
        starts = range(start, min(len(self._step.names), start + AHEAD * self._size), self._size or 1)
        for start in starts:
            if start not in self._guesses:
                try:
                    self._guesses[start] = self._pool.submit(self._ask, start)
                except RuntimeError:  # no thread can start: read one page after another
                    self._drop_guesses()
                    return

    def _drop_guesses(self) -> None:
        self._size = 0
        for guess in self._guesses.values():
            guess.cancel()
        self._guesses = {}


def _fetch_once(client: AIHub, step: FetchResults, *, writes: bool = True) -> Fetched:
    pool = ThreadPoolExecutor(AHEAD, "page")
    try:
        return _follow_pages(_Pages(client, step, pool), step, writes=writes)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _follow_pages(read: _Pages, step: FetchResults, *, writes: bool) -> Fetched:
    pages: list[Page] = []
    answers: list[Answer] = []
    offset = 0
    while True:
        body, content = read.get(offset)
        files = content.files
        path = page_path(step.remote_id, step.include, offset)
        with explain_late():
            pages.append(Page(offset, path, write_file(step.folder / path, [body]) if writes else ""))
        answers += [answer_of(file, offset, position) for position, file in enumerate(files)]
        if not content.has_more:
            return Fetched(tuple(pages), tuple(answers))
        if not files:
            raise ServiceError(
                f"run {step.remote_id}: an empty page says that more follow, at file {offset}", "apply again"
            )
        if len(answers) > 2 * len(step.names) + 1000:
            raise ServiceError(f"run {step.remote_id}: its pages never end, at file {offset}", "apply again")
        offset += len(files)


def page_path(run: str, include: str, offset: int) -> str:
    """Return where a page of results lies, relative to the results folder."""
    return f"raw/{safe_segment(run)}/{include}/{offset}.json"


def answer_of(file: ResultFile, offset: int, position: int) -> Answer:
    """Return what is recorded of one file in a page of results."""
    documents = file.documents or []
    errors = sum(bool(field.error_msg) for document in documents for field in document.fields or [])
    name = unicodedata.normalize("NFC", as_unicode(file.original_file_name))
    return Answer(name, offset, position, len(documents), errors)


def members_elsewhere(folder: str, names: Iterable[str]) -> tuple[Member, ...]:
    """Return the files of a run on a folder of a drive, or on an upstream integration, by the names in its results."""
    place = "" if folder == UPSTREAM else folder.rstrip("/") + "/"
    return tuple(Member(name, place + name, 0, "") for name in sorted(set(names)))


def record_fetched(context: Context, step: FetchResults, outcome: Outcome) -> None:
    """Record the pages that were fetched, or that the run is gone."""
    match outcome:
        case Fetched(pages, answers):
            context.state.record_fetch(step.run, step.include, pages, answers, context.now_s)
            names, folder = {answer.name for answer in answers}, context.goal.input
            shard = context.load(step.shard)
            if members := members_elsewhere(folder, names) if folder else name_members(shard.members, names):
                context.state.record_members(step.shard, members)
            context.reporter.emit(events.ResultsFetched(step.remote_id, len(answers)))
        case Fewer(names):
            more = f" and {len(names) - 1} more" * (len(names) > 1)
            what = f"run {step.remote_id}: the service no longer has the results of {names[0]}{more}"
            hint = "restore the results folder from a backup if something is missing there"
            context.park(step.shard, ResultsError(f"{what}; those fetched before stay", hint))
        case Gone():
            record_gone(context, step)
        case _:
            context.going.discard(step.run)
            context.record_failed(step, outcome)
