"""The vendor's own SDK, an independent oracle, drives the fake through its guide's sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from aihub import AIHub
from aihub.exceptions import NotFoundException, UnauthorizedException

from fake_aihub import FakeAIHub
from support.contract import check_journal
from support.proof import drive_sdk, list_methods, open_sdk, prove, record_calls, render_proof

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sdk(fake: FakeAIHub) -> Iterator[AIHub]:
    with open_sdk(fake.root) as client:
        yield client


def test_every_method_of_the_sdk_is_driven_with_success(sdk: AIHub) -> None:
    called = record_calls(sdk)
    drive_sdk(sdk)
    assert called == list_methods(sdk)


@pytest.mark.needs_openapi
def test_readme_says_how_many_operations_are_proven() -> None:
    journal = prove()
    check_journal(journal)
    assert render_proof(journal) in ROOT.joinpath("README.md").read_text(encoding="utf-8"), render_proof(journal)


def test_sdk_runs_the_whole_sequence_of_the_guide(fake: FakeAIHub, sdk: AIHub, tmp_path: Path) -> None:
    batch = sdk.batches.create(name="guide")
    for number in range(25):
        path = tmp_path / f"{number:02}.txt"
        path.write_text(f"document {number}")
        with path.open("rb") as file:
            sdk.batches.add_file(batch.id, file_name=path.name, file=file)
    run = sdk.apps.runs.create(
        batch_id=batch.id, app_name="Invoice Extraction", owner="instabase", settings={"tags": ["guide"]}
    )
    assert sdk.apps.runs.status(run.id).status == "COMPLETE"
    assert fake.runs()[0]["tags"] == [], "the SDK sends no tags"
    names: list[str] = []
    while True:
        page = sdk.apps.runs.results(run.id, file_offset=len(names), include_confidence_scores=True)
        names += [file.original_file_name for file in page.files]
        if not page.has_more:
            break
    assert names == [f"{number:02}.txt" for number in range(25)]
    document = page.files[0].documents[0]
    assert document.class_name
    assert 0 <= document.fields[0].confidence.model <= 1
    assert page.batch_id == str(batch.id)


def test_sdk_uploads_a_large_file_in_parts_that_arrives_whole(fake: FakeAIHub, sdk: AIHub) -> None:
    content = bytes(range(256)) * 40
    batch = sdk.batches.create(name="parts")
    sdk.batches.add_large_file(batch.id, "large.pdf", content)
    assert fake.files(batch.id) == {"large.pdf": hashlib.sha256(content).hexdigest()}
    [node] = sdk.batches.list_files(batch.id).nodes
    assert (node.name, node.metadata.size) == ("large.pdf", len(content))


def test_sdk_aborts_a_multipart_upload(fake: FakeAIHub, sdk: AIHub) -> None:
    batch = sdk.batches.create(name="abort")
    session = sdk.batches.create_multipart_upload_session(batch.id, "large.pdf", 1500)
    sdk.batches.upload_multipart_part(session.session_id, 1, b"x" * session.part_size)
    sdk.batches.commit_multipart_upload_session(session.session_id, "abort")
    assert fake.files(batch.id) == {}
    with pytest.raises(NotFoundException):
        sdk.batches.upload_multipart_part(session.session_id, 2, b"x" * 500)


def test_sdk_lists_gets_and_deletes_batches_and_files(fake: FakeAIHub, sdk: AIHub) -> None:
    batch = sdk.batches.create(name="one", workspace="w")
    sdk.batches.create(name="two")
    assert [found.name for found in sdk.batches.list().batches] == ["one", "two"]
    assert [found.name for found in sdk.batches.list(workspace="w").batches] == ["one"]
    assert [found.name for found in sdk.batches.list(limit=1, offset=1).batches] == ["two"]
    assert sdk.batches.get(batch.id).name == "one"
    sdk.batches.add_file(batch.id, "a b#%?&.txt", b"content")
    assert [node.name for node in sdk.batches.list_files(batch.id).nodes] == ["a b#%?&.txt"]
    sdk.batches.delete_file(batch.id, "a b#%?&.txt")
    assert sdk.batches.list_files(batch.id).nodes == []
    job = sdk.batches.delete(batch.id)
    assert sdk.batches.poll_job(job.job_id).state == "RUNNING"
    fake.clock.advance(1)
    assert sdk.jobs.status(job.job_id).state == "COMPLETE"
    with pytest.raises(NotFoundException):
        sdk.batches.get(batch.id)


def test_sdk_runs_a_deployment_and_lists_and_deletes_runs(fake: FakeAIHub, sdk: AIHub) -> None:
    batch = sdk.batches.create(name="deployed")
    sdk.batches.add_file(batch.id, "a.txt", b"content")
    run = sdk.apps.deployments.runs.create(deployment_id="d-1", batch_id=batch.id)
    assert [found.id for found in sdk.apps.runs.list(deployment_id="d-1").runs] == [run.id]
    assert sdk.apps.runs.list(deployment_id="d-2").runs == []
    sdk.apps.runs.delete(run.id)
    assert sdk.apps.runs.list().runs == []
    with pytest.raises(NotFoundException):
        sdk.batches.get(batch.id)


def test_sdk_with_a_real_token_is_refused(fake: FakeAIHub) -> None:
    with open_sdk(fake.root, token="a-real-token") as client, pytest.raises(UnauthorizedException):
        client.batches.list()


def test_sdk_sends_neither_tags_nor_a_webhook(fake: FakeAIHub, sdk: AIHub) -> None:
    batch = sdk.batches.create(name="settings")
    sdk.batches.add_file(batch.id, file_name="a.txt", file=b"a")
    settings = {"tags": ["guide"], "webhook_config": {"url": "http://127.0.0.1:9/"}}
    sdk.apps.runs.create(batch_id=batch.id, app_name="Invoice Extraction", settings=settings)
    [sent] = [one["request_json"] for one in fake.journal if one["operation"] == "runApp"]
    assert sent["settings"] == {}
