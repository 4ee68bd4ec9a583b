"""Render the result of `certify`: a report file to send in, and lines for the terminal."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from fake_aihub.addresses import is_loopback
from fake_aihub.certify.http import Exchange
from fake_aihub.certify.redaction import Redaction
from fake_aihub.certify.runner import Certificate, Verdict
from fake_aihub.certify.session import Hub

FORMAT = "aihub-certify-report/1"
OUTCOMES = ("kept", "broken", "skipped")
MAX_SEEN = 200


def make_redaction(hub: Hub, token: str, exchanges: Iterable[Exchange]) -> Redaction:
    """Collect confidential values: from the settings, and the people in the responses."""
    redaction = Redaction(hub.mark, (name for _, name in hub.everything))
    options = hub.options
    named = {"token": token, "context": hub.target.context, "workspace": options.workspace, "folder": options.folder}
    named |= {"app_name": options.app_name, "owner": options.owner, "deployment": options.deployment}
    named |= {"root": hub.target.root, "host": urlsplit(hub.target.root).netloc} | hub.hidden
    for name, value in named.items():
        redaction.hide(value, f"<{name}>")
    for exchange in exchanges:
        redaction.learn(exchange.answer)
    return redaction


def render_report(hub: Hub, certificate: Certificate, redaction: Redaction) -> dict[str, Any]:
    """Render the report. Its format is versioned, and existing keys never change their meaning."""
    body = {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"aihub-runner": _version("aihub-runner"), "requests": _version("requests")}
        | {"python": platform.python_version()},
        "target": _kind(hub),
        "ended": certificate.ended or "complete",
        "counts": {outcome: certificate.count(outcome) for outcome in OUTCOMES},
        "runs_started": hub.runs_tried,
        "measured": {what: _summary(times) for what, times in hub.measured.items()},
        "left_behind": certificate.left_behind,
        "promises": [_render_verdict(verdict) for verdict in certificate.verdicts],
        "cleaning": [asdict(exchange) for exchange in certificate.cleaning],
    }
    return {key: redaction.clean(value) for key, value in body.items()}


def _kind(hub: Hub) -> str:
    if hub.target.is_fake:
        return "fake"
    if is_loopback(urlsplit(hub.target.root).hostname):
        return "loopback"
    return "community" if urlsplit(hub.target.root).hostname == "aihub.instabase.com" else "organisation"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _summary(times: list[float]) -> dict[str, float]:
    return {"times": len(times), "min": min(times), "max": max(times)}


def _render_verdict(verdict: Verdict) -> dict[str, Any]:
    promise = verdict.promise
    rendered: dict[str, Any] = {"id": promise.id, "sentence": promise.sentence, "operations": list(promise.operations)}
    rendered |= {"source": promise.source, "runs": promise.runs, "outcome": verdict.outcome, "why": verdict.why}
    if verdict.outcome == "broken":
        rendered |= {"seen": verdict.seen, "expected": verdict.expected}
    return rendered | {"exchanges": [asdict(exchange) for exchange in verdict.exchanges]}


def plain(text: str) -> str:
    """Escape everything but printable ASCII, so that a response cannot send control codes to the terminal."""
    return json.dumps(text)[1:-1]


def render_line(verdict: Verdict, redaction: Redaction) -> str:
    """Render one verdict for the terminal."""
    promise = verdict.promise
    line = f"{verdict.outcome:8}{promise.id}"
    if verdict.outcome == "skipped":
        return f"{line}: {plain(redaction.clean(verdict.why))}"
    if verdict.outcome == "kept":
        return line
    seen, expected = (json.dumps(redaction.clean(value))[:MAX_SEEN] for value in (verdict.seen, verdict.expected))
    why = plain(redaction.clean(verdict.why))
    return f"{line} ({promise.source}): {promise.sentence}\n        {why}: got {seen}, promised {expected}"
