"""Delete everything that `certify` created, and report what could not be deleted."""

from __future__ import annotations

from fake_aihub.certify.http import Answer, NoAnswer
from fake_aihub.certify.session import FINAL, Hub

MAX_PAGES = 100


def find_lost(hub: Hub) -> None:
    """Find batches and runs whose responses were lost, by the mark in a name or a tag."""
    for kind, path, key in (("batch", "/v2/batches", "batches"), ("run", "/v2/apps/runs", "runs")):
        for number in range(MAX_PAGES):
            try:
                answer = hub.target.send("GET", path, params={"limit": 100, "offset": 100 * number})
                page = answer.json()[key]
                lost = [(kind, str(item["id"])) for item in page if hub.mark in str(item)]
            except (NoAnswer, LookupError, TypeError, ValueError):
                break
            for one in lost:
                if one not in hub.made:
                    hub.note(*one)
            if not page:
                break


def delete_all(hub: Hub) -> list[str]:
    """Delete everything that was created, last first, and list what is not confirmed as deleted."""
    left, jobs = [], []
    while hub.made:
        kind, name = hub.made[-1]
        try:
            answer = _delete(hub, kind, name)
            if not (200 <= answer.status < 300 or answer.status == 404):
                left.append(f"{kind} {name}: the service returned {answer.status}")
            jobs += [(kind, name, job) for job in _jobs(answer)]
        except NoAnswer as error:
            left.append(f"{kind} {name}: no response, {error}")
        except ValueError:
            left.append(f"{kind} {name!a}: invalid id, cannot be requested")
        hub.made.pop()
    states = ((kind, name, _job_state(hub, job)) for kind, name, job in jobs)
    return left + [f"{kind} {name}: deletion is {state}" for kind, name, state in states if state != "COMPLETE"]


def _delete(hub: Hub, kind: str, name: str) -> Answer:
    if kind == "session":
        return hub.target.send("POST", "/v2/batches/multipart-upload/sessions/{}", name, json={"action": "abort"})
    if kind == "run":
        return hub.target.send("DELETE", "/v2/apps/runs/{}", name, params={"delete_input": "false"})
    if kind == "secret":
        return hub.target.send("DELETE", "/v2/aihub/secrets", json={"alias": name})
    return hub.target.send("DELETE", "/v2/files/{}" if kind == "folder" else "/v2/batches/{}", name)


def _jobs(answer: Answer) -> list[str]:
    _, _, named = answer.headers.get("Location", "").partition("/v2/jobs/")
    try:
        body = answer.json() if answer.status == 202 and answer.body else {}
        return [job for key, job in body.items() if key.endswith("job_id") and isinstance(job, str)] + [named] * bool(
            named
        )
    except (ValueError, AttributeError):
        return []


def _job_state(hub: Hub, job: str) -> str:
    begun, pause = hub.target.now(), 0.1
    while True:
        try:
            state = str(hub.target.send("GET", "/v2/jobs/{}", job).json()["state"])
        except (NoAnswer, LookupError, TypeError, ValueError):
            return "not known"
        if state in FINAL or hub.target.now() - begun > hub.options.settle_s:
            return state
        hub.target.sleep(pause)
        pause = min(2 * pause, 5.0)
