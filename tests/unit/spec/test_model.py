"""Specs: what they mean, and every mistake with its line and a fix."""

import re
import tomllib
import traceback
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihub_runner.errors import SpecErrors, SpecMistake
from aihub_runner.model import Target
from aihub_runner.plan.identity import run_key, run_settings
from aihub_runner.sources.scan import scan_sources
from aihub_runner.spec.kinds import render_schema
from aihub_runner.spec.model import Spec
from aihub_runner.spec.parsing import parse_as, parse_spec
from aihub_runner.spec.targets import Choice

SHORT = 'files = "in/*"\napp_name = "A"\n'
TARGET = Target("https://x", "acme", "")
SPECS = Path(__file__).parents[3] / "specs"
SNIPPETS = [
    'files = "x"',
    "files = 5",
    'app_name = "A"',
    "app_id = []",
    "[run]",
    "[run.webhook]",
    "[limits]",
    "settle_s = 1e999",
    'tags = ["", 5]',
    "keys = 2026-01-01",
    "[[results]]",
    "include = [[1]]",
    "[run.keys.custom]",
    '"" = nan',
    'url = "ä"',
    'headers = { "" = 1 }',
    "max_runs = -1",
    "on_lost = {}",
    'name = "\\u0000"',
    'pdf_passwords."!" = { env = 1 }',
]


def parse(text: str) -> Spec:
    return parse_spec(text, Path("invoices.toml"))


def mistakes(text: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        parse(text)
    told = [f"{mistake.message} / {mistake.hint}" for mistake in caught.value.mistakes]
    return [re.sub(r"^(\S+?:\d+):\d+:", r"\1:", line) for line in told]  # without the column


def excerpts(text: str) -> str:
    with pytest.raises(SpecErrors) as caught:
        parse(text)
    return "\n".join(mistake.excerpt for mistake in caught.value.mistakes if isinstance(mistake, SpecMistake))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("files = 5\napp_name = 'A'", "  1 | files = 5\n    | ^^^^^"),
        (SHORT + "[limits]\n\tsettle_s = -1", "  4 |  settle_s = -1\n    |  ^^^^^^^^"),
        (SHORT + "limits.'ü 漢' . x = 1", "  3 | limits.'ü 漢' . x = …\n    | ^^^^^^^^^^^^^^^^^"),
        (SHORT + "[ rum ]", "  3 | [ rum ]\n    |   ^^^"),
        (
            SHORT + "run = { version = 3, tags = ['s3cret'] }",
            "  3 | run = { ………………… = …, ………… = ['………………'] }\n    | ^^^",
        ),
        (SHORT + "token = 's3cret", "  3 | token = '………………\n    |                ^"),
        (SHORT + "tokn = 's3cret'", "  3 | tokn = '………………'\n    | ^^^^"),
        (SHORT + "[run.webhook]\nheaders.x = [\n's3cret\n]", "  6 | ]\n    |  ^"),
        (SHORT + f"tags = [{'1,' * 60}\x07]", "  3 | ,…,…,…,…,"),
        (SHORT + "owner = 5 # \x1b", "  3 | owner = …"),
    ],
)
def test_mistake_shows_its_line_with_carets_and_no_secret(text: str, shown: str) -> None:
    assert excerpts(text).startswith(shown), excerpts(text)
    assert "s3cret" not in excerpts(text)


