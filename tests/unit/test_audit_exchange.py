"""Audit events as FHIR AuditEvent and as DICOM audit messages, and their time stamps (RFC 3161)."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from xml.etree import ElementTree as ET

import pytest

from digital_twins._errors import ConflictError, InputError, StorageError
from digital_twins.audit import (
    AuditEvent,
    AuditTrail,
    check_timestamps,
    checkpoints_of_syslog,
    dicom_message,
    export_messages,
    fhir_audit_event,
    pseudonym,
    timestamp_trail,
    verify_trail,
)
from digital_twins.audit._event_codes import _KINDS, DCM
from digital_twins.audit._syslog import checkpoint_message, event_message
from digital_twins.fhir import FhirStore
from foreign import program

PATIENT = pseudonym("MRN-1", bytes(32))
EVENTS = (
    AuditEvent(
        "R", "fhir.read", "success", "user:anna", entity="Observation/7", patient=PATIENT, node="TWIN"
    ),
    AuditEvent("C", "fhir.create", "success", "client:app", entity="Observation/8", node="TWIN"),
    AuditEvent("E", "auth.sign-in", "refused", "anonymous", detail={"why": "credentials"}),
    AuditEvent("C", "dicom.store", "failure", "CT1", entity="1.2.3", patient=PATIENT, detail={"bytes": 12}),
    AuditEvent("E", "brand.new", "success", "node", entity='<&">'),
)


def test_every_code_has_its_meaning():
    used = {code for codes in _KINDS.values() for code in codes if code}
    assert used <= set(DCM)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_dicom_message_says_what_the_event_says(event):
    root = ET.fromstring(dicom_message(event))
    head = root.find("EventIdentification")
    assert head.get("EventActionCode") == event.action
    assert head.get("EventDateTime") == event.at_utc
    assert (
        head.get("EventOutcomeIndicator") == {"success": "0", "refused": "4", "failure": "8"}[event.outcome]
    )
    assert event.kind in [each.get("csd-code") for each in head.findall("EventTypeCode")]
    assert root.find("ActiveParticipant").get("UserID") == event.agent
    objects = {
        each.get("ParticipantObjectID"): each for each in root.findall("ParticipantObjectIdentification")
    }
    assert (PATIENT in objects) == (event.patient is not None)
    details = {
        each.get("type"): base64.b64decode(each.get("value")).decode()
        for each in root.iter("ParticipantObjectDetail")
    }
    assert details == {**{k: str(v) for k, v in event.detail.items()}, "event_id": event.event_id}


def test_the_fhir_form_is_valid_r4_and_claims_balp_where_it_applies():
    read, created, refused, stored, other = (fhir_audit_event(event) for event in EVENTS)
    balp = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
    assert read["meta"]["profile"] == [f"{balp}PatientRead"]
    assert created["meta"]["profile"] == [f"{balp}Create"]
    assert all("meta" not in each for each in (refused, stored, other))
    roles = [agent["type"]["coding"][0]["code"] for agent in read["agent"]]
    assert roles == ["110152", "110153", "IRCP"]
    assert [agent["type"]["coding"][0]["code"] for agent in created["agent"]] == ["110153", "110152"]
    assert read["entity"][0]["what"]["identifier"]["value"] == PATIENT
    assert read["entity"][1]["what"] == {"reference": "Observation/7"}
    assert refused["outcome"] == "4"
    assert refused["subtype"][0]["code"] == "110122"


def test_a_server_stores_the_fhir_form(tmp_path):
    from digital_twins.audit import OUTBOX_MIGRATIONS
    from digital_twins.fhir import MIGRATIONS
    from digital_twins.fhir.validation import ResourceValidation
    from digital_twins.storage import Database

    validation = ResourceValidation(tmp_path / "packages")
    with Database(tmp_path / "f.sqlite", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
        store = FhirStore(database, validate=validation.check)
        for event in EVENTS:
            store.update(fhir_audit_event(event))
        found = store.read("AuditEvent", EVENTS[0].event_id, agent="test").resource
    assert found["recorded"] == EVENTS[0].at_utc


def test_a_trail_is_exported_in_both_forms(tmp_path):
    with AuditTrail(tmp_path / "a.db") as trail:
        trail.append(EVENTS)
    lines = [json.loads(line) for line in export_messages(tmp_path / "a.db", "fhir")]
    assert [line["id"] for line in lines] == [event.event_id for event in EVENTS]
    assert len(list(export_messages(tmp_path / "a.db", "dicom", period="1999"))) == 0
    for line in export_messages(tmp_path / "a.db", "dicom"):
        assert ET.fromstring(line).tag == "AuditMessage"


def test_a_syslog_message_has_the_form_of_rfc_5424():
    message = event_message(EVENTS[0], sequence=2**31)
    head, bom, text = message.partition(b"\xef\xbb\xbf")
    words = head.decode("ascii").split(" ")
    assert words[0] == "<85>1"
    assert words[1] == EVENTS[0].at_utc
    assert words[3] == "TWIN"
    assert words[5:8] == ["DICOM+RFC3881", "[meta", 'sequenceId="1"]']
    assert bom
    assert text.decode() == dicom_message(EVENTS[0])


def test_checkpoints_of_a_syslog_file_are_an_anchor(tmp_path):
    with AuditTrail(tmp_path / "a.db") as trail:
        trail.append(EVENTS)
    note = (tmp_path / "a.checkpoints").read_text("utf-8").split("\n\n")
    last = f"{note[-3]}\n\n{note[-2]}\n"
    line = checkpoint_message(last, at_utc="2026-11-25T22:00:00Z", node="TWIN").decode()
    content = checkpoints_of_syslog(["noise", f"{line}\n", "TWIN-CHECKPOINT - !!!"])
    (tmp_path / "anchor").write_text(content, "utf-8")
    report = verify_trail(tmp_path / "a.db", anchor=tmp_path / "anchor")
    assert report.ok
    assert report.anchored_events == len(EVENTS)


@contextmanager
def time_stamp_authority(folder):
    """`openssl ts` behind an HTTP port of this machine."""
    openssl = program("openssl")

    def run(*words, **more):
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True, **more)

    (folder / "tsa.cnf").write_text(
        "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\nsigner_digest=sha256\ndefault_policy=1.2.3.4\n"
        "digests=sha256,sha512\naccuracy=secs:1\ness_cert_id_alg=sha256\n"
        "[ext]\nextendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n"
        "basicConstraints=critical,CA:FALSE\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    (folder / "serial").write_text("01\n")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    run(*new, "-x509", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root", "-days", "30",
        "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    run(*new, "-keyout", "tsa.key", "-out", "tsa.csr", "-subj", "/CN=tsa")
    run("x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-set_serial", "2", "-out",
        "tsa.pem", "-days", "30", "-extfile", "tsa.cnf", "-extensions", "ext")  # fmt: skip

    class Authority(BaseHTTPRequestHandler):
        def do_POST(self):
            (folder / "q.tsq").write_bytes(self.rfile.read(int(self.headers["content-length"])))
            run("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq", "-signer", "tsa.pem", "-inkey",
                "tsa.key", "-out", "a.tsr")  # fmt: skip
            self.send_response(200)
            self.send_header("content-type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write((folder / "a.tsr").read_bytes())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Authority) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_an_authority_stamps_a_checkpoint_and_openssl_agrees(tmp_path):
    folder = tmp_path / "tsa"
    folder.mkdir()
    with time_stamp_authority(folder) as url:
        with pytest.raises(ConflictError):
            timestamp_trail(tmp_path / "a.db", url, authority=folder / "root.pem")
        with AuditTrail(tmp_path / "a.db") as trail:
            trail.append(EVENTS)
        stamp = timestamp_trail(tmp_path / "a.db", url, authority=folder / "root.pem")
        assert stamp.size == len(EVENTS)
        with pytest.raises(InputError):  # an authority that is another one
            timestamp_trail(tmp_path / "a.db", url, authority=folder / "tsa.pem")
    with pytest.raises(StorageError):
        timestamp_trail(tmp_path / "a.db", url, authority=folder / "root.pem")
    good, wrong = check_timestamps(tmp_path / "a.db", folder / "root.pem")
    assert good == (stamp,)
    assert wrong == ()
    (folder / "note").write_bytes(stamp.note.encode())
    (folder / "kept.tsr").write_bytes(stamp.response)
    said = subprocess.run(
        [program("openssl"), "ts", "-verify", "-data", "note", "-in", "kept.tsr", "-CAfile", "root.pem"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert b"Verification: OK" in said.stdout + said.stderr
    kept = tmp_path / "a.timestamps"
    line = json.loads(kept.read_text("utf-8"))
    line["note"] = line["note"].replace("\n5\n", "\n4\n")
    kept.write_text(json.dumps(line), "utf-8")
    good, wrong = check_timestamps(tmp_path / "a.db", folder / "root.pem")
    assert good == ()
    assert len(wrong) == 1
