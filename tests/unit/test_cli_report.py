"""`twin report` and the forms of `twin audit export`, as a user types them."""

from __future__ import annotations

import io
import json
import time
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest
from argon2 import PasswordHasher, profiles

from digital_twins.audit import AuditEvent, AuditTrail
from digital_twins.auth._passwords import totp_code
from digital_twins.cli import main
from digital_twins.reports import render_pdf
from report_samples import sample_report
from signing_support import PASSWORD, document_certificate


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = document_certificate(tmp_path)
    (tmp_path / "twin.toml").write_text(
        f'data_dir = "data"\ndocument_certificate = "{made.certificate}"\ndocument_key = "{made.key}"\n'
    )
    cheap = PasswordHasher.from_parameters(profiles.CHEAPEST)
    with patch("digital_twins.auth._passwords._hasher", lambda: cheap):
        yield tmp_path


def run(capsys, monkeypatch, *words: str, stdin: str = "") -> tuple[int, str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    code = main(words)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_file_is_signed_and_verified(capsys, monkeypatch, folder):
    words = ("auth", "user", "add", "anna", "--role", "clinician", "--display", "Dr Anna Ahlers", "--json")
    code, out, _ = run(capsys, monkeypatch, *words, stdin=f"{PASSWORD}\n")
    assert code == 0
    secret = parse_qs(urlsplit(json.loads(out)["totp"]).query)["secret"][0]
    (folder / "plan.pdf").write_bytes(render_pdf(sample_report(images=False)))
    sign = ("report", "sign", "plan.pdf", "--user", "anna", "--record", "plan/7", "--json")
    code, _, err = run(capsys, monkeypatch, *sign, stdin=f"{PASSWORD}\n000000\n")
    assert code == 1
    assert "NotSignedInError" in err
    one_time = totp_code(secret, int(time.time()) // 30)
    code, out, err = run(capsys, monkeypatch, *sign, stdin=f"{PASSWORD}\n{one_time}\n")
    assert code == 0, err
    assert json.loads(out)["files"] == ["plan.pdf.signature.json", "plan.signed.pdf"]
    code, out, _ = run(capsys, monkeypatch, *sign, stdin=f"{PASSWORD}\n{one_time}\n")
    assert code == 1  # the code was used

    verify = ("report", "verify", "plan.pdf", "--signature", "plan.pdf.signature.json")
    assert run(capsys, monkeypatch, *verify)[0] == 0
    key = json.loads(run(capsys, monkeypatch, "report", "key", "--json")[1])
    assert key["pem"].startswith("-----BEGIN PUBLIC KEY-----")
    assert run(capsys, monkeypatch, *verify, "--key", key["verifier_key"])[0] == 0
    inside = ("report", "verify", "plan.signed.pdf", "--authority", "ca.pem", "--json")
    code, out, _ = run(capsys, monkeypatch, *inside)
    assert (code, json.loads(out)) == (0, {"ok": True, "problems": []})

    with (folder / "plan.pdf").open("ab") as file:
        file.write(b"\n")
    code, out, _ = run(capsys, monkeypatch, *verify)
    assert code == 1
    assert "another record" in out
    assert run(capsys, monkeypatch, "report", "verify", "plan.pdf", "--authority", "ca.pem")[0] == 1
    assert run(capsys, monkeypatch, "report", "verify", "plan.pdf")[0] == 1


def test_the_report_of_a_period_and_the_other_forms(capsys, monkeypatch, folder):
    with AuditTrail(folder / "data" / "audit.sqlite") as trail:
        trail.append([AuditEvent("R", "fhir.read", "success", "user:anna", entity="Observation/7")])
    code, _, err = run(capsys, monkeypatch, "report", "compliance", "q.pdf", "--period", "2020..2090")
    assert code == 0, err
    assert (folder / "q.pdf").read_bytes().startswith(b"%PDF-1.7")
    assert run(capsys, monkeypatch, "report", "compliance", "q.pdf", "--period", "Q1")[0] == 1
    code, out, _ = run(capsys, monkeypatch, "audit", "export", "--format", "fhir")
    assert json.loads(out)["resourceType"] == "AuditEvent"
    code, out, _ = run(capsys, monkeypatch, "audit", "export", "--format", "dicom")
    assert out.startswith("<AuditMessage>")
    assert run(capsys, monkeypatch, "audit", "verify", "--syslog", "none.log")[0] == 1
    (folder / "empty.log").write_text("")
    code, out, _ = run(capsys, monkeypatch, "audit", "verify", "--syslog", "empty.log", "--json")
    assert code == 1
    assert json.loads(out)["problems"][0]["what"] == "the anchor holds no checkpoint"
