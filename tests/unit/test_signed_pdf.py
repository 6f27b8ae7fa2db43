"""PDF files with electronic signatures: PAdES by pyHanko, and what its validator finds."""

from __future__ import annotations

import hashlib
import io
import random
import re
import sys

import pytest
from pypdf import PdfReader

from digital_twins._errors import ConflictError, InputError, MissingExtraError, StorageError
from digital_twins.crypto import create_authority, issue_certificate, load_signing_key
from digital_twins.governance import DocumentCertificate, SignatureManifest, sign_pdf, verify_pdf
from digital_twins.governance.signatures._manifest import seal
from digital_twins.reports import render_pdf
from report_samples import sample_report
from signing_support import document_certificate


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("documents")


@pytest.fixture(scope="module")
def certificate(folder):
    return document_certificate(folder)


@pytest.fixture(scope="module")
def report():
    return render_pdf(sample_report(images=False))


@pytest.fixture(scope="module")
def made(folder, report):
    key = load_signing_key(folder / "signatures.key", purpose="signatures")

    def signature(signer: str, name: str, meaning: str):
        return seal(
            SignatureManifest(
                record="twin/8f0c/3/report.pdf",
                record_sha256=hashlib.sha256(report).hexdigest(),
                meaning=meaning,
                signer=signer,
                printed_name=name,
                signed_utc="2026-11-25T22:00:00Z",
                components=("name", "password", "code"),
                session="ab" * 8,
                signature_id=hashlib.sha256(signer.encode()).hexdigest()[:32],
            ),
            key,
        )

    return signature


@pytest.fixture(scope="module")
def signed(report, made, certificate):
    once = sign_pdf(report, made("anna", "Dr Anna Ahlers", "approval"), certificate)
    return once, sign_pdf(once, made("otto", "Otto Oßwald", "review"), certificate)


def checked(pdf, folder):
    return verify_pdf(pdf, [folder / "ca.pem"])


def test_two_people_sign_and_both_signatures_hold(signed, folder):
    once, twice = signed
    (first,) = checked(once, folder)
    assert first.ok
    assert (first.printed_name, first.meaning) == ("Dr Anna Ahlers", "approval")
    both = checked(twice, folder)
    assert [each.ok for each in both] == [True, True]
    assert [each.printed_name for each in both] == ["Dr Anna Ahlers", "Otto Oßwald"]


def test_name_time_and_meaning_are_readable_on_the_page(signed, report):
    """21 CFR 11.50(b): as part of any human readable form of the record."""
    annotations = PdfReader(io.BytesIO(signed[1])).pages[-1]["/Annots"]
    texts = []
    for reference in annotations:
        stream = reference.get_object()["/AP"]["/N"]
        pages = stream.get("/Resources", {}).get("/XObject", {})
        texts.append(len(pages))
    assert texts == [1, 1, 0, 0, 0, 0]
    assert signed[1].startswith(report)  # the record itself is in the file, byte for byte


def test_pdf_a_and_pdf_ua_hold_after_signing(signed, report):
    """ISO 19005-2: PDF 1.7, all fonts embedded, printable annotations; ISO 14289-1 7.18: tagged fields."""
    before, after = (PdfReader(io.BytesIO(each)) for each in (report, signed[1]))
    assert after.pdf_header == before.pdf_header == "%PDF-1.7"
    assert "/Version" not in after.trailer["/Root"]
    metadata = after.trailer["/Root"]["/Metadata"].get_data()
    for claim in (rb'pdfaid:part[>="]+2', rb'pdfaid:conformance[>="]+A', rb'pdfuaid:part[>="]+1'):
        assert re.search(claim, metadata)
    assert re.search(rb'pdf:Producer="([^"]+)"', metadata)[1].decode() == after.metadata["/Producer"]
    page = after.pages[-1]
    assert page["/Tabs"] == "/S"
    parents = after.trailer["/Root"]["/StructTreeRoot"]["/ParentTree"]["/Nums"]
    keys = dict(zip(parents[::2], parents[1::2], strict=True))
    for reference in page["/Annots"]:
        widget = reference.get_object()
        assert widget["/F"] & 4  # Print
        assert not widget["/F"] & (1 | 2 | 32)  # Invisible, Hidden, NoView
        element = keys[widget["/StructParent"]].get_object()
        assert element["/S"] == "/Form"
        assert element["/Alt"] == widget["/TU"]
        assert element["/K"]["/Obj"].get_object() == widget
        for form in widget["/AP"]["/N"].get("/Resources", {}).get("/XObject", {}).values():
            for font in form.get_object()["/Resources"]["/Font"].values():
                descendant = font["/DescendantFonts"][0]["/FontDescriptor"]
                assert {"/FontFile2", "/FontFile3"} & set(descendant)


