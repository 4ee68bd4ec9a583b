"""The operations of the API, each with its documented parameters, headers and properties.

A kind is the type of a value: a type, a union of types, a `Literal` of texts, `[kind]` for a list, or a mapping for an
object with known properties. `dict` is an object with arbitrary keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Any


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its query parameters, request headers and body properties by name, and its statuses.

    `statuses` are those that the description names. With `default_error`, every other error status is allowed, too.
    """

    id: str
    method: str
    path: str
    statuses: tuple[int, ...]
    query: Mapping[str, Kind] = field(default_factory=dict)
    headers: tuple[str, ...] = ("IB-Context",)
    body: Mapping[str, Kind] | None = None
    required: tuple[str, ...] = ()
    is_binary: bool = False
    default_error: bool = True


# The description of an app run has no webhook_config. The SDK has a model for it.
SETTINGS: Mapping[str, Kind] = {
    "keys": {"custom": dict, "secret": dict},
    "runtime_config": {"generate_post_process_pdf": bool, "instabase": {"pdf": {"passwords": dict}}},
    "tags": [str],
    "webhook_config": {"url": str, "headers": dict},
}
RUN_BODY: Mapping[str, Kind] = {
    "batch_id": int,
    "input_dir": str,
    "version": str,
    "output_dir": str,
    "settings": SETTINGS,
}
APP_BODY: Mapping[str, Kind] = {**RUN_BODY, "app_name": str, "app_id": str, "owner": str, "output_workspace": str}
# The SDK's method for deployments also takes an output_workspace, which the description omits.
DEPLOYMENT_BODY: Mapping[str, Kind] = {
    **RUN_BODY,
    "manual_upstream_integration": bool,
    "from_timestamp": int | float,
    "to_timestamp": int | float,
    "output_workspace": str,
}
RUNS_QUERY: Mapping[str, Kind] = {
    **dict.fromkeys(("app_id", "app_name", "deployment_id", "username", "run_id"), str),
    "status": [str],
    "output_workspaces": [str],
    **dict.fromkeys(("from_timestamp", "to_timestamp", "limit", "offset"), int),
    "sort_by": Literal["start_timestamp", "status"],
    "order": Literal["ASCENDING", "DESCENDING"],
}
RESULTS_QUERY: Mapping[str, Kind] = {
    "include_review_results": bool,
    "include_confidence_scores": bool,
    "include_validation_results": bool,
    "include_source_info": bool,
    "file_offset": int,
}
DELETE_RUN_QUERY: Mapping[str, Kind] = dict.fromkeys(
    ("delete_db_data", "delete_input", "delete_output", "delete_logs"), bool
)
SECRET_BODY: Mapping[str, Kind] = {
    "alias": str,
    "description": str,
    "value": str,
    "allowed_workspaces_type": Literal["ALL", "SOME", "NONE"],
    "allowed_workspaces": [str],
}
AUDIT_BODY: Mapping[str, Kind] = {
    "start": int,
    "size": int,
    "log_type": str,
    "email": str,
    "start_time": str,
    "end_time": str,
}
BATCHES_QUERY: Mapping[str, Kind] = {"workspace": str, "username": str, "limit": int, "offset": int}
MULTIPART_BODY: Mapping[str, Kind] = {"batch_id": int, "filename": str, "file_size": int | str}
END_BODY: Mapping[str, Kind] = {
    "action": Literal["commit", "abort"],
    "parts": [{"part_num": int, "part_id": str}],
}
RETRY = ("IB-Context", "IB-Retry-Config")
MULTIPART = "/v2/batches/multipart-upload"
SESSION = f"{MULTIPART}/sessions/{{session_id}}"
BATCH_FILES = "/v2/batches/{batch_id}/files"
BATCH_FILE = f"{BATCH_FILES}/{{filename}}"
DEPLOYMENT_RUNS = "/v2/apps/deployments/{deployment-id}/runs"
SECRETS = "/v2/aihub/secrets"

OPERATIONS: tuple[Operation, ...] = (
    Operation("createBatch", "POST", "/v2/batches", (200,), body={"name": str, "workspace": str}, required=("name",)),
    Operation("listBatches", "GET", "/v2/batches", (200,), query=BATCHES_QUERY, default_error=False),
    Operation(
        "createMultipartUploadSession",
        "POST",
        MULTIPART,
        (201, 404),
        body=MULTIPART_BODY,
        required=("batch_id", "filename", "file_size"),
    ),
    Operation("uploadMultipartPart", "PUT", f"{SESSION}/parts/{{part_num}}", (201,), is_binary=True),
    Operation("commitMultipartUploadSession", "POST", SESSION, (201,), body=END_BODY, required=("action",)),
    Operation("pollBatchesJob", "GET", "/v2/batches/jobs/{job_id}", (200,), default_error=False),
    Operation("getBatch", "GET", "/v2/batches/{batch_id}", (200, 404), default_error=False),
    Operation("deleteBatch", "DELETE", "/v2/batches/{batch_id}", (202, 404), default_error=False),
    Operation(
        "listFiles",
        "GET",
        BATCH_FILES,
        (200, 404),
        query={"page_size": int, "start_token": str},
        default_error=False,
    ),
    Operation("addFileToBatch", "PUT", BATCH_FILE, (204, 404), is_binary=True),
    Operation("deleteFileFromBatch", "DELETE", BATCH_FILE, (202, 404), default_error=False),
    Operation("runApp", "POST", "/v2/apps/runs", (200,), body=APP_BODY),
    Operation("listRuns", "GET", "/v2/apps/runs", (200,), query=RUNS_QUERY),
    Operation("runDeployment", "POST", DEPLOYMENT_RUNS, (202,), body=DEPLOYMENT_BODY),
    Operation("getRunStatus", "GET", "/v2/apps/runs/{run_id}", (200,)),
    Operation("deleteRun", "DELETE", "/v2/apps/runs/{run_id}", (202,), query=DELETE_RUN_QUERY),
    Operation("getRunResults", "GET", "/v2/apps/runs/{run_id}/results", (200,), query=RESULTS_QUERY),
    Operation("jobStatus", "GET", "/v2/jobs/{job_id}", (200,), default_error=False),
    Operation(
        "readFile",
        "GET",
        "/v2/files/{path}",
        (200, 206),
        query={"expect-node-type": Literal["file", "folder"]},
        headers=(*RETRY, "Range"),
        required=("expect-node-type",),
    ),
    # Its description mentions If-None-Match without listing it.
    Operation(
        "writeFile",
        "PUT",
        "/v2/files/{path}",
        (201, 204, 412),
        headers=("IB-Context", "If-None-Match"),
        is_binary=True,
    ),
    Operation("getFileMetadata", "HEAD", "/v2/files/{path}", (200, 404), headers=RETRY),
    Operation("deleteFileOrFolder", "DELETE", "/v2/files/{path}", (202,)),
    Operation("listSecrets", "GET", SECRETS, (200,), query={"workspace": str, "alias": str}),
    Operation(
        "createSecret",
        "POST",
        SECRETS,
        (200,),
        body=SECRET_BODY,
        required=("alias", "value", "allowed_workspaces_type"),
    ),
    Operation("updateSecret", "PATCH", SECRETS, (200,), body=SECRET_BODY, required=("alias",)),
    Operation("deleteSecret", "DELETE", SECRETS, (200,), body={"alias": str}, required=("alias",)),
    Operation("getAuditLogs", "POST", "/v1/auditlogs", (200,), headers=(), body=AUDIT_BODY),
)
BY_ID: Mapping[str, Operation] = {operation.id: operation for operation in OPERATIONS}
