"""Programs that are not ours read signed PDF files and reports: pdfsig (NSS), pdftotext, pdfua."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from digital_twins.crypto import load_signing_key
from digital_twins.governance import ComplianceManager, SignatureManifest, sign_pdf, verify_pdf
from digital_twins.governance.signatures._manifest import seal
from digital_twins.reports import render_pdf
from foreign import program, python_package
from report_samples import sample_report
from signing_support import document_certificate

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    certificate = document_certificate(folder)
    key = load_signing_key(folder / "signatures.key", purpose="signatures")
    pdf = render_pdf(sample_report())
    for signer, name, meaning in (("anna", "Dr Anna Ahlers", "approval"), ("otto", "Otto Oßwald", "review")):
        manifest = SignatureManifest(
            "twin/8f0c/3/report.pdf",
            "ab" * 32,
            meaning,
            signer,
            name,
            "2026-11-25T22:00:00Z",
            ("name", "password", "code"),
            "ab" * 8,
            "cd" * 16,
        )
        pdf = sign_pdf(pdf, seal(manifest, key), certificate)
    (folder / "signed.pdf").write_bytes(pdf)
    changed = bytearray(pdf)
    changed[100_000] ^= 1  # in a picture of the page
    (folder / "changed.pdf").write_bytes(bytes(changed))
    with ComplianceManager() as compliance:
        compliance.enable_audit_trail(folder / "trail.log")
        compliance.record("E", "test", entity="twin/1")
        compliance.generate_report(folder / "compliance.pdf", period="2020..2090")
    return folder


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_pdfsig_and_pyhanko_agree(files):
    pdfsig = program("pdfsig")
    said = run(pdfsig, str(files / "signed.pdf"))
    assert said.count("Signature is Valid.") == 2
    assert said.count("ETSI.CAdES.detached") == 2
    assert "Total document signed" in said
    assert [each.ok for each in verify_pdf((files / "signed.pdf").read_bytes(), [files / "ca.pem"])] == [
        True
    ] * 2
    said = run(pdfsig, str(files / "changed.pdf"))
    assert "Signature is Valid." not in said
    found = verify_pdf((files / "changed.pdf").read_bytes(), [files / "ca.pem"])
    assert [each.intact for each in found] == [False, False]


def test_pdftotext_reads_name_time_and_meaning(files):
    text = run(program("pdftotext"), "-layout", str(files / "signed.pdf"), "-")
    for said in (
        "Electronic signature: approval",
        "Dr Anna Ahlers (anna)",
        "2026-11-25 22:00:00 UTC",
        "Electronic signature: review",
        "Otto Oßwald (otto)",
    ):
        assert said in text


@pytest.mark.parametrize("name", ["signed.pdf", "compliance.pdf"])
def test_pdfua_finds_no_error(files, name):
    python_package("pdfua")
    said = run(str(Path(sys.executable).parent / "pdfua"), "check", str(files / name))
    assert "errors=0" in said, said


@pytest.mark.parametrize(("name", "pages"), [("signed.pdf", 2), ("compliance.pdf", 1)])
def test_pdftoppm_paints_every_page(files, name, pages):
    run(program("pdftoppm"), "-r", "30", "-gray", str(files / name), str(files / name.removesuffix(".pdf")))
    painted = list(files.glob(f"{name.removesuffix('.pdf')}-*.pgm"))
    assert len(painted) >= pages
    assert all(len(set(page.read_bytes())) > 2 for page in painted)
