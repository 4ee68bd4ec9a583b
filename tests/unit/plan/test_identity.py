"""What identifies work never changes: another value would pay for it again."""

import hashlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aihub_runner.plan.identity import short_identity


def test_mark_of_a_file_in_the_lock_file_is_the_one_that_was_written_before() -> None:
    assert short_identity("sha256:" + "0" * 64) == "8715b951b16d3ae7"


@pytest.mark.slow
@given(st.text())
@example('+AIHUB_SECRET_É"\\\x7f\ud800')
def test_mark_of_any_identity_is_a_digest_of_its_json(identity: str) -> None:
    text = json.dumps(["member", 1, identity], separators=(",", ":"))
    assert short_identity(identity) == hashlib.sha256(text.encode()).hexdigest()[:16]
