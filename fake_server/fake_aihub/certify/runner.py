"""Check promises on a target one after another, and always delete what was created for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from fake_aihub.certify.deletion import delete_all, find_lost
from fake_aihub.certify.http import Exchange, NoAnswer
from fake_aihub.certify.promise import Broken, Promise, Skipped
from fake_aihub.certify.session import Hub


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a promise: kept, broken or skipped, and why. `is_unanswered` means that no response arrived."""

    promise: Promise
    outcome: str
    why: str = ""
    seen: Any = None
    expected: Any = None
    exchanges: tuple[Exchange, ...] = ()
    is_unanswered: bool = False


@dataclass(slots=True)
class Certificate:
    """The result of the suite. `ended` is "" if the suite is complete, else what stopped it."""

    verdicts: list[Verdict] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    cleaning: list[Exchange] = field(default_factory=list)
    ended: str = ""

    def count(self, outcome: str) -> int:
        """Return the number of promises with an outcome."""
        return sum(verdict.outcome == outcome for verdict in self.verdicts)


def certify(hub: Hub, promises: Iterable[Promise], on_verdict: Callable[[Verdict], None]) -> Certificate:
    """Check the promises one after another, and always delete what was created."""
    certificate = Certificate()
    try:
        for promise in promises:
            verdict = _try(hub, promise)
            certificate.verdicts.append(verdict)
            on_verdict(verdict)
            if verdict.is_unanswered and not _is_there(hub):
                certificate.ended = "unreachable"
                break
    except KeyboardInterrupt:
        certificate.ended = "interrupted"
    finally:
        _clean_up(hub, certificate)
    return certificate


def _clean_up(hub: Hub, certificate: Certificate) -> None:
    del hub.target.exchanges[:]
    try:
        if certificate.ended or any(verdict.is_unanswered for verdict in certificate.verdicts):
            find_lost(hub)
        certificate.left_behind += delete_all(hub)
    except KeyboardInterrupt:
        certificate.ended = "interrupted"
        certificate.left_behind += [f"{kind} {name}: deletion unconfirmed" for kind, name in hub.made]
    certificate.cleaning = list(hub.target.exchanges)


def _try(hub: Hub, promise: Promise) -> Verdict:
    missing = [f"--{name.replace('_', '-')}" for name in promise.needs if not getattr(hub.options, name)]
    if promise.runs > hub.options.max_runs:
        return Verdict(promise, "skipped", _lacks_runs(promise.runs, hub.options.max_runs))
    if missing:
        return Verdict(promise, "skipped", f"needs {' and '.join(missing)}")
    del hub.target.exchanges[:]
    verdict = _check(hub, promise)
    return replace(verdict, exchanges=tuple(hub.target.exchanges))


def _lacks_runs(needed: int, allowed: int) -> str:
    return f"needs {needed} run{'s' * (needed != 1)}, {allowed or 'none'} allowed: see --max-runs and --yes"


def _check(hub: Hub, promise: Promise) -> Verdict:
    try:
        promise.check(hub)
    except Broken as broken:
        return Verdict(promise, "broken", broken.what, broken.seen, broken.expected)
    except Skipped as skipped:
        return Verdict(promise, "skipped", str(skipped))
    except NoAnswer as error:
        return Verdict(promise, "broken", f"no response: {error}", None, "an answer", is_unanswered=True)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # The response has another structure than promised.
        return Verdict(promise, "broken", "structure of a response", f"{type(error).__name__}: {error}", "as described")
    return Verdict(promise, "kept")


def _is_there(hub: Hub) -> bool:
    try:
        hub.target.send("GET", "/v2/batches", params={"limit": 1})
    except NoAnswer:
        return False
    return True