def test_spec_of_two_lines_has_the_documented_defaults() -> None:
    spec = parse(SHORT)
    assert (spec.name, spec.files, spec.app_name, spec.context) == ("invoices", ("in/*",), "A", None)
    limits = spec.limits
    assert (limits.files_per_batch, limits.parallel_uploads, limits.parallel_runs) == (1000, 64, 10)
    assert (limits.settle_s, limits.poll_min_s, limits.poll_max_s) == (60, 0.4, 30)
    assert spec.results.dir_for(spec.name) == "results/invoices"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHORT + 'ownr = "me"\n', "invoices.toml:3: unknown key 'ownr' / did you mean 'owner'?"),
        (SHORT + 'version = "1"\n', "invoices.toml:3: unknown key 'version' / it belongs in [run]"),
        (SHORT + "[limits]\nfiles_per_batch = 0\n", "invoices.toml:4: limits.files_per_batch must be at least 1, 0"),
        (SHORT + '[limits]\nfiles_per_batch = "5"\n', "invoices.toml:4: limits.files_per_batch is not an integer"),
        (
            SHORT + "[limits]\nparallel_runs = true\n",
            "invoices.toml:4: limits.parallel_runs is not an integer, true",
        ),
        (
            SHORT + "[limits]\npoll_min_s = 40\n",
            "invoices.toml:3: limits have poll_min_s larger than poll_max_s, 40 and 30",
        ),
        (SHORT + "limits.settle_s = -1\n", "invoices.toml:3: limits.settle_s must be greater than 0"),
        (SHORT + 'app_id = "B"\n', "invoices.toml:3: exactly one of app_name, app_id and deployment_id is required, 2"),
        ('files = "x"\n', "exactly one of app_name, app_id and deployment_id is required, 0 are set"),
        ('app_name = "A"\n', "invoices.toml: files is missing / add files"),
        ('files = []\napp_name = "A"\n', "invoices.toml:1: files excludes files, but includes none"),
        ('files = ["!x"]\napp_name = "A"\n', "invoices.toml:1: files excludes files, but includes none"),
        ('files = [5]\napp_name = "A"\n', "invoices.toml:1: entry 1 of files is not a string, 5"),
        (SHORT + 'name = "a/b"\n', "invoices.toml:3: name is not 1 to 100 letters"),
        (SHORT + 'owner = ""\n', "invoices.toml:3: owner is empty"),
        ('files = "x"\ndeployment_id = "d"\nowner = "o"\n', "deployment_id cannot be combined with owner or"),
        (
            SHORT + '[results]\ninclude = ["colour"]\n',
            "invoices.toml:4: entry 1 of results.include is not 'confidence'",
        ),
        (SHORT + f'[run]\ntags = ["{"x" * 381}"]\n', "run.tags are too long, 381 characters in total, at most 380"),
        (SHORT + '[run]\ntags = ["aihub-runner:x"]\n', "run.tags must not begin with aihub-runner:"),
        (
            SHORT + '[run.webhook]\nurl = "http://example.com"\n',
            "invoices.toml:4: run.webhook.url must begin with https",
        ),
        (
            SHORT + '[run.pdf_passwords]\n"a.pdf" = { env = "PATH" }\n',
            "invoices.toml:4: run.pdf_passwords.'a.pdf'.env is a secret in plain text, or",
        ),
        (
            SHORT + '[limits]\nsettle_s = "5"\n',
            "invoices.toml:4: limits.settle_s is not a number, '5' / write a number",
        ),
        (SHORT + "[limits]\nsettle_s = true\n", "invoices.toml:4: limits.settle_s is not a number, true"),
        (SHORT + "[limits]\nsettle_s = inf\n", "invoices.toml:4: limits.settle_s is not a finite number, inf"),
        (SHORT + "[limits]\nread_timeout_s = 1e300\n", "limits.read_timeout_s must be at most 86400, 1e+300"),
        (SHORT + "[limits]\nfiles_per_batch = 2000000\n", "limits.files_per_batch must be at most 1000000, 2000000"),
        (SHORT + "[limits]\nfiles_per_batch = 1.5\n", "limits.files_per_batch is not an integer, 1.5"),
        (SHORT + 'name = ".."\n', "invoices.toml:3: name is not 1 to 100 letters"),
        (SHORT + "name = 5\n", "invoices.toml:3: name is not a string, 5 / put it in quotes"),
        (SHORT + f'name = "{"x" * 101}"\n', "invoices.toml:3: name is not 1 to 100 letters"),
        (SHORT + 'owner = " "\n', "invoices.toml:3: owner is blank / fill it in, or remove the key"),
        (SHORT + 'context = "a\\nX-Evil: 1"\n', "invoices.toml:3: context contains invalid characters or spaces"),
        (SHORT + 'context = "größe"\n', "invoices.toml:3: context contains invalid characters or spaces"),
        (SHORT + '[results]\ninclude = ["review", "review"]\n', "invoices.toml:4: results.include has review twice"),
        (SHORT + '[results]\ninclude = "review"\n', "invoices.toml:4: results.include is not a list, 'review'"),
        (SHORT + '[results]\ndir = "x/.."\n', "invoices.toml:4: results.dir is the folder of the spec, or contains it"),
        (SHORT + '[results]\ndir = "./in"\n', "invoices.toml:4: files matches the results folder, in/*"),
        (SHORT + '[run]\non_lost = "pay"\n', "invoices.toml:4: run.on_lost is not 'look' or 'stop', 'pay'"),
        (SHORT + "[run]\nkeys.custom.d = 2026-01-01\n", "invoices.toml:4: run.keys.custom.d is a date or time"),
        (
            SHORT + "[run.keys.custom]\na = [{ b = nan }]\n",
            "invoices.toml:4: run.keys.custom.a.0.b is not a finite number, nan",
        ),
        (SHORT + "[run.webhook]\n", "invoices.toml:3: run.webhook.url is missing / add url"),
        (SHORT + '[run.webhook]\nurl = "http://localhost:x"\n', "invoices.toml:4: run.webhook.url is not a URL"),
        (SHORT + '[run.webhook]\nurl = "https://x y"\n', "invoices.toml:4: run.webhook.url is not a plain URL"),
        (
            SHORT + '[run.webhook]\nurl = "https://x"\nheaders = { "a b" = { env = "AIHUB_SECRET_A" } }\n',
            "invoices.toml:5: run.webhook.headers.'a b' is not a valid header name",
        ),
        (SHORT + '[run.pdf_passwords]\n"a.pdf" = {}\n', "invoices.toml:4: run.pdf_passwords.'a.pdf'.env is missing"),
        (SHORT + '[run.wehbook]\nurl = "x"\n', "invoices.toml:3: unknown key 'wehbook' / did you mean 'webhook'?"),
        (SHORT + "[[run]]\n", "invoices.toml:3: run is not a table, a list"),
        (SHORT + '[limits]\ncontext = "x"\n', "invoices.toml:4: unknown key 'context' / it belongs at the top"),
        (SHORT + "max_runs = 5\n", "invoices.toml:3: unknown key 'max_runs' / it belongs in [limits]"),
        (SHORT + '[run]\nenv = "x"\n', "invoices.toml:4: unknown key 'env' / remove it"),
        (
            SHORT + 'deployment_id = "d"\n',
            "invoices.toml:3: exactly one of app_name, app_id and deployment_id is required, 2",
        ),
        (
            'files = "x"\ndeployment_id = "d"\n[run]\noutput_workspace = "w"\n',
            "invoices.toml:4: deployment_id cannot be combined with owner or output_workspace, output_workspace is",
        ),
        ('files = ["a", ""]\napp_name = "A"\n', "invoices.toml:1: entry 2 of files is empty"),
        ('files = "!"\napp_name = "A"\n', "invoices.toml:1: entry 1 of files is empty"),
        ('files = "*/../b"\napp_name = "A"\n', "invoices.toml:1: entry 1 of files has .. after a wildcard"),
        ('files = "{1..9999}"\napp_name = "A"\n', "entry 1 of files expands to more than 1000 patterns"),
        ("a = " + "[" * 100_000, "invoices.toml: too deeply nested"),
        ("a" + ".a" * 5000 + " = 1", "invoices.toml: too deeply nested"),
        ("a = " + "9" * 5000, "invoices.toml: too deeply nested, or contains too large a number"),
        (SHORT + 'x = """\nunclosed', "invoices.toml:4: invalid TOML, "),
        ("files = \n", "invoices.toml:1: invalid TOML, invalid value"),
    ],
)
def test_spec_mistake_is_told_with_its_line(text: str, expected: str) -> None:
    assert any(expected in told for told in mistakes(text)), mistakes(text)


