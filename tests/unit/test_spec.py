"""Specs: what they mean, and every mistake with its line and a way out."""

from pathlib import Path

import pytest

from runner.errors import SpecErrors
from runner.fingerprint import run_key, run_settings
from runner.model import Target
from runner.spec import Spec, parse_spec

SHORT = 'files = "in/*"\napp_name = "A"\n'
TARGET = Target("https://x", "acme", "")


def parse(text: str) -> Spec:
    return parse_spec(text, Path("invoices.toml"))


def mistakes(text: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        parse(text)
    return [f"{mistake.message} / {mistake.hint}" for mistake in caught.value.mistakes]


def test_spec_of_two_lines_has_the_documented_defaults() -> None:
    spec = parse(SHORT)
    assert (spec.name, spec.files, spec.app_name, spec.context) == ("invoices", ("in/*",), "A", None)
    limits = spec.limits
    assert (limits.files_per_batch, limits.parallel_uploads, limits.parallel_runs) == (1000, 16, 10)
    assert (limits.settle_s, limits.poll_min_s, limits.poll_max_s) == (60, 0.5, 30)
    assert spec.results.dir_for(spec.name) == "results/invoices"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHORT + 'ownr = "me"\n', "invoices.toml:3: unknown key 'ownr' / did you mean 'owner'?"),
        (SHORT + 'version = "1"\n', "invoices.toml:3: unknown key 'version' / it belongs in [run]"),
        (SHORT + "[limits]\nfiles_per_batch = 0\n", "invoices.toml:4: limits.files_per_batch is less than 1, 0"),
        (SHORT + '[limits]\nfiles_per_batch = "5"\n', "invoices.toml:4: limits.files_per_batch is not a whole number"),
        (
            SHORT + "[limits]\nparallel_runs = true\n",
            "invoices.toml:4: limits.parallel_runs is not a whole number, true",
        ),
        (
            SHORT + "[limits]\npoll_min_s = 40\n",
            "invoices.toml:3: limits have poll_min_s larger than poll_max_s, 40 and 30",
        ),
        (SHORT + "limits.settle_s = -1\n", "invoices.toml:3: limits.settle_s is not more than 0"),
        (SHORT + 'app_id = "B"\n', "invoices.toml:3: exactly one of app_name, app_id and deployment_id is needed, 2"),
        ('files = "x"\n', "exactly one of app_name, app_id and deployment_id is needed, 0 are given"),
        ('app_name = "A"\n', "invoices.toml: files is missing / add files"),
        ('files = []\napp_name = "A"\n', "invoices.toml:1: files leaves out everything"),
        ('files = ["!x"]\napp_name = "A"\n', "invoices.toml:1: files leaves out everything"),
        ('files = [5]\napp_name = "A"\n', "invoices.toml:1: entry 1 of files is not a text, 5"),
        (SHORT + 'name = "a/b"\n', "invoices.toml:3: name is not 1 to 100 letters"),
        (SHORT + 'owner = ""\n', "invoices.toml:3: owner is empty"),
        ('files = "x"\ndeployment_id = "d"\nowner = "o"\n', "deployment_id takes neither owner nor"),
        (
            SHORT + '[results]\ninclude = ["colour"]\n',
            "invoices.toml:4: entry 1 of results.include is not 'confidence'",
        ),
        (SHORT + f'[run]\ntags = ["{"x" * 381}"]\n', "run.tags are 381 characters together, 380 are allowed"),
        (SHORT + '[run]\ntags = ["aihub-runner:x"]\n', "run.tags may not begin with aihub-runner:"),
        (
            SHORT + '[run.webhook]\nurl = "http://example.com"\n',
            "invoices.toml:4: run.webhook.url must begin with https",
        ),
        (
            SHORT + '[run.pdf_passwords]\n"a.pdf" = { env = "PATH" }\n',
            "invoices.toml:4: run.pdf_passwords.'a.pdf'.env is a secret in plain text, or",
        ),
        ("files = \n", "invoices.toml:1:9: is not TOML, invalid value"),
    ],
)
def test_spec_mistake_is_told_with_its_line(text: str, expected: str) -> None:
    assert any(expected in told for told in mistakes(text)), mistakes(text)


