"""ComplianceManager: signed calls, roles, and the report that is made from the trail."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from pypdf import PdfReader

from digital_twins._errors import ConflictError, InputError
from digital_twins.audit import tail_trail
from digital_twins.auth import AccessDeniedError, NotSignedInError, Principal, acting_as
from digital_twins.governance import ComplianceManager, SignatureRequiredError, SigningComponents
from signing_support import PASSWORD, signing_desk


@dataclass
class Plan:
    dose_gy: float
    approved_by: str = ""


@pytest.fixture
def desk(tmp_path):
    with signing_desk(tmp_path) as made:
        yield made


@pytest.fixture
def compliance(desk, tmp_path):
    with ComplianceManager(regulation="21CFR11", signatures=desk.signatures) as manager:
        manager.enable_audit_trail(tmp_path / "trail.log")
        yield manager


def text_of(path) -> str:
    pages = PdfReader(io.BytesIO(path.read_bytes())).pages
    return " ".join(" ".join(page.extract_text().split()) for page in pages).replace("\u200b", "")


def test_a_signed_call_runs_once_and_is_about_what_it_was_given(desk, compliance):
    @compliance.require_signature
    def approve(plan: Plan, clinician: str) -> str:
        plan.approved_by = clinician
        return "done"

    plan = Plan(60.0)
    with pytest.raises(SignatureRequiredError):
        approve(plan, "anna")
    session = desk.session("anna")
    with compliance.signing(desk.all_of("anna", session)) as given:
        assert approve(plan, "anna") == "done"
        with pytest.raises(SignatureRequiredError):  # one act, one record
            approve(Plan(70.0), "anna")
    (signature,) = given
    assert desk.signatures.problems(signature, b'{"approved_by":"","dose_gy":60.0}') == ()
    assert desk.signatures.problems(signature, b'{"approved_by":"","dose_gy":61.0}') != ()
    with pytest.raises(SignatureRequiredError):
        approve(plan, "anna")
    with compliance.signing(SigningComponents(session, password="wrong")), pytest.raises(NotSignedInError):
        approve(Plan(70.0), "anna")
    outcomes = [
        row.event.outcome for row in tail_trail(desk.authority.records.database.path.parent / "trail.log")
    ]
    assert outcomes == ["refused", "success", "refused", "refused"]


def test_a_call_that_fails_keeps_its_signature_and_says_so(desk, compliance, tmp_path):
    @compliance.require_signature(meaning="responsibility", record=lambda plan: plan["id"].encode())
    def release(plan: dict[str, str]) -> None:
        raise LookupError

    shown = desk.all_of("otto", desk.session("otto"))
    with compliance.signing(shown) as given, pytest.raises(LookupError):
        release({"id": "plan/7"})
    assert given[0].manifest.meaning == "responsibility"
    assert desk.signatures.problems(given[0], b"plan/7") == ()
    assert tail_trail(tmp_path / "trail.log")[-1].event.outcome == "failure"


def test_what_has_no_bytes_is_not_signed(desk, compliance):
    approve = compliance.require_signature(lambda plan: plan)
    with compliance.signing(desk.all_of("anna", desk.session("anna"))), pytest.raises(InputError):
        approve(object())


def test_roles(compliance):
    @compliance.require_role("physicist")
    def commission() -> str:
        return "done"

    with pytest.raises(NotSignedInError):
        commission()
    with acting_as(Principal("user:anna", roles=frozenset({"clinician"}))), pytest.raises(AccessDeniedError):
        commission()
    with acting_as(Principal("user:otto", roles=frozenset({"physicist"}))):
        assert commission() == "done"


def test_the_trail_takes_what_it_was_told_to(tmp_path):
    with ComplianceManager() as compliance:
        with pytest.raises(ConflictError):
            compliance.record("R", "twin.read")
        compliance.enable_audit_trail(tmp_path / "a.log", include_data_access=False)
        with pytest.raises(ConflictError):
            compliance.enable_audit_trail(tmp_path / "b.log")
        assert not compliance.record("R", "twin.read")
        with acting_as(Principal("user:anna")):
            assert compliance.record("U", "twin.calibrate", entity="twin/1")
        (row,) = tail_trail(tmp_path / "a.log")
        assert (row.event.agent, row.event.kind) == ("user:anna", "twin.calibrate")


def test_another_regulation_is_refused():
    with pytest.raises(InputError):
        ComplianceManager(regulation="GxP")


def test_the_report_says_what_the_trail_says(desk, compliance, tmp_path):
    session = desk.session("anna")
    content = b"plan"
    made = desk.signatures.sign(content, desk.all_of("anna", session), record="plan/3", meaning="approval")
    with pytest.raises(NotSignedInError):
        desk.signatures.sign(
            content, SigningComponents(session, password="wrong"), record="plan/4", meaning="approval"
        )
    trail = compliance._opened()
    moved = trail.drain(desk.authority.records.database)
    assert moved == 5  # three accounts, a signature, a refusal
    period = trail.tail(1)[0].event.at_utc[:4]
    report = compliance.generate_report(tmp_path / "out" / "report.pdf", period=period)
    text = text_of(report)
    for expected in (
        "The audit trail is whole.",
        "5 events in this period, rows 1 to 5",
        "1 signatures in the trail",
        "auth.signature refused 1",
        "governance.signature success 1",
        "auth.user.add success 3",
        "user:anna",
    ):
        assert expected in text
    reader = PdfReader(report)
    assert b"pdfaid:part>2<" in reader.trailer["/Root"]["/Metadata"].get_data()
    # the table of signatures holds the time of the test's own clock
    signed = text_of(compliance.generate_report(tmp_path / "clock.pdf", period="2026-03"))
    for expected in ("Dr Anna Ahlers (anna)", "approval", "plan/3", made.manifest.signed_utc[:10]):
        assert expected in signed


def test_the_report_of_a_changed_trail_says_so(compliance, tmp_path):
    import sqlite3

    for number in range(3):
        compliance.record("E", "test", entity=f"twin/{number}")
    connection = sqlite3.connect(tmp_path / "trail.log")
    connection.execute("DROP TRIGGER audit_event_no_update")
    connection.execute("UPDATE audit_event SET body = replace(body, 'twin/1', 'twin/9') WHERE seq = 2")
    connection.commit()
    connection.close()
    text = text_of(compliance.generate_report(tmp_path / "report.pdf", period="2026"))
    assert "THE AUDIT TRAIL WAS CHANGED." in text
    assert "What is wrong" in text
    assert PASSWORD not in text
