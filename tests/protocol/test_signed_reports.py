"""Signing a twin's report through the node: web session, components, sealed PDF, and what is refused."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import twin_page_fixture as made_up
from auth_support import PASSWORD, Site, site
from digital_twins.auth._passwords import totp_code
from digital_twins.governance import ElectronicSignature, signature_key, signature_problems, verify_pdf
from digital_twins.reports import render_pdf
from report_samples import sample_report
from signing_support import document_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def report():
    return render_pdf(sample_report(images=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory, certificates, report) -> Iterator[tuple[Site, str, dict[str, str]]]:
    made = document_certificate(certificates)
    folder = tmp_path_factory.mktemp("node")
    settings = {"document_certificate": made.certificate, "document_key": made.key}
    with site(folder, **settings) as found:
        secrets = {}
        for name, display in (("sigrid", "Dr Sigrid Sommer"), ("pavel", "Pavel Physik")):
            role = "clinician" if name == "sigrid" else "physicist"
            secrets[name] = str(
                found.authority.accounts.add(name, password=PASSWORD, roles=[role], display=display)
            )
        services = found.node.services
        catalogue = services.catalogue
        key = catalogue.patient_key(made_up.patient().patient_id)
        view = made_up.twin(key)
        digest = services.blobs.put(report)
        services.database.write(lambda cursor: catalogue.keep_in(cursor, view, {"pdf": digest}))
        yield found, f"/api/twins/{view.twin_id}/report", secrets


def next_code(found: Site, name: str, secret: str) -> str:
    """A fresh code: the record of used ones is put back, so that no test waits half a minute."""
    found.authority.records.database.write(
        lambda cursor: cursor.execute("UPDATE auth_user SET totp_last=0 WHERE name=?", (name,)) and None
    )
    return totp_code(secret, int(time.time()) // 30)


@contextmanager
def browser(found: Site, name: str, secrets: dict[str, str]) -> Iterator[httpx.Client]:
    form = {"name": name, "password": PASSWORD, "code": next_code(found, name, secrets[name])}
    with httpx.Client(base_url=found.base, headers={"origin": found.base}, timeout=60) as client:
        assert client.post("/auth/sign-in", data=form).status_code == 303
        yield client


def full(found: Site, name: str, secrets: dict[str, str], **more: Any) -> dict[str, Any]:
    code = next_code(found, name, secrets[name])
    return {"meaning": "approval", "name": name, "password": PASSWORD, "code": code, **more}


def test_two_people_sign_and_the_file_holds(place, certificates, report):
    found, path, secrets = place
    reads = ("api.twin.signatures", "api.twin.file")
    before = len(found.trail(*reads))
    with browser(found, "sigrid", secrets) as client:
        refused = client.post(f"{path}/signatures", json={"meaning": "approval", "password": PASSWORD})
        assert refused.status_code == 400
        answer = client.post(f"{path}/signatures", json=full(found, "sigrid", secrets))
        assert answer.status_code == 200, answer.text
        first = answer.json()
        assert (first["printed_name"], first["in_pdf"], first["problems"]) == ("Dr Sigrid Sommer", True, [])
        again = client.post(f"{path}/signatures", json={"meaning": "review", "password": PASSWORD})
        assert again.status_code == 200, again.text  # one component in the same session
        signed = client.get(f"{path}/signed.pdf")
        assert signed.headers["content-type"] == "application/pdf"
        assert [each.ok for each in verify_pdf(signed.content, [certificates / "ca.pem"])] == [True, True]
    with browser(found, "pavel", secrets) as client:
        # the session of one is not that of another
        assert client.post(f"{path}/signatures", json=full(found, "sigrid", secrets)).status_code == 403
        assert client.post(f"{path}/signatures", json=full(found, "pavel", secrets)).status_code == 200
        listed = client.get(f"{path}/signatures").json()
        signed = client.get(f"{path}/signed.pdf").content
    assert [each["signer"] for each in listed].count("sigrid") == 2
    assert [each["signer"] for each in listed].count("pavel") == 1
    assert signed.startswith(report)
    names = [each.printed_name for each in verify_pdf(signed, [certificates / "ca.pem"])]
    assert names == ["Dr Sigrid Sommer", "Dr Sigrid Sommer", "Pavel Physik"]
    key = signature_key(found.node.services.data_dir).verifier
    for each in listed:
        assert signature_problems(ElectronicSignature.from_json(each["document"]), report, key=key) == ()
    signatures = found.trail("governance.signature")
    assert [event["outcome"] for event in signatures].count("success") == 3
    assert PASSWORD not in str(signatures)
    # one event for each read: two signed files and one list (test_audit_routes leaves these routes to us)
    assert sorted(each["kind"] for each in found.trail(*reads)[before:]) == [reads[1], reads[1], reads[0]]


def test_who_may_not_sign(place):
    found, path, secrets = place
    body = {"meaning": "approval", "name": "sigrid", "password": PASSWORD, "code": "000000"}
    for name, status in (("adam", 403), ("rita", 403), ("anna", 401)):
        with found.browser(name) as client:  # an administrator, a researcher, a clinician without codes
            shown = body | {"name": name}
            assert client.post(f"{path}/signatures", json=shown).status_code == status, name
    with browser(found, "sigrid", secrets) as client:
        session = client.cookies["twin-session"]
        del client.headers["origin"]  # a page of another site
        shown = full(found, "sigrid", secrets)
        assert client.post(f"{path}/signatures", json=shown).status_code == 403
        client.headers["origin"] = found.base
        assert client.post(f"{path}/signatures", json=shown | {"meaning": "agreement"}).status_code == 422
        assert client.get("/api/twins/none/report/signed.pdf").status_code == 404
        found.authority.sessions.end(session)
        assert client.post(f"{path}/signatures", json=shown).status_code == 401


def test_the_trail_names_the_person_behind_an_operation(place):
    found, _, _ = place
    with found.browser("adam") as client:
        assert client.get("/api/holds").status_code == 200
    assert [event["agent"] for event in found.trail("api.holds.list")] == ["user:adam"]


def test_a_node_where_nobody_signs_in_signs_nothing(tmp_path):
    from digital_twins.config import Settings
    from digital_twins.server import Node

    with Node(Settings(data_dir=tmp_path, http_port=0, dicom_port=0)) as node:
        path = f"{node.base_url}/api/twins/t/report/signatures"
        answer = httpx.post(path, json={"meaning": "approval"}, headers={"origin": node.base_url})
    assert answer.status_code == 400
    assert "Nobody signs in" in answer.text
