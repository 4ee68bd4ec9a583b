"""What the fake reads in files: labels and values; hostile files do no harm."""

from __future__ import annotations

import cProfile
import json
import logging
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from fake_aihub import FakeAIHub
from fake_aihub.extraction import Extraction
from fake_aihub.extraction.text import MAX_BYTES, MAX_PAIRS, MAX_VALUE, Text, normalise, read_text
from fake_aihub.world.clock import Clock
from fake_aihub.world.entities import File, Run
from fake_aihub.world.world import World

INVOICES = Path(__file__).parents[2] / "specs" / "invoices"


def make_pdf(content: bytes, filters: bytes = b"", pages: int = 1) -> bytes:
    kids = b" ".join(b"%d 0 R" % (5 + number) for number in range(pages))
    look = b"/MediaBox [0 0 612 792] /Contents 3 0 R /Resources << /Font << /F1 4 0 R >> >>"
    page = b"<< /Type /Page /Parent 2 0 R " + look + b" >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
        b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), filters, content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *[page] * pages,
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(out))
    return out + b"xref\n0 %d\n0000000000 65535 f \n%s%s" % (len(objects) + 1, table, trailer)


def lines_of_pdf(*lines: str) -> bytes:
    return b"BT /F1 12 Tf 72 740 Td 16 TL " + b" T* ".join(f"({line}) Tj".encode() for line in lines) + b" ET"


def extract(content: bytes, app: str = "Invoices", **options: Any) -> list[dict[str, Any]]:
    world = World(Clock())
    file = File("any", world.blobs._remember(content), len(content), 0)
    run = Run("run", "", 1, 0, {"app_name": app}, [file], {})
    documents: list[dict[str, Any]] = Extraction(**options).render_file(run, file, frozenset(), world)["documents"]
    return documents


def values(document: dict[str, Any]) -> dict[str, str]:
    return {field["field_name"]: field["value"] for field in document["fields"]}


@pytest.mark.parametrize(
    "label", ["Invoice No.", "invoice_no", "invoiceNo", "INVOICE NO", "  Invoice\tNo #", "invoice-no"]
)
def test_label_is_one_in_whatever_case_and_punctuation(label: str) -> None:
    assert normalise(label) == "invoice no"


@pytest.mark.parametrize(
    ("content", "pairs"),
    [
        (b"Invoice number: 2041\r\nTotal:\t12.50 EUR\n", {"invoice number": "2041", "total": "12.50 EUR"}),
        (b"Invoice 2041\nTotal   12.50 EUR\nDear Sir\n", {"invoice": "2041", "total": "12.50 EUR"}),
        (b"\xef\xbb\xbfName: M\xc3\xbcller", {"name": "Müller"}),
        (b"Name: M\xfcller", {"name": "M\ufffdller"}),
        (b"Total: 1\nTotal: 2\n", {"total": "1"}),
        (b"Invoice No;Total\n77;9,50\n78;1,00\n", {"invoice no": "77", "total": "9,50"}),
        (b'invoice,total\n"7,8",5\n', {"invoice": "7,8", "total": "5"}),
        (b'{"a": {"invoiceNo": 7, "lines": [{"total": 1.50}, {"total": 2}]}}', {"invoice no": "7", "total": "1.50"}),
        (b'{"a": true, "b": null, "c": "\\ud800x"}', {"c": "?x"}),
        (b"{not json\nTotal: 5", {"total": "5"}),
        (b"From: a@b\nSubject: =?utf-8?b?w7xi?=\n\nTotal: 5\n", {"from": "a@b", "subject": "üb", "total": "5"}),
        (
            b"From: a\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n"
            b"Content-Transfer-Encoding: base64\n\nVG90YWw6IDc=\n--x--\n",
            {"from": "a", "content type": "multipart/mixed; boundary=x", "total": "7"},
        ),
        (b"", {}),
        (b"\x89PNG\0Total: 5", {}),
        (b"<html>Total: 5", {}),
        (b"Total: " + b"x" * 1000, {"total": "x" * MAX_VALUE}),
    ],
)
def test_text_says_values_under_labels(content: bytes, pairs: dict[str, str]) -> None:
    assert read_text(content) == Text(pairs)


def test_text_of_a_pdf_is_read_with_its_pages() -> None:
    text = read_text(make_pdf(lines_of_pdf("Invoice number: 2041", "Total 312.00"), pages=2))
    assert (text.pairs["invoice number"], text.pairs["total"], text.pages) == ("2041", "312.00", 2)
    assert read_text((INVOICES / "northwind-2041.pdf").read_bytes()).pairs["invoice"] == "2041"


