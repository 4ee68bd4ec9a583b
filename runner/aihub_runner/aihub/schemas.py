"""The service's requests and responses as values: what we send, and what we rely on in responses.

The shapes are those of the AI Hub API description. Unused keys are not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StrictBool,
    ValidationError,
    model_validator,
)

from aihub_runner.errors import ServiceError
from aihub_runner.model import Secret, rank_status
from aihub_runner.plan.identity import PLAIN, parse_run_tag
from aihub_runner.text.escape import MAX_REASON, clean_text
from aihub_runner.text.jsontext import read_json

_INCLUDES = {
    "confidence": "include_confidence_scores",
    "review": "include_review_results",
    "source": "include_source_info",
    "validation": "include_validation_results",
}
_INPUTS = ("input_dir", "manual_upstream_integration", "from_timestamp", "to_timestamp")  # instead of a batch
_WHO_ANSWERS = "check AIHUB_API_ROOT, and whether a proxy or gateway answers instead of the service"


class Unreadable(ServiceError):
    """A successful response that does not match the API description."""


MAX_NUMBER = 2**63 - 1  # the largest number that a column of the state holds


def _refuse_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a boolean instead of a number")
    return value


def _as_number(value: object) -> int | None:
    """Accept a number that nothing depends on, such as a time. Anything else counts as missing."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_NUMBER else None


def _as_reference(value: object) -> object:
    """Accept the id of a batch. An empty one means that there is none."""
    if value == "" or (isinstance(value, int) and value <= 0):
        return None
    return _refuse_flag(value)