def test_flipped_bits_are_found(signed, folder, full):
    pdf, rng = signed[1], random.Random(7)
    start, length, after, more = (
        int(number) for number in re.findall(rb"/ByteRange \[ ?(\d+) (\d+) (\d+) (\d+)", pdf)[-1]
    )
    assert start == 0
    assert after + more == len(pdf)
    held = []
    for _ in range(150 if full else 12):
        place = rng.choice((rng.randrange(length), rng.randrange(after, len(pdf))))
        changed = bytearray(pdf)
        changed[place] ^= 1 << rng.randrange(8)
        try:
            found = checked(bytes(changed), folder)
        except InputError:
            continue
        if len(found) == 2 and all(each.ok for each in found):
            held.append(place)
    assert held == []


def test_a_signature_moved_to_another_file_is_found(report, made, certificate, folder, signed):
    other = render_pdf(sample_report(name="Other^Person", images=False))
    target = sign_pdf(other, made("anna", "Dr Anna Ahlers", "approval"), certificate)
    spots = [re.search(rb"/Contents <([0-9A-Fa-f]+)>", pdf) for pdf in (signed[0], target)]
    assert all(spots)
    moved = target[: spots[1].start(1)] + spots[0][1] + target[spots[1].end(1) :]
    assert len(moved) == len(target)
    (found,) = checked(moved, folder)
    assert not found.intact
    assert not found.ok


def test_pages_added_after_signing_are_found(signed, folder):
    from pyhanko.pdf_utils import generic
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.pdf_utils.writer import PageObject

    writer = IncrementalPdfFileWriter(io.BytesIO(signed[0]))
    empty = writer.add_object(generic.StreamObject(stream_data=b""))
    box = generic.ArrayObject(map(generic.NumberObject, (0, 0, 595, 842)))
    writer.insert_page(PageObject(contents=empty, media_box=box))
    grown = io.BytesIO()
    writer.write(grown)
    (found,) = checked(grown.getvalue(), folder)
    assert found.intact
    assert not found.unchanged
    assert not found.ok


def test_a_certificate_of_a_stranger_is_not_trusted(signed, tmp_path):
    create_authority(tmp_path)
    found = checked(signed[1], tmp_path)
    assert [(each.intact, each.trusted, each.ok) for each in found] == [(True, False, False)] * 2


def test_the_seventh_signature_finds_no_place(signed, made, certificate):
    pdf = signed[1]
    for place in range(4):
        pdf = sign_pdf(pdf, made(f"user{place}", f"User {place}", "review"), certificate)
    with pytest.raises(ConflictError):
        sign_pdf(pdf, made("last", "Last", "review"), certificate)


def test_wrong_certificates_and_files_are_refused(made, certificate, folder, monkeypatch, report):
    one = made("anna", "Dr Anna Ahlers", "approval")
    elliptic = issue_certificate(folder, "server", hosts=["localhost"])
    for bad in (
        DocumentCertificate(elliptic, elliptic.with_suffix(".key")),
        DocumentCertificate(folder / "none.pem", folder / "none.key"),
    ):
        with pytest.raises(StorageError):
            sign_pdf(report, one, bad)
    with pytest.raises(InputError):
        sign_pdf(b"no PDF at all", one, certificate)
    with pytest.raises(InputError):
        verify_pdf(b"no PDF at all", [folder / "ca.pem"])
    assert verify_pdf(report, [folder / "ca.pem"]) == ()
    monkeypatch.setitem(sys.modules, "pyhanko.sign", None)
    with pytest.raises(MissingExtraError):
        sign_pdf(report, one, certificate)
