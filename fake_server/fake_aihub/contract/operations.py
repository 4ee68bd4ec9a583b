"""The operations of the API, each with its documented parameters, headers and properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Len, MinLen, Predicate

from fake_aihub.contract.shapes import Count, Kind, Shape, is_digits


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its query parameters, request headers and body properties by name, and its statuses.

    `statuses` are those that the description names. With `default_error`, every other error status is allowed, too.
    """

    id: str
    method: str
    path: str
    statuses: tuple[int, ...]
    query: Shape = field(default_factory=lambda: Shape({}))
    headers: tuple[str, ...] = ("IB-Context",)
    body: Shape | None = None
    is_binary: bool = False
    default_error: bool = True


DIGITS = Annotated[str, Predicate(is_digits), "a text of digits"]
ALIAS = Annotated[str, MinLen(1), "a text that is not empty"]
SIZE = Annotated[int | str, Predicate(lambda value: is_digits(str(value))), "a whole number from 0"]
BATCH = Shape({"name": Annotated[str, Len(1, 255), "a text of 1 to 255 characters"], "workspace": str}, ["name"])
# The description has a whole number. The vendor's curl sample sends a string.
BATCH_ID = Annotated[int | str, Predicate(lambda value: isinstance(value, int) or is_digits(value)), "a whole number"]
FLAGS = ("include_review_results", "include_confidence_scores", "include_validation_results", "include_source_info")
TEXTS = ("app_id", "app_name", "deployment_id", "username", "run_id")
NUMBERS = ("from_timestamp", "to_timestamp", "limit", "offset")
DELETED = ("delete_db_data", "delete_input", "delete_output", "delete_logs")
# The description of an app run has no webhook_config. The SDK has a model for it, but sends neither it nor tags.
SETTINGS: Mapping[str, Kind] = {
    "keys": {"custom": dict, "secret": dict},
    "runtime_config": {"generate_post_process_pdf": bool, "instabase": {"pdf": {"passwords": dict}}},
    "tags": [str],
    "webhook_config": {"url": str, "headers": dict},
}
RUN_BODY: Mapping[str, Kind] = {
    **dict.fromkeys(("input_dir", "version", "output_dir", "output_workspace"), str),
    "batch_id": BATCH_ID,
    "settings": SETTINGS,
}
APP_BODY = Shape({**RUN_BODY, "app_name": str, "app_id": str, "owner": str})
# The SDK's method for deployments also takes an output_workspace, which the description omits.
TIMES: Mapping[str, Kind] = dict.fromkeys(("from_timestamp", "to_timestamp"), int | float)
DEPLOYMENT_BODY = Shape({**RUN_BODY, **TIMES, "manual_upstream_integration": bool})
RUNS_QUERY = Shape(
    {
        **dict.fromkeys(TEXTS, str),
        **dict.fromkeys(NUMBERS, int),
        "status": [str],
        "output_workspaces": [str],
        "sort_by": Literal["start_timestamp", "status"],
        "order": Literal["ASCENDING", "DESCENDING"],
    }
)
RESULTS_QUERY = Shape({**dict.fromkeys(FLAGS, bool), "file_offset": int})
SECRET: Mapping[str, Kind] = {
    **dict.fromkeys(("alias", "description", "value"), str),
    "allowed_workspaces_type": Literal["ALL", "SOME", "NONE"],
    "allowed_workspaces": [str],
}
AUDIT_RANGE: Mapping[str, Kind] = {"start": Count, "size": Count, "start_time": DIGITS, "end_time": DIGITS}
AUDIT_BODY = Shape({**AUDIT_RANGE, "log_type": str, "email": str})
BATCHES_QUERY = Shape({"workspace": str, "username": str, "limit": int, "offset": int})
UPLOAD_BODY = Shape({"batch_id": int, "filename": str, "file_size": SIZE}, ["batch_id", "filename", "file_size"])
END_BODY = Shape({"action": Literal["commit", "abort"], "parts": [{"part_num": int, "part_id": str}]}, ["action"])
NODE_QUERY = Shape({"expect-node-type": Literal["file", "folder"]}, ["expect-node-type"])
NEW_SECRET = Shape({**SECRET, "alias": ALIAS}, ["alias", "value", "allowed_workspaces_type"])
FILES_QUERY = Shape({"page_size": int, "start_token": str})
RETRY = ("IB-Context", "IB-Retry-Config")
MULTIPART = "/v2/batches/multipart-upload"
SESSION = f"{MULTIPART}/sessions/{{session_id}}"
BATCH_FILES = "/v2/batches/{batch_id}/files"
BATCH_FILE = f"{BATCH_FILES}/{{filename}}"
DEPLOYMENT_RUNS = "/v2/apps/deployments/{deployment-id}/runs"
NODE = "/v2/files/{path}"
SECRETS = "/v2/aihub/secrets"

