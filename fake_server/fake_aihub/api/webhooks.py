"""Webhooks: call a URL when a run ends, and retry failed calls."""

from __future__ import annotations

import asyncio
import json
import re
from contextvars import Context
from typing import Any
from urllib.parse import SplitResult, urlsplit

from fake_aihub.addresses import is_loopback
from fake_aihub.api.lifecycle import FINAL, render_run
from fake_aihub.api.service import Service
from fake_aihub.redact import LEFT_OUT
from fake_aihub.world.entities import ApiError, Run

TRIES = 4
AT_ONCE = 20
TIMEOUT_S = 5.0
TICK_S = 0.05
NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]{0,4000}")
PATH = re.compile(r"[\x21-\x7e]*")
OWN_HEADERS = ("host", "content-length", "content-type", "connection", "transfer-encoding", "expect")


def check_webhook(config: dict[str, Any] | None) -> None:
    """Check the webhook settings of a run. Raises ApiError 400."""
    if config is None or not config.get("url"):
        return
    try:
        url = urlsplit(config["url"])
        is_good = url.scheme in ("http", "https") and bool(url.hostname) and url.username is None and url.port != 0
    except ValueError:
        is_good = False
    if not is_good or len(config["url"]) > 2000 or not PATH.fullmatch(config["url"]):
        raise ApiError(400, "settings.webhook_config.url must be an http or https URL.")
    for name, value in (config.get("headers") or {}).items():
        if not (isinstance(value, str) and NAME.fullmatch(name) and VALUE.fullmatch(value)):
            raise ApiError(400, "settings.webhook_config.headers are not valid HTTP headers.")


def watch(service: Service) -> None:
    """Start a background task that calls webhooks when their runs end. Returns at once."""
    if service.world.due_webhooks and (service.webhook_task is None or service.webhook_task.done()):
        # Use a fresh context: a fault may skew the clock of the current request.
        service.webhook_task = asyncio.create_task(_call_all(service), context=Context())


async def _call_all(service: Service) -> None:
    while service.world.due_webhooks:
        runs = [service.world.runs[run_id] for run_id in list(service.world.due_webhooks)]
        due = [run for run in runs if _is_due(service, run)]
        await asyncio.gather(*(_call(service, run) for run in due[:AT_ONCE]))
        # The fake's clock decides whether a call is due. The polling interval uses real time.
        await asyncio.sleep(TICK_S)


def _is_due(service: Service, run: Run) -> bool:
    if render_run(service, run)["status"] not in FINAL:
        return False
    wait_s = 2.0 ** (len(run.webhook) - 1)
    return not run.webhook or service.clock.now_s() >= run.webhook[-1]["at_s"] + wait_s


async def _call(service: Service, run: Run) -> None:
    config = run.request["settings"]["webhook_config"]
    url, outcome, is_last = urlsplit(config["url"]), "", True
    if not service.allow_webhooks and not is_loopback(url.hostname):
        outcome = "not called, the address is not on this machine"
    else:
        body = json.dumps(render_run(service, run)).encode()
        outcome = await _post(url, config.get("headers") or {}, body)
        is_last = outcome.startswith("2") or len(run.webhook) + 1 >= TRIES
    service.world.note_webhook(run.id, outcome, is_last)


async def _post(url: SplitResult, headers: dict[str, str], body: bytes) -> str:
    """Send a POST and return the status of the response, or the error. Redirects are not followed."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await _exchange(url, _render_request(url, headers, body))
    except TimeoutError:
        return "no response in time"
    except (OSError, ValueError) as error:
        return f"no response, {type(error).__name__}"


async def _exchange(url: SplitResult, request: bytes) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    reader, writer = await asyncio.open_connection(url.hostname, port, ssl=url.scheme == "https" or None)
    try:
        writer.write(request)
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    status = re.match(rb"HTTP/1\.[01] (\d{3})", line)
    return status[1].decode() if status else "invalid HTTP response"


def _render_request(url: SplitResult, headers: dict[str, str], body: bytes) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    sent = {
        "Host": url.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **{key: value for key, value in headers.items() if key.lower() not in OWN_HEADERS and value != LEFT_OUT},
    }
    lines = [f"POST {target} HTTP/1.1", *(f"{key}: {value}" for key, value in sent.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