_Name = Annotated[str, Field(min_length=1, pattern=r"\S")]
_BatchId = Annotated[int, BeforeValidator(_refuse_flag), Field(gt=0, le=MAX_NUMBER)]
_Reference = Annotated[int | None, BeforeValidator(_as_reference)]
_JobId = Annotated[str | None, BeforeValidator(lambda value: value or None)]
_Number = Annotated[int | None, BeforeValidator(_as_number)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class BatchInfo(_Answer):
    id: _BatchId
    name: str
    workspace: str | None = None
    created_at_ms: _Number = None


class CreatedBatch(_Answer):
    id: _BatchId


class BatchList(_Answer):
    batches: list[BatchInfo]


class FileMetadata(_Answer):
    """A file as a list of files reports it, its time in Unix seconds; None if a value is missing."""

    size: _Number = None
    modified_timestamp: _Number = None


class FileNode(_Answer):
    name: _Name
    metadata: FileMetadata = FileMetadata()


class FileList(_Answer):
    nodes: list[FileNode]
    next_page_token: str | None = None
    has_more: bool | None = None


class UploadSession(_Answer):
    session_id: _Name
    part_size: int = Field(gt=0, le=MAX_NUMBER)


class UploadPart(_Answer):
    part_id: str
    part_num: int


class RunInfo(_Answer):
    """A run, its times in Unix nanoseconds; None if a value is missing."""

    id: _Name
    status: _Name
    start_timestamp: _Number = None
    finish_timestamp: _Number = None
    msg: str | None = None
    batch_id: _Reference = None
    tags: list[str] | None = None

    def rank(self) -> tuple[int, int]:
        """Return a sort key for runs with the same tag: complete first, then in progress, the oldest first."""
        return rank_status(self.status), self.start_timestamp or 0

    @property
    def facts(self) -> tuple[str, str, str, tuple[int, int]]:
        """What the state records: id, status, reason, and start and finish (0 where unknown)."""
        return self.id, self.status, clean_text(self.msg or ""), (self.start_timestamp or 0, self.finish_timestamp or 0)

    @property
    def our_tags(self) -> list[tuple[str, str, int]]:
        """Fingerprint, run key and attempt of each tag that a runner made."""
        return [parsed for tag in self.tags or () if (parsed := parse_run_tag(tag))]


class RunList(_Answer):
    runs: list[RunInfo]


class BatchDeletion(_Answer):
    job_id: _Name


class RunDeletion(_Answer):
    """The jobs of a deletion; None if there is none."""

    delete_input_dir_job_id: _JobId = None
    delete_output_dir_job_id: _JobId = None
    delete_log_dir_job_id: _JobId = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_others(cls, content: object) -> object:
        if isinstance(content, dict) and not content.keys() & cls.model_fields.keys() and "message" in content:
            raise ValueError("a message instead of jobs")
        return content


class JobInfo(_Answer):
    state: _Name
    message: str | None = None


class ResultField(_Answer):
    """A field, as far as it is counted. Results are written from the raw page."""

    error_msg: Any = None


class ResultDocument(_Answer):
    fields: list[ResultField] | None = None


class ResultFile(_Answer):
    original_file_name: str
    documents: list[ResultDocument] | None = None


class ResultPage(_Answer):
    """A page of results. The description requires nothing, but without these two keys it may be anything."""

    id: str | None = None
    batch_id: _Reference = None
    files: list[ResultFile]
    has_more: StrictBool


class _Anything(RootModel[Any]):
    """Any JSON."""


class ErrorBody(_Answer):
    message: str


T = TypeVar("T", bound=BaseModel)


def parse_answer(model: type[T], body: bytes, what: str) -> T:
    """Return the body of a successful response as a model. Raises Unreadable, which names `what` was requested.

    Lone surrogates become question marks: one in the message of a run must not make a whole list unreadable.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        with suppress(ValueError, RecursionError):
            if b"\\ud" in body.lower():
                text = json.dumps(json.loads(body), ensure_ascii=False)
                return model.model_validate_json(text.encode("utf-8", "replace"))
        raise Unreadable(
            f"{what}: unreadable response, {_describe(body, error)}",
            _WHO_ANSWERS,
            transient=True,
        ) from None


def parse_nothing(body: bytes, what: str) -> None:
    """Check a response whose content does not matter. Raises Unreadable if it is an error that a proxy sent."""
    if body.strip():
        content = parse_answer(_Anything, body, what).root
        if isinstance(content, dict) and "message" in content:
            raise Unreadable(f"{what}: unreadable response, {render_error(body)}", _WHO_ANSWERS, transient=True)


def parse_results(body: bytes, what: str) -> ResultPage:
    """Return a page of results. It may hold lone surrogates and long numbers, which need a lenient parser.

    Raises Unreadable.
    """
    try:
        return parse_answer(ResultPage, body, what)
    except Unreadable:
        try:
            return ResultPage.model_validate(read_json(body))
        except (ValueError, RecursionError):
            pass
        raise


def _describe(body: bytes, error: ValidationError) -> str:
    if body.lstrip()[:1] == b"<":
        return "an HTML page instead of JSON"
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def render_error(body: bytes) -> str:
    """Return the service's reason in one short line, safe to print."""
    if body.lstrip()[:1] == b"<":
        return "an HTML page instead of JSON"
    try:
        text = ErrorBody.model_validate_json(body).message
    except ValidationError:
        text = body[: MAX_REASON * 4].decode(errors="replace")
    return clean_text(text) or "no reason given"


def hide_secrets(text: str, secrets: Iterable[Secret]) -> str:
    """Remove secrets from a text of the service, which may repeat what it was sent."""
    for value in sorted((secret.reveal() for secret in secrets), key=len, reverse=True):
        for shown in (value, json.dumps(value)[1:-1]):
            text = text.replace(shown, "…") if shown else text
    return text


def run_body(
    settings: Mapping[str, Any],
    batch_id: int,
    tags: list[str],
    passwords: Mapping[str, str],
    webhook: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the body of the request that starts a run, from `identity.run_settings` and what the key omits."""
    top = ("app_name", "app_id", "owner", "version", "output_workspace", "output_dir", *_INPUTS)
    body: dict[str, Any] = {name: settings[name] for name in top if name in settings}
    if not body.keys() & {*_INPUTS}:
        body["batch_id"] = batch_id
    inner: dict[str, Any] = {"tags": tags}
    keys = {kind: settings[f"keys.{kind}"] for kind in ("custom", "secret") if f"keys.{kind}" in settings}
    if keys:
        inner["keys"] = keys
    runtime: dict[str, Any] = {}
    if settings.get("generate_post_process_pdf"):
        runtime["generate_post_process_pdf"] = True
    if passwords:
        runtime["instabase"] = {"pdf": {"passwords": dict(passwords)}}
    if runtime:
        inner["runtime_config"] = runtime
    if webhook:
        inner["webhook_config"] = dict(webhook)
    return body | {"settings": inner}


def include_parameters(include: str) -> Mapping[str, str]:
    """Return the parameters of the request for results, from the name of a kind of fetch."""
    return {} if include == PLAIN else {_INCLUDES[name]: "true" for name in include.split("+")}