OPERATIONS: tuple[Operation, ...] = (
    Operation("createBatch", "POST", "/v2/batches", (200,), body=BATCH),
    Operation("listBatches", "GET", "/v2/batches", (200,), query=BATCHES_QUERY, default_error=False),
    Operation("createMultipartUploadSession", "POST", MULTIPART, (201, 404), body=UPLOAD_BODY),
    Operation("uploadMultipartPart", "PUT", f"{SESSION}/parts/{{part_num}}", (201,), is_binary=True),
    Operation("commitMultipartUploadSession", "POST", SESSION, (201,), body=END_BODY),
    Operation("pollBatchesJob", "GET", "/v2/batches/jobs/{job_id}", (200,), default_error=False),
    Operation("getBatch", "GET", "/v2/batches/{batch_id}", (200, 404), default_error=False),
    Operation("deleteBatch", "DELETE", "/v2/batches/{batch_id}", (202, 404), default_error=False),
    Operation("listFiles", "GET", BATCH_FILES, (200, 404), query=FILES_QUERY, default_error=False),
    Operation("addFileToBatch", "PUT", BATCH_FILE, (204, 404), is_binary=True),
    Operation("deleteFileFromBatch", "DELETE", BATCH_FILE, (202, 404), default_error=False),
    Operation("runApp", "POST", "/v2/apps/runs", (200,), body=APP_BODY),
    Operation("listRuns", "GET", "/v2/apps/runs", (200,), query=RUNS_QUERY),
    Operation("runDeployment", "POST", DEPLOYMENT_RUNS, (202,), body=DEPLOYMENT_BODY),
    Operation("getRunStatus", "GET", "/v2/apps/runs/{run_id}", (200,)),
    Operation("deleteRun", "DELETE", "/v2/apps/runs/{run_id}", (202,), query=Shape(dict.fromkeys(DELETED, bool))),
    Operation("getRunResults", "GET", "/v2/apps/runs/{run_id}/results", (200,), query=RESULTS_QUERY),
    Operation("jobStatus", "GET", "/v2/jobs/{job_id}", (200,), default_error=False),
    Operation("readFile", "GET", NODE, (200, 206), query=NODE_QUERY, headers=(*RETRY, "Range")),
    # Its description mentions If-None-Match without listing it.
    Operation("writeFile", "PUT", NODE, (201, 204, 412), headers=("IB-Context", "If-None-Match"), is_binary=True),
    Operation("getFileMetadata", "HEAD", NODE, (200, 404), headers=RETRY),
    Operation("deleteFileOrFolder", "DELETE", NODE, (202,)),
    Operation("listSecrets", "GET", SECRETS, (200,), query=Shape({"workspace": str, "alias": str})),
    Operation("createSecret", "POST", SECRETS, (200,), body=NEW_SECRET),
    Operation("updateSecret", "PATCH", SECRETS, (200,), body=Shape(SECRET, ["alias"])),
    Operation("deleteSecret", "DELETE", SECRETS, (200,), body=Shape({"alias": str}, ["alias"])),
    Operation("getAuditLogs", "POST", "/v1/auditlogs", (200,), headers=(), body=AUDIT_BODY),
)
BY_ID: Mapping[str, Operation] = {operation.id: operation for operation in OPERATIONS}
