"""Fetch the results of a run, every page, byte for byte. May be repeated, and costs nothing."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping

from aihub_runner.aihub.client import AIHub
from aihub_runner.aihub.schemas import ResultFile
from aihub_runner.apply.look import check_gone
from aihub_runner.apply.steps import Fetched, FetchResults, Gone
from aihub_runner.errors import ServiceError
from aihub_runner.files import explain_late, safe_segment, write_file
from aihub_runner.model import Answer, Page
from aihub_runner.plan.identity import PLAIN
from aihub_runner.text.jsontext import as_unicode

MAX_FETCHES = 5
PARAMETERS = {
    "confidence": "include_confidence_scores",
    "review": "include_review_results",
    "source": "include_source_info",
    "validation": "include_validation_results",
}


def _parameters(include: str) -> Mapping[str, str]:
    return {} if include == PLAIN else {PARAMETERS[name]: "true" for name in include.split("+")}


def fetch_results(client: AIHub, step: FetchResults) -> Fetched | Gone:
    """Fetch all results, or return Gone where the run does not exist on the service any more."""
    try:
        return _fetch_until_sure(client, step)
    except ServiceError as error:
        if error.status != 404 or time.monotonic() < step.young_until_s:
            raise
        check_gone(client, step.remote_id, step.from_s, None if step.was_fetched else step.others)
        return Gone()


def _fetch_until_sure(client: AIHub, step: FetchResults) -> Fetched:
    """Fetch all pages until each file sent has exactly one answer, or two complete fetches agree.

    Two fetches agree if they have the same files, in the same places, with as many documents. Their bytes may differ,
    by a time or a signed address. Raises ServiceError where they never agree, or where an empty page says that more
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


def _fetch_once(client: AIHub, step: FetchResults) -> Fetched:
    pages: list[Page] = []
    answers: list[Answer] = []
    offset = 0
    while True:
        parameters, batch_id = _parameters(step.include), step.remote_batch or None
        body, content = client.get_results(step.remote_id, parameters, offset, batch_id=batch_id)
        files = content.files
        path = f"raw/{safe_segment(step.remote_id)}/{step.include}/{offset}.json"
        with explain_late():
            pages.append(Page(offset, path, write_file(step.folder / path, [body])))
        answers += [_answer(file, offset, position) for position, file in enumerate(files)]
        if not content.has_more:
            return Fetched(tuple(pages), tuple(answers))
        if not files:
            raise ServiceError(
                f"run {step.remote_id}: an empty page says that more follow, at file {offset}", "apply again"
            )
        if len(answers) > 2 * len(step.names) + 1000:
            raise ServiceError(f"run {step.remote_id}: its pages never end, at file {offset}", "apply again")
        offset += len(files)


def _answer(file: ResultFile, offset: int, position: int) -> Answer:
    documents = file.documents or []
    errors = sum(bool(field.error_msg) for document in documents for field in document.fields or [])
    name = unicodedata.normalize("NFC", as_unicode(file.original_file_name))
    return Answer(name, offset, position, len(documents), errors)
