"""A token that is replaced during an apply: it is read again, and nothing is paid twice."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from support.proxy import BATCHES, FILE, RESULTS, RUN_LIST, RUNS, Answer, Call, Proxy, answer_instead
from support.world import check_paid_once

from .conftest import Project

OLD, NEW = "fake-old", "fake-new"


@dataclass
class Vault:
    """A proxy that accepts one token, and a file that has it."""

    project: Project
    proxy: Proxy
    accepted: str = OLD
    refused: int = 0
    tokens: set[str] = field(default_factory=set)

    def write(self, token: str) -> None:
        self.project.write("secrets/AIHUB_API_KEY", token)
        self.project.write("secrets/AIHUB_API_ROOT", self.proxy.root)

    def guard(self, call: Call) -> Answer | None:
        self.tokens.add(call.token)
        if call.token == self.accepted:
            return call.forward()
        self.refused += 1
        return answer_instead(401)(call)

    def rotate(self, method: str, path: str, *, nth: int = 1, delivers: bool = False) -> None:
        """Accept another token from this request on, and write it into the file."""

        def act(call: Call) -> Answer | None:
            self.write(NEW)  # first, for other requests are under way
            self.accepted = NEW
            if delivers:
                call.forward()
            return self.guard(call)

        self.proxy.on(method, path, act, nth=nth)
        self.proxy.always("*", ".*", self.guard)


@pytest.fixture
def vault(project: Project, proxy: Proxy) -> Vault:
    project.env |= {"AIHUB_API_KEY": None, "AIHUB_API_ROOT": None, "AIHUB_SECRETS_DIR": str(project.folder / "secrets")}
    project.change_spec("[limits]", "[limits]\nparallel_uploads = 2\nfiles_per_batch = 3")
    project.write_files(6)
    made = Vault(project, proxy)
    made.write(OLD)
    return made


MOMENTS = {
    "the first look": ("GET", RUN_LIST, 1),
    "a batch": ("POST", BATCHES, 1),
    "a second batch": ("POST", BATCHES, 2),
    "the first file": ("PUT", FILE, 1),
    "a file over an open connection": ("PUT", FILE, 5),
    "a run": ("POST", RUNS, 1),
    "a second run": ("POST", RUNS, 2),
    "results": ("GET", RESULTS, 1),
}


@pytest.mark.parametrize(("method", "path", "nth"), MOMENTS.values(), ids=MOMENTS)
@pytest.mark.slow
def test_rotated_token_is_read_again_at_any_moment(vault: Vault, method: str, path: str, nth: int) -> None:
    vault.rotate(method, path, nth=nth)
    outcome = vault.project.apply()
    assert outcome.code == 0, outcome.text
    assert vault.refused >= 1
    assert len({one["path"] for one in vault.project.documents}) == 6
    check_paid_once(vault.project.fake, 6)
    assert NEW not in outcome.text


@pytest.mark.parametrize("path", [BATCHES, RUNS])
def test_request_that_was_delivered_and_refused_for_its_token_is_found(vault: Vault, path: str) -> None:
    vault.rotate("POST", path, delivers=True)
    outcome = vault.project.apply()
    assert outcome.code == 0, outcome.text
    check_paid_once(vault.project.fake, 6)
    assert len(vault.project.fake.runs()) == 2


def test_token_that_stays_the_same_ends_it_with_4(vault: Vault) -> None:
    vault.rotate("PUT", FILE, nth=2)
    vault.write = lambda token: None  # type: ignore[method-assign]
    outcome = vault.project.apply()
    assert (outcome.code, vault.project.fake.runs()) == (4, [])
    assert "401" in outcome.err


@pytest.mark.parametrize("moved", ["to another root", "to a stronger source"])
def test_token_is_not_sent_where_it_may_not_belong(vault: Vault, moved: str) -> None:
    def write(token: str) -> None:
        if moved == "to another root":
            vault.project.write("secrets/AIHUB_API_KEY", token)
            vault.project.write("secrets/AIHUB_API_ROOT", "https://thief.example/api")
        else:
            vault.project.write(".env", f"AIHUB_API_KEY={token}\nAIHUB_API_ROOT={vault.proxy.root}\n")

    vault.write = write  # type: ignore[method-assign]
    vault.rotate("PUT", FILE, nth=2)
    assert vault.project.apply().code == 4
    assert vault.tokens == {OLD}
