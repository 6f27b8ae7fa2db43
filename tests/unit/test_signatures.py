"""Electronic signatures after 21 CFR Part 11: who may sign, what is stated, and what a check finds."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import subprocess
from dataclasses import replace

import pytest

from digital_twins._errors import ConflictError, InputError
from digital_twins.auth import AccessDeniedError, NotSignedInError
from digital_twins.crypto import SigningKey
from digital_twins.governance import (
    ElectronicSignature,
    SigningComponents,
    signature_problems,
)
from foreign import program
from signing_support import PASSWORD, signing_desk

PLAN, OTHER = b"plan of a patient, version 3", b"plan of another patient"


@pytest.fixture
def desk(tmp_path):
    with signing_desk(tmp_path) as made:
        yield made


def refusals(desk):
    return [
        (event["agent"], event["detail"].get("why"))
        for event in desk.events()
        if event["outcome"] == "refused"
    ]


def sign(desk, components, content=PLAN, meaning="approval", record="plan/3"):
    return desk.signatures.sign(content, components, record=record, meaning=meaning, patient_id="MRN-1")


def test_a_signature_states_name_time_meaning_and_content_and_is_audited_once(desk):
    made = sign(desk, desk.all_of("anna", desk.session("anna")))
    manifest = made.manifest
    assert (manifest.printed_name, manifest.meaning) == ("Dr Anna Ahlers", "approval")
    assert manifest.signed_utc == "2026-03-20T09:47:10Z"
    assert manifest.record_sha256 == hashlib.sha256(PLAN).hexdigest()
    assert manifest.components == ("name", "password", "code")
    assert desk.signatures.of("plan/3") == (made,)
    assert desk.signatures.problems(made, PLAN) == ()
    (event,) = [each for each in desk.events() if each["kind"] == "governance.signature"]
    assert (event["agent"], event["outcome"], event["entity"]) == ("user:anna", "success", "plan/3")
    assert event["detail"]["manifest_sha256"] == hashlib.sha256(manifest.to_json().encode()).hexdigest()
    assert "MRN" not in json.dumps(event)
    assert len(event["patient"]) == 64


def test_the_first_signature_of_a_session_needs_all_components_later_ones_one(desk):
    session = desk.session("anna")
    for shown in (
        SigningComponents(session, password=PASSWORD),
        SigningComponents(session, name="anna", password=PASSWORD),
        SigningComponents(session, password=PASSWORD, code=desk.code("anna")),
    ):
        with pytest.raises(InputError, match="first signature"):
            sign(desk, shown)
    sign(desk, desk.all_of("anna", session))
    later = sign(desk, SigningComponents(session, password=PASSWORD), meaning="review")
    assert later.manifest.components == ("password",)
    again = sign(desk, SigningComponents(session, code=desk.code("anna")), meaning="authorship")
    assert again.manifest.components == ("code",)
    with pytest.raises(NotSignedInError):
        sign(desk, SigningComponents(session), meaning="responsibility")
    with pytest.raises(InputError, match="first signature"):  # a new session is a new period
        sign(desk, SigningComponents(desk.session("anna"), password=PASSWORD), record="plan/4")


def test_an_expired_ended_or_invented_session_signs_nothing(desk):
    session = desk.session("anna")
    sign(desk, desk.all_of("anna", session))
    shown = desk.all_of("anna", session)
    desk.clock[0] += 15 * 60 + 30
    for components in (shown, replace(shown, session="0" * 64), replace(shown, session="")):
        with pytest.raises(NotSignedInError, match="ended"):
            sign(desk, components, meaning="review")
    assert refusals(desk)[-3:] == [("anonymous", "session")] * 3


def test_an_administrator_cannot_sign_as_a_user(desk):
    with pytest.raises(AccessDeniedError):
        sign(desk, desk.all_of("anna", desk.session("adam")))
    # nor after a new password for the user: the device with the codes is missing
    desk.authority.accounts.set_password("anna", "a password of the administrator")
    session = desk.session("anna")
    code = desk.code("adam")
    shown = SigningComponents(session, name="anna", password="a password of the administrator", code=code)
    with pytest.raises(NotSignedInError):
        sign(desk, shown)
    assert refusals(desk) == [("user:adam", "name"), ("user:anna", "credentials")]
    assert desk.signatures.of("plan/3") == ()


def test_a_password_reset_ends_the_period_of_signing(desk):
    session = desk.session("anna")
    sign(desk, desk.all_of("anna", session))
    desk.authority.accounts.set_password("anna", PASSWORD)
    with pytest.raises(NotSignedInError, match="ended"):
        sign(desk, SigningComponents(session, password=PASSWORD), meaning="review")


def test_a_code_is_good_once_and_failures_lock_the_account(desk):
    session = desk.session("anna")
    shown = desk.all_of("anna", session)
    sign(desk, shown)
    with pytest.raises(NotSignedInError):
        sign(desk, shown, meaning="review")
    for _ in range(4):
        with pytest.raises(NotSignedInError):
            sign(desk, SigningComponents(session, code="000000"), meaning="review")
    with pytest.raises(NotSignedInError):
        sign(desk, SigningComponents(session, password=PASSWORD), meaning="review")
    assert refusals(desk)[-1] == ("user:anna", "locked")
    assert "auth.user.locked" in [event["kind"] for event in desk.events()]


def test_an_account_without_codes_cannot_sign(desk):
    desk.authority.accounts.add("nele", password=PASSWORD, roles=["clinician"], second_factor=False)
    shown = SigningComponents(desk.session("nele"), name="nele", password=PASSWORD, code="123456")
    with pytest.raises(NotSignedInError):
        sign(desk, shown)


def test_a_second_signer_signs_in_a_session_of_their_own(desk):
    session = desk.session("anna")
    first = sign(desk, desk.all_of("anna", session))
    with pytest.raises(AccessDeniedError):  # at Anna's screen
        sign(desk, desk.all_of("otto", session), meaning="review")
    second = sign(desk, desk.all_of("otto", desk.session("otto")), meaning="review")
    assert [each.manifest.signer for each in desk.signatures.of("plan/3")] == ["anna", "otto"]
    assert first.manifest.session != second.manifest.session
    with pytest.raises(ConflictError):
        sign(desk, SigningComponents(session, password=PASSWORD))


def test_a_moved_signature_and_every_flipped_bit_are_found(desk):
    made = sign(desk, desk.all_of("otto", desk.session("otto")))
    key = desk.signatures.verifier
    assert "another record" in signature_problems(made, OTHER, key=key)[0]
    moved = replace(made, manifest=replace(made.manifest, record_sha256=hashlib.sha256(OTHER).hexdigest()))
    assert "changed" in signature_problems(moved, OTHER, key=key)[0]
    stranger = SigningKey("stranger", bytes(32)).verifier
    assert signature_problems(replace(made, verifier=stranger), PLAN, key=key)
    document = made.to_json().encode()
    assert ElectronicSignature.from_json(document.decode()) == made
    assert signature_problems(ElectronicSignature.from_json(document.decode()), PLAN, key=key) == ()
    survived = [place for place in range(len(document) * 8) if _holds(flipped(document, place), key)]
    assert survived == []
    records = [flipped(PLAN, place) for place in range(len(PLAN) * 8)]
    assert [each for each in records if not signature_problems(made, each, key=key)] == []


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _holds(document: bytes, key) -> bool:
    try:
        signature = ElectronicSignature.from_json(document.decode())
    except (InputError, UnicodeDecodeError):
        return False
    return signature_problems(signature, PLAN, key=key) == ()


def test_the_table_keeps_what_was_signed(desk, tmp_path):
    sign(desk, desk.all_of("anna", desk.session("anna")))
    connection = sqlite3.connect(tmp_path / "twin.sqlite")
    for text in ("UPDATE governance_signature SET meaning='review'", "DELETE FROM governance_signature"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(text)
    connection.close()


def test_a_manifest_refuses_what_could_deceive_a_reader(desk):
    good = sign(desk, desk.all_of("anna", desk.session("anna"))).manifest
    for change in (
        {"meaning": "agreement"},
        {"printed_name": "Anna\nMeaning: review"},
        {"record_sha256": "abc"},
        {"signed_utc": "yesterday"},
        {"signer": ""},
        {"form": "other"},
    ):
        with pytest.raises(InputError):
            replace(good, **change)


def test_openssl_verifies_with_the_public_key_alone(desk, tmp_path):
    """The procedure of docs/how-to/sign-records.md, with tools that are not ours."""
    made = sign(desk, desk.all_of("otto", desk.session("otto")))
    document = json.loads(made.to_json())
    canonical = json.dumps(document["manifest"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (tmp_path / "m.json").write_text(canonical, encoding="utf-8")
    (tmp_path / "m.sig").write_bytes(base64.b64decode(document["signature"]))
    public = base64.b64decode(document["verifier_key"].split("+", 2)[2])[1:]
    der = bytes.fromhex("302a300506032b6570032100") + public  # RFC 8410 section 4
    pem = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"
    assert desk.signatures.verifier.to_pem() == pem
    (tmp_path / "node.pem").write_text(pem)
    words = ("pkeyutl", "-verify", "-pubin", "-inkey", "node.pem", "-rawin", "-sigfile", "m.sig", "-in")
    command = [program("openssl"), *words]

    def verifies(name):
        return (
            subprocess.run([*command, name], cwd=tmp_path, capture_output=True, check=False).returncode == 0
        )

    assert verifies("m.json")
    (tmp_path / "n.json").write_text(canonical.replace("approval", "approvaL"), encoding="utf-8")
    assert not verifies("n.json")