def test_spec_mistakes_are_told_all_at_once_in_order() -> None:
    text = 'files = "x"\napp_name = 5\nownr = "x"\n[limits]\nsettle_s = "now"\n'
    assert [told.split(":")[1] for told in mistakes(text)] == ["2", "3", "5"]


def test_missing_extra_is_told_with_all_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = mistakes('app_name = "A"\n[results]\nformats = ["csv", "xlsx"]\ndir = ""\n')
    assert [line.split(" / ")[0] for line in told] == [
        "invoices.toml: files is missing",
        "invoices.toml:3: xlsx needs XlsxWriter, which is not installed",
        "invoices.toml:4: results.dir is empty",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'api_key = "s3cret"\n',
        '[run]\ntoken = "s3cret"\n',
        '[run.webhook]\nurl = "https://x.y"\npassword = "s3cret"\n',
        '[run.pdf_passwords]\n"a.pdf" = "s3cret"\n',
        '[run.webhook]\nurl = "https://x.y"\nheaders.Authorization = "s3cret"\n',
        '[run]\npdf_passwords = "s3cret"\n',
        '[run.pdf_passwords]\n"a.pdf" = { env = "s3cret" }\n',
        '[run.pdf_passwords]\n"a.pdf" = { env = "AIHUB_SECRET_A", password = "s3cret" }\n',
        '[run.webhook]\nurl = "https://x.y"\nheaders = ["s3cret"]\n',
        'AIHUB_API_KEY = "s3cret"\n',
        'accessToken = "s3cret"\n',
        '[auth]\nclient-secret = { value = "s3cret" }\n',
    ],
)
def test_spec_with_a_secret_is_refused_without_repeating_it(text: str) -> None:
    told = mistakes(SHORT + text)
    assert "s3cret" not in str(told) + excerpts(SHORT + text)
    assert any("AIHUB_SECRET_" in line for line in told)