def test_spec_mistakes_are_told_all_at_once_in_order() -> None:
    text = 'files = "x"\napp_name = 5\nownr = "x"\n[limits]\nsettle_s = "now"\n'
    assert [told.split(":")[1] for told in mistakes(text)] == ["2", "3", "5"]


@pytest.mark.parametrize(
    "text",
    [
        'api_key = "s3cret"\n',
        '[run]\ntoken = "s3cret"\n',
        '[run.webhook]\nurl = "https://x.y"\npassword = "s3cret"\n',
        '[run.pdf_passwords]\n"a.pdf" = "s3cret"\n',
        '[run.webhook]\nurl = "https://x.y"\nheaders.Authorization = "s3cret"\n',
    ],
)
def test_spec_with_a_secret_is_refused_without_repeating_it(text: str) -> None:
    told = mistakes(SHORT + text)
    assert "s3cret" not in str(told)
    assert any("AIHUB_SECRET_" in line for line in told)


def test_spec_name_from_a_stem_that_does_not_fit_asks_for_a_name() -> None:
    with pytest.raises(SpecErrors) as caught:
        parse_spec(SHORT, Path("Rechnungen für März.toml"))
    assert caught.value.hint == "set name in the spec"


def test_spec_context_empty_is_meant() -> None:
    assert parse('context = ""\n' + SHORT).context == ""


FLIPS = {
    "app_name": (SHORT, SHORT.replace('"A"', '"B"')),
    "owner": (SHORT, SHORT + 'owner = "o"\n'),
    "version": (SHORT, SHORT + '[run]\nversion = "1"\n'),
    "custom": (SHORT, SHORT + '[run.keys.custom]\na = "1"\n'),
    "secret": (SHORT, SHORT + '[run.keys.secret]\na = "alias"\n'),
    "pdf": (SHORT, SHORT + "[run]\ngenerate_post_process_pdf = true\n"),
    "output_workspace": (SHORT, SHORT + '[run]\noutput_workspace = "w"\n'),
    "output_dir": (SHORT, SHORT + '[run]\noutput_dir = "/d"\n'),
}
KEEPS = {
    "name": SHORT + 'name = "other"\n',
    "files": SHORT.replace("in/*", "out/*"),
    "tags": SHORT + '[run]\ntags = ["t"]\n',
    "webhook": SHORT + '[run.webhook]\nurl = "https://x.y"\n',
    "on_lost": SHORT + '[run]\non_lost = "stop"\n',
    "results": SHORT + '[results]\ninclude = ["review"]\ndir = "elsewhere"\n',
    "limits": SHORT + "[limits]\nfiles_per_batch = 3\n",
    "default": SHORT + "[run]\ngenerate_post_process_pdf = false\n[run.keys.custom]\n",
    "comments": "# hello\n\n" + SHORT + "# bye\n",
    "order": 'app_name = "A"\nfiles = "in/*"\n',
    "passwords": SHORT + '[run.pdf_passwords]\n"a.pdf" = { env = "AIHUB_SECRET_A" }\n',
}


def key_of(text: str, target: Target = TARGET) -> str:
    return run_key(run_settings(parse(text), target))


@pytest.mark.parametrize("name", FLIPS)
def test_run_key_changes_with_what_changes_the_outcome(name: str) -> None:
    before, after = FLIPS[name]
    assert key_of(before) != key_of(after)


@pytest.mark.parametrize("name", KEEPS)
def test_run_key_stays_with_what_does_not(name: str) -> None:
    assert key_of(KEEPS[name]) == key_of(SHORT)


@pytest.mark.parametrize(
    "target", [Target("https://y", "acme", ""), Target("https://x", "", ""), Target("https://x", "acme", "w")]
)
def test_run_key_changes_with_the_target(target: Target) -> None:
    assert key_of(SHORT, target) != key_of(SHORT)


def test_run_key_of_this_version_is_the_same_for_ever() -> None:
    assert key_of(SHORT) == "c3e975899d48bf08"