def test_text_of_a_pdf_without_pypdf_is_none() -> None:
    code = (
        "import sys; sys.modules['pypdf'] = None\n"
        "from fake_aihub.extraction.text import Text, read_text\n"
        "print(read_text(sys.stdin.buffer.read()) == Text())"
    )
    content = make_pdf(lines_of_pdf("Total: 5"))
    result = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, timeout=20, check=True)
    assert result.stdout == b"True\n"


def test_documents_are_filled_from_what_the_file_says() -> None:
    found = {path.name: values(extract(path.read_bytes())[0]) for path in INVOICES.iterdir()}
    assert found["alder-1180.txt"]["invoice_number"] == "1180"
    assert found["alder-1180.txt"]["invoice_date"] == "2026-03-11"
    assert found["juniper.json"]["supplier"] == "Juniper Catering"
    assert found["kestrel.csv"]["invoice_number"] == "5501"
    assert found["blue-harbour-77.pdf"]["total"] == "189.50"


def test_documents_of_a_text_have_the_class_whose_fields_it_names() -> None:
    content = b"Passport number: C01X00T47\nExpiry date: 2031-05-06\nName: Ada\n"
    [document] = extract(content, app="passport")
    assert document["class_name"] == "passport"
    assert values(document)["passport_number"] == "C01X00T47"


def test_documents_of_a_pdf_share_its_pages() -> None:
    for number in range(20):
        content = make_pdf(lines_of_pdf(f"nothing {number}"), pages=5)
        documents = extract(content, app="bank")
        assert [page for document in documents for page in document["page_numbers"]] == list(range(5))
        assert len(extract(make_pdf(lines_of_pdf(f"nothing {number}")), app="bank")) == 1


def test_documents_with_text_are_the_same_whenever_they_are_asked_for() -> None:
    contents = [path.read_bytes() for path in sorted(INVOICES.iterdir())]
    assert [extract(content) for content in contents] == [extract(content) for content in contents]