@pytest.mark.parametrize(
    "text",
    [
        '[run.keys.custom]\npassword = "s3cret"\n',
        '[run.keys]\ncustom = { a = [{ api_key = "s3cret" }] }\n',
        '[run.keys.secret]\nx = ["s3cret"]\n',
        '[run]\nwebhook = "https://u:s3cret@x.y"\n',
        '[run.webhook]\nurl = "https://u:s3cret@x.y"\n',
        '[run.webhook]\nurl = "http://x.y/s3cret"\n',
    ],
)
def test_spec_that_may_hold_a_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        parse(SHORT + text)
    assert "s3cret" not in str([(mistake.message, mistake.hint) for mistake in caught.value.mistakes])
    assert "s3cret" not in excerpts(SHORT + text)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


def test_spec_may_name_aliases_headers_and_files_like_secrets() -> None:
    run = parse(
        SHORT + '[run.keys.secret]\npassword = "ledger-prod"\n'
        '[run.webhook]\nurl = "http://127.0.0.1:8800/x"\nheaders.token = { env = "AIHUB_SECRET_HOOK" }\n'
        '[run.pdf_passwords]\n"secret" = { env = "AIHUB_SECRET_PDF" }\n'
    ).run
    assert run.keys.secret == {"password": "ledger-prod"}
    assert run.webhook is not None
    assert run.webhook.headers["token"].env == "AIHUB_SECRET_HOOK"
    assert run.pdf_passwords["secret"].env == "AIHUB_SECRET_PDF"


def test_lines_are_found_past_long_texts_and_lists() -> None:
    text = (
        'note = """\nowner = 1\n[run]\n""" # "\n'
        "files = [\n  'a', # ]\n  'b[',\n]\n"
        "run.keys.custom.list = [\n['limits'],\n]\n"
        "'owner' = 5\napp_name = 'A'\n[ run . \"keys\" . custom . more ]\n\"a.b\" = nan\n"
        "[limits]\r\n  settle_s=false\r\n"
    )
    assert [told.split(" ")[0:2] for told in mistakes(text)] == [
        ["invoices.toml:1:", "unknown"],
        ["invoices.toml:12:", "owner"],
        ["invoices.toml:15:", "run.keys.custom.more.'a.b'"],
        ["invoices.toml:17:", "limits.settle_s"],
    ]


@given(st.text() | st.lists(st.sampled_from(SNIPPETS), max_size=8).map("\n".join))
def test_any_text_is_a_spec_or_is_refused_in_plain_words(text: str) -> None:
    try:
        spec = parse(text)
    except SpecErrors as error:
        for mistake in error.mistakes:
            assert mistake.message.startswith("invoices.toml:")
            assert mistake.hint
            assert not re.search(r"pydantic|[Ii]nput should|type=|\(at line", mistake.message)
    else:
        assert spec.files


@pytest.mark.slow
def test_schema_for_editors_agrees_with_the_parser() -> None:
    schema = render_schema(Spec)
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in sorted(SPECS.glob("*.toml")):
        jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"files": 5}, schema)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.toml")), ids=lambda path: path.stem)
def test_example_spec_is_in_order_and_all_its_documents_can_be_sent(path: Path) -> None:
    spec = parse_as(path.read_text(encoding="utf-8"), path, Choice(find=lambda name: "acme")).spec
    assert 'name = "' in path.read_text(encoding="utf-8")
    scan = scan_sources(spec, path, (), now_ns=0)
    assert len(scan.sources) > 2 or not spec.files
    assert scan.skipped == ()


@pytest.mark.parametrize("path", sorted(SPECS.glob("*/*.pdf")), ids=lambda path: path.stem)
def test_example_pdf_is_sound(path: Path) -> None:
    data = path.read_bytes()
    start = int(re.findall(rb"startxref\s+(\d+)\s+%%EOF", data)[-1])
    assert data[start:].startswith(b"xref\n0 ")
    offsets = [int(line.split()[0]) for line in data[start:].splitlines()[3:] if line.endswith(b" n ")]
    assert offsets
    for number, offset in enumerate(offsets, 1):
        assert data[offset:].startswith(b"%d 0 obj" % number)
    [(length, stream)] = re.findall(rb"/Length (\d+).*?stream\n(.*?)\nendstream", data, re.DOTALL)
    assert int(length) in (len(stream), len(stream) + 1)


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
