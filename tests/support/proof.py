"""Drive every operation with independent clients, and count them.

`PYTHONPATH=tests python -m support.proof` prints the sentence of the README.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
from aihub import AIHub

from fake_aihub import FakeAIHub
from support.contract import OPENAPI, load_operations

GROUPS = ("batches", "apps.runs", "apps.deployments.runs", "jobs", "files", "secrets")
SDK_AGENT = "OpenAPI-Generator/"
REQUESTS_AGENT = "python-requests/"
FOLDER = "/acme/My Workspace/fs/Instabase Drive/proof"


@contextmanager
def open_sdk(root: str, token: str = "fake-sdk", context: str = "acme") -> Iterator[AIHub]:
    """Open the vendor's SDK, and close its connections."""
    client = AIHub(api_key=token, ib_context=context, api_root=root)
    try:
        yield client
    finally:
        client.client.rest_client.pool_manager.clear()


def list_methods(sdk: AIHub) -> set[str]:
    """List the public methods of the SDK, as `batches.create`."""
    kinds = {group: type(operator.attrgetter(group)(sdk)) for group in GROUPS}
    return {f"{group}.{name}" for group, kind in kinds.items() for name in vars(kind) if not name.startswith("_")}


def record_calls(sdk: AIHub) -> set[str]:
    """Record from now on which methods of a client are called and return."""
    called: set[str] = set()
    for method in list_methods(sdk):
        group, _, name = method.rpartition(".")
        owner = operator.attrgetter(group)(sdk)
        setattr(owner, name, _noting(getattr(owner, name), method, called))
    return called


def _noting(function: Callable[..., Any], method: str, called: set[str]) -> Callable[..., Any]:
    def noting(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        called.add(method)
        return result

    return noting


def drive_sdk(sdk: AIHub) -> None:
    """Call every method of the SDK, each with success."""
    batch_id = _drive_batches(sdk)
    run = sdk.apps.runs.create(app_name="Invoice Extraction", batch_id=batch_id)
    assert sdk.apps.runs.status(run.id).status == "COMPLETE"
    assert len(sdk.apps.runs.results(run.id).files) == 1
    deployed = sdk.apps.deployments.runs.create(deployment_id="d-1", batch_id=batch_id)
    assert {found.id for found in sdk.apps.runs.list().runs} == {run.id, deployed.id}
    job_id = sdk.apps.runs.delete(run.id, delete_input=False).delete_output_dir_job_id
    assert sdk.jobs.status(job_id).state
    assert sdk.batches.poll_job(sdk.batches.delete(batch_id).job_id).state
    _drive_files(sdk)
    _drive_secrets(sdk)


def _drive_batches(sdk: AIHub) -> int:
    batch_id: int = sdk.batches.create(name="proof").id
    assert sdk.batches.get(batch_id).name == "proof"
    assert batch_id in {found.id for found in sdk.batches.list().batches}
    sdk.batches.add_file(batch_id, "kept.txt", b"content")
    sdk.batches.add_large_file(batch_id, "large.txt", b"content" * 300)
    session = sdk.batches.create_multipart_upload_session(batch_id, "parts.txt", 7)
    part = sdk.batches.upload_multipart_part(session.session_id, 1, b"content")
    sdk.batches.commit_multipart_upload_session(session.session_id, "commit", [part.to_dict()])
    assert {node.name for node in sdk.batches.list_files(batch_id).nodes} == {"kept.txt", "large.txt", "parts.txt"}
    for name in ("large.txt", "parts.txt"):
        sdk.batches.delete_file(batch_id, name)
    return batch_id


def _drive_files(sdk: AIHub) -> None:
    path = f"{FOLDER}/a.bin"
    sdk.files.write(path, b"\0content\xff")
    assert sdk.files.read(path) == b"\0content\xff"
    assert sdk.files.read(path, range="bytes=1-3") == b"con"
    headers = sdk.files.get_file_metadata(path).headers
    assert {key.lower(): value for key, value in headers.items()}["content-length"] == "9"
    sdk.files.delete(path)


def _drive_secrets(sdk: AIHub) -> None:
    sdk.secrets.create("proof", "value", "ALL")
    sdk.secrets.update("proof", description="changed")
    assert [secret.description for secret in sdk.secrets.list(alias="proof").secrets] == ["changed"]
    sdk.secrets.delete("proof")
    assert sdk.secrets.list(alias="proof").secrets == []


def drive_requests(root: str) -> None:
    """Read the audit log as the vendor's documentation does; the SDK has no method for it."""
    headers = {"Authorization": "Bearer fake-sdk", "IB-Context": "acme"}
    found = requests.post(f"{root}/v1/auditlogs", json={"start": 0, "size": 10}, headers=headers, timeout=10)
    assert found.status_code == 200
    assert found.json()["status"] == "OK"


def count_proven(journal: list[dict[str, Any]], agent: str) -> set[str]:
    """List the operations that succeeded for a client, by its User-Agent."""
    return {
        entry["operation"]
        for entry in journal
        if entry["operation"]
        and 200 <= entry["status"] < 300
        and entry["request_headers"].get("user-agent", "").startswith(agent)
    }


def render_proof(journal: list[dict[str, Any]]) -> str:
    """Render how many operations are proven, and by whom."""
    by_sdk = count_proven(journal, SDK_AGENT)
    by_requests = count_proven(journal, REQUESTS_AGENT) - by_sdk
    total = len(load_operations(OPENAPI))
    return (
        f"Other clients prove {len(by_sdk | by_requests)} of {total} operations: the vendor's SDK {len(by_sdk)}, "
        f"and plain `requests` {len(by_requests)}, where the SDK has no method."
    )


def prove() -> list[dict[str, Any]]:
    """Drive everything against a fake, and return its journal."""
    with FakeAIHub(part_size=1000) as fake:
        with open_sdk(fake.root) as sdk:
            drive_sdk(sdk)
        drive_requests(fake.root)
        return fake.journal


if __name__ == "__main__":
    print(render_proof(prove()))  # noqa: T201