HOSTILE = {
    "pdf that is cut off": make_pdf(lines_of_pdf("Total: 5"))[:400],
    "pdf that unpacks to much": make_pdf(zlib.compress(b"(a) Tj " * 5_000_000, 9), b"/Filter /FlateDecode"),
    "pdf of many operators": make_pdf(b"BT /F1 12 Tf " + b"(a) Tj " * 130_000),
    "pdf of deep lists": make_pdf(b"[" * 900_000),
    "pdf of run lengths": make_pdf(b"\xffA" * 480_000, b"/Filter /RunLengthDecode"),
    "pdf of many objects": b"%PDF-1.4\n" + b"1 0 obj\n" * 120_000,
    "pdf of many ends": b"%PDF-1.4\n" + b"startxref\n" * 90_000,
    "pdf with tables in a ring": b"%PDF-1.4\n" + b"xref\n0 0\ntrailer <</Prev 9>>\n" * 9 + b"startxref\n9\n%%EOF",
    "pdf that is too long": make_pdf(lines_of_pdf("Total: 5")) + b" " * MAX_BYTES,
    "mail of many words": b"From: " + b"=?utf-8?q?a?= " * 70_000,
    "mail of many parameters": b"From: x\nContent-Type: text/plain; " + b"a*0*=b; " * 120_000 + b"\n\nTotal: 5",
    "mail of many parts": b"From: x\nContent-Type: multipart/mixed; boundary=a\n\n"
    + b"--a\nContent-Type: multipart/mixed; boundary=a\n\n" * 20_000,
    "mail of no charset": b"From: x\nContent-Type: text/plain; charset=none\n\nTotal: 5",
    "mail with a bad word": b"Subject: =?none?q?a?=\n\nTotal: 5",
    "csv of one quote": b'a,b\n"' + b"x," * 400_000,
    "csv of many columns": b"," * 900_000 + b"\n" + b"1," * 50_000,
    "json of deep lists": b"[" * 900_000,
    "json of deep tables": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "json of wide lists": b'{"a":[' + b"[]," * 300_000 + b"[]]}",
    "json of a long number": b'{"a":' + b"1" * 900_000 + b"}",
    "lines without end": b"a:b\n" * 250_000,
    "one line": b"a" * MAX_BYTES + b": 5",
    "nothing but digits": b"1 " * 500_000,
    "null bytes": b"\0" * MAX_BYTES,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.slow
def test_hostile_file_gives_documents_all_the_same(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pypdf")
    text = read_text(content[: MAX_BYTES + 1])
    assert sys.getprofile() is None
    assert len(text.pairs) <= MAX_PAIRS
    assert all(len(value) <= MAX_VALUE for value in text.pairs.values())
    json.dumps(extract(content), ensure_ascii=False).encode()


def test_text_is_read_under_a_profiler_that_keeps_on() -> None:
    with cProfile.Profile() as profiler:
        text = read_text(b"Total: 5")
        assert sys.getprofile() is profiler
    assert text.pairs == {"total": "5"}


@pytest.mark.parametrize("on_disk", [False, True])
def test_results_of_hostile_files_are_answered(tmp_path: Path, on_disk: bool) -> None:
    contents = {name: content for name, content in HOSTILE.items() if len(content) < 10_000} | {"text": b"Total: 5.50"}
    with FakeAIHub(data_dir=tmp_path if on_disk else None) as fake, requests.Session() as http:
        http.headers.update({"Authorization": "Bearer fake-test", "Content-Type": "application/octet-stream"})
        batch = http.post(f"{fake.root}/v2/batches", json={"name": "b"}).json()["id"]
        for name, content in contents.items():
            http.put(f"{fake.root}/v2/batches/{batch}/files/{name}", data=content)
        run = http.post(f"{fake.root}/v2/apps/runs", json={"batch_id": batch, "app_name": "packet invoice"}).json()[
            "id"
        ]
        page = http.get(f"{fake.root}/v2/apps/runs/{run}/results").json()
    assert [file["original_file_name"] for file in page["files"]] == sorted(contents)
    assert values(page["files"][-1]["documents"][0])["total"] in ("5.50", "ERROR")


@pytest.mark.slow
def test_text_takes_so_much_work_and_no_more() -> None:
    assert read_text(HOSTILE["pdf of many operators"]) == Text()
    assert read_text(make_pdf(b"BT /F1 12 Tf " + b"(a) Tj " * 100)).pages == 1


def test_pdf_that_is_too_long_is_not_read() -> None:
    assert read_text((HOSTILE["pdf that is too long"])[: MAX_BYTES + 1]) == Text()
    assert read_text((HOSTILE["pdf that is too long"])[:MAX_BYTES]).pages == 1


def test_damaged_pdf_prints_nothing() -> None:
    code = (
        "import sys; from fake_aihub.extraction.text import read_text; print(read_text(sys.stdin.buffer.read()).pages)"
    )
    content = make_pdf(lines_of_pdf("Total: 5")).replace(b"startxref\n", b"startxref\n9")
    result = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, timeout=20, check=True)
    assert (result.stdout, result.stderr) == (b"1\n", b"")


STARTS = st.sampled_from(
    [b"", b"%PDF-1.4\n", b"{", b"[", b"From: ", b"Subject: =?", b"a,b\n", b"\xff\xfe", b"\xef\xbb\xbf"]
)
PIECES = st.sampled_from(
    b"1 0 obj\n|endobj\n|<<|>>|stream\n|xref\n|trailer|/Prev 0|/Pages 1 0 R|/Root 1 0 R|startxref\n0\n%%EOF".split(b"|")
    + b'"a":|}|],|"\\ud800"|: |\n|=?utf-8?b?|?=|"|,|;|--x|<a>|\xff'.split(b"|")
)


@given(STARTS, st.lists(PIECES | st.binary(max_size=20), max_size=40))
@pytest.mark.slow
def test_text_never_raises_and_is_bounded_and_can_be_sent(start: bytes, pieces: list[bytes]) -> None:
    content = start + b"".join(pieces)
    text = read_text(content)
    assert text == read_text(content)
    assert len(text.pairs) <= MAX_PAIRS
    for label, value in text.pairs.items():
        assert label
        assert 0 < len(value) <= MAX_VALUE
        value.encode()


@given(st.binary(max_size=300), st.integers(0, 700))
@pytest.mark.slow
def test_damaged_pdf_never_raises(noise: bytes, place: int) -> None:
    content = bytearray((INVOICES / "northwind-2041.pdf").read_bytes())
    content[place : place + len(noise)] = noise
    text = read_text(b"%PDF-" + bytes(content[5:]))
    assert text.pages is None or 1 <= text.pages <= 800


@pytest.mark.slow
@given(st.text(), st.text())
def test_any_text_can_be_the_value_of_a_field(label: str, value: str) -> None:
    content = json.dumps({"total": value, label: value}).encode()
    json.dumps(extract(content), ensure_ascii=False).encode()
