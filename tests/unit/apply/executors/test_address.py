from __future__ import annotations

import pytest

from aihub_runner.apply.executors.address import Scheduler, parse_scheduler
from aihub_runner.errors import InputError


@pytest.mark.parametrize(
    ("text", "insecure", "found"),
    [
        ("tls://host:8786", False, Scheduler("tls://host:8786")),
        ("tls://[::1]:8786", False, Scheduler("tls://[::1]:8786")),
        ("tcp://10.0.0.1:8786", True, Scheduler("tcp://10.0.0.1:8786")),
        ("local:4", False, Scheduler(processes=4)),
    ],
)
def test_scheduler_is_an_address_or_a_number_of_processes(text: str, insecure: bool, found: Scheduler) -> None:
    assert parse_scheduler(text, insecure=insecure) == found


@pytest.mark.parametrize(
    "text",
    [
        *("tcp://host:8786", "http://host:80", "tls://host", "tls://host:99999", "tls://host:1/path", "tls://host:1?a"),
        *(
            "tls://user:secret@host:1",
            "tls://ho\x1bst:1",
            "tls://",
            "host:8786",
            "local:",
            "local:0",
            "local:65",
            "ws://h:1",
        ),
    ],
)
def test_anything_else_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_scheduler(text, insecure=False)
    assert "--scheduler" in raised.value.message
    assert "\x1b" not in raised.value.message
