"""Signing with an authenticator in Chromium, and what attackers may send in its place."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import twin_page_fixture as made_up
from auth_support import PASSWORD, Site, site
from browser import Browser, browser
from digital_twins.auth import Authenticators, NotSignedInError, evidence_holds
from digital_twins.auth._passwords import totp_code
from digital_twins.governance import ElectronicSignature, signature_key, signature_problems
from digital_twins.reports import render_pdf
from report_samples import sample_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = [pytest.mark.peers, pytest.mark.timeout(1500)]
PEOPLE = {"sigrid": "Dr Sigrid Sommer", "pavel": "Pavel Physik"}


class Place:
    """A node at http://localhost with a finished report, two signers, and a browser with an authenticator."""

    def __init__(self, found: Site, chromium: Browser, report: bytes) -> None:
        self.site, self.chromium, self.report = found, chromium, report
        accounts = found.authority.accounts
        self.secrets = {
            name: str(accounts.add(name, password=PASSWORD, roles=["clinician"], display=display))
            for name, display in PEOPLE.items()
        }
        services = found.node.services
        self.key = services.catalogue.patient_key(made_up.patient().patient_id)
        self.view = made_up.twin(self.key)
        image, affine, centre = made_up.phantom()
        files = {
            f"predicted/{name}": made_up.ball_volumes(image.shape, affine, centre, name)
            for name in made_up.COURSES
        }
        files |= {
            "image": made_up.nifti(image, affine),
            "lesion": made_up.nifti((image == 40).astype("uint8"), affine),
            "pdf": report,
        }
        digests = {name: services.blobs.put(data) for name, data in files.items()}
        services.database.write(lambda cursor: services.catalogue.keep_in(cursor, self.view, digests))
        self.path = f"/api/twins/{self.view.twin_id}/report/signatures"

    def code(self, name: str) -> str:
        """A fresh code: the record of used ones is put back, so that no test waits half a minute."""
        self.site.authority.records.database.write(
            lambda cursor: cursor.execute("UPDATE auth_user SET totp_last=0 WHERE name=?", (name,)) and None
        )
        return totp_code(self.secrets[name], int(time.time()) // 30)

    @contextmanager
    def client(self, name: str) -> Iterator[httpx.Client]:
        base = self.site.base
        form = {"name": name, "password": PASSWORD, "code": self.code(name)}
        with httpx.Client(base_url=base, headers={"origin": base}, timeout=60) as client:
            assert client.post("/auth/sign-in", data=form).status_code == 303
            yield client

    @contextmanager
    def page(self, client: httpx.Client) -> Iterator[tuple[Page, Any]]:
        """The patient's page in a session, and its virtual authenticator over CDP."""
        with self.chromium.page() as page:
            cookie = {"name": "twin-session", "value": client.cookies["twin-session"], "url": self.site.base}
            page.context.add_cookies([cookie])
            page.set_default_timeout(240_000)
            devices = page.context.new_cdp_session(page)
            devices.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
            device = devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})
            page.goto(f"{self.site.base}/patients/{self.key}")
            page.wait_for_selector("html[data-ready=twin]", state="attached")
            yield page, (devices, device["authenticatorId"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    report = render_pdf(sample_report(images=False))
    with (
        browser() as chromium,
        site(tmp_path_factory.mktemp("node"), host="localhost") as found,
    ):
        yield Place(found, chromium, report)


ANSWER = """async (options) => {
  const bytes = (t) => Uint8Array.from(atob(t.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0))
  const coded = (b) => btoa(String.fromCharCode(...new Uint8Array(b)))
    .replace(/[+]/g, '-').replace(/[/]/g, '_').replace(/=+$/, '')
  const allow = (options.allowCredentials ?? []).map((c) => ({...c, id: bytes(c.id)}))
  const publicKey = {...options, challenge: bytes(options.challenge), allowCredentials: allow}
  const made = await navigator.credentials.get({publicKey})
  const r = made.response
  return {id: made.id, rawId: coded(made.rawId), type: made.type, clientExtensionResults: {},
    response: {authenticatorData: coded(r.authenticatorData), clientDataJSON: coded(r.clientDataJSON),
      signature: coded(r.signature)}}
}"""


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def changed(credential: dict[str, Any], part: str, place: int) -> dict[str, Any]:
    """An answer with one bit of one part flipped."""
    other = copy.deepcopy(credential)
    data = bytearray(decoded(other["response"][part]))
    data[place] ^= 1
    other["response"][part] = coded(bytes(data))
    return other


def unlock(place: Place, name: str) -> None:
    place.site.authority.records.database.write(
        lambda cursor: (
            cursor.execute("UPDATE auth_user SET failures=0, locked_until=0 WHERE name=?", (name,)) and None
        )
    )


def test_an_authenticator_is_registered_and_signs_in_the_dialog_and_no_attack_is_taken(
    place: Place, tmp_path: Path
) -> None:
    with place.client("sigrid") as client, place.page(client) as (page, device):
        _register_and_sign(place, page, tmp_path)
        signed = client.get(place.path).json()
        _check_signature(place, signed)
        _attacks(place, client, page, device)
        later = _again(place, client, page)
        held = [each["signature_id"] for each in client.get(place.path).json()]
        assert sorted(held) == sorted([signed[0]["signature_id"], later])
        _revoked(place, client, page)
    events = place.site.trail("auth.authenticator.add", "auth.authenticator.revoke", "governance.signature")
    kinds = [(each["kind"], each["outcome"]) for each in events]
    assert kinds.count(("auth.authenticator.add", "success")) == 1
    assert kinds.count(("auth.authenticator.revoke", "success")) == 1
    assert kinds.count(("governance.signature", "success")) == 2
    assert PASSWORD not in str(events)


def _register_and_sign(place: Place, page: Page, folder: Path) -> None:
    page.click("#sign-open")
    page.wait_for_selector("#sign[open]")
    assert page.is_visible("#sign-no-keys") or page.query_selector("#sign-add") is not None
    page.click("#sign-add summary")
    page.fill("#sign-password", PASSWORD)
    page.fill("#sign-code", place.code("sigrid"))
    page.fill("#sign-label", "blue key")
    page.click("#sign-register")
    page.wait_for_selector("#sign-status:text-is('Registered.')")
    assert "blue key" in page.inner_text("#sign-keys")
    page.click("#sign-add summary")
    page.fill("#sign-name", "sigrid")
    page.fill("#sign-password", PASSWORD)
    page.click("#sign-form button[type=submit]")
    page.wait_for_selector("#sign-status:text-is('Signed.')")
    assert "Dr Sigrid Sommer, approval" in page.inner_text("#signatures")
    assert "authenticator · holds" in page.inner_text("#signatures")
    assert page.input_value("#sign-password") == ""
    assert place.chromium.violations(page) == []
    page.screenshot(path=folder / "dialog.png")


def _check_signature(place: Place, signed: list[dict[str, Any]]) -> None:
    (made,) = signed
    signature = ElectronicSignature.from_json(made["document"])
    assert signature.manifest.components == ("name", "password", "authenticator")
    key = signature_key(place.site.node.services.data_dir).verifier
    assert signature_problems(signature, place.report, key=key) == ()
    challenge = hashlib.sha256(signature.manifest.to_json().encode()).digest()
    client_data = json.loads(decoded(json.loads(made["authenticator"])["clientDataJSON"]))
    assert decoded(client_data["challenge"]) == challenge
    assert evidence_holds(made["authenticator"], challenge)
    assert not evidence_holds(made["authenticator"], bytes(32))


def _begin(place: Place, client: httpx.Client, meaning: str = "review") -> dict[str, Any]:
    answer = client.post(f"{place.path}/challenge", json={"meaning": meaning})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _send(place: Place, client: httpx.Client, waits: dict[str, Any], credential: Any) -> int:
    unlock(place, "sigrid")
    body = {"signature_id": waits["signature_id"], "credential": credential}
    return client.post(f"{place.path}/answer", json=body).status_code


def _attacks(place: Place, client: httpx.Client, page: Page, device: tuple[Any, str]) -> None:
    refused = {401, 403}
    waits = _begin(place, client)
    right = page.evaluate(ANSWER, waits["options"])
    other = _begin(place, client, "responsibility")
    assert _send(place, client, other, right) in refused  # an answer to another manifest
    assert _send(place, client, other, page.evaluate(ANSWER, other["options"])) in refused  # one try each
    for part, at in (
        ("signature", -1),
        ("authenticatorData", 0),
        ("authenticatorData", 36),
        ("clientDataJSON", 30),
    ):
        waits = _begin(place, client)
        assert (
            _send(place, client, waits, changed(page.evaluate(ANSWER, waits["options"]), part, at)) in refused
        )
    for part, value in (("signature", ""), ("clientDataJSON", "e30"), ("authenticatorData", "AA")):
        waits = _begin(place, client)
        broken = copy.deepcopy(page.evaluate(ANSWER, waits["options"]))
        broken["response"][part] = value
        assert _send(place, client, waits, broken) in refused
    for nonsense in ({}, {"id": 7}, {"id": right["id"]}, {"id": right["id"], "response": []}):
        assert _send(place, client, _begin(place, client), nonsense) in refused
    # not verified by PIN or finger
    devices, number = device
    devices.send("WebAuthn.setUserVerified", {"authenticatorId": number, "isUserVerified": False})
    waits = _begin(place, client)
    lax = {**waits["options"], "userVerification": "discouraged"}
    assert _send(place, client, waits, page.evaluate(ANSWER, lax)) in refused
    devices.send("WebAuthn.setUserVerified", {"authenticatorId": number, "isUserVerified": True})
    _other_people(place, client, page)
    _cloned(place, client, page)


def _other_people(place: Place, client: httpx.Client, page: Page) -> None:
    refused = {401, 403}
    with place.client("pavel") as pavel:
        # he has none: there is no way round the second component
        shown = {"meaning": "review", "name": "pavel", "password": PASSWORD}
        assert pavel.post(f"{place.path}/challenge", json=shown).status_code == 400
        assert pavel.post(place.path, json=shown).status_code == 400
        waits = _begin(place, client)
        right = page.evaluate(ANSWER, waits["options"])
        body = {"signature_id": waits["signature_id"], "credential": right}
        assert pavel.post(f"{place.path}/answer", json=body).status_code in refused  # another session
        assert (
            client.post(
                "/api/authenticators/challenge", json={"password": PASSWORD, "code": "000000"}
            ).status_code
            in refused
        )
    unlock(place, "sigrid")
    first = client.post(f"{place.path}/challenge", json={"meaning": "review", "name": "pavel"})
    assert first.status_code == 403
    # the same key for another address
    authority = place.site.authority
    elsewhere = Authenticators(authority.records, authority.accounts, "https://evil.example")
    challenge = decoded(_begin(place, client)["options"]["challenge"])
    options = {**_begin(place, client)["options"], "challenge": coded(challenge)}
    answer = page.evaluate(ANSWER, options)
    with pytest.raises(NotSignedInError):
        elsewhere.check("sigrid", answer, challenge)
    with pytest.raises(NotSignedInError):
        authority.authenticators.check("pavel", answer, challenge)
    unlock(place, "sigrid")
    unlock(place, "pavel")
    authority.authenticators.check("sigrid", answer, challenge)


def _cloned(place: Place, client: httpx.Client, page: Page) -> None:
    """A counter that goes back: the key was copied."""
    database = place.site.authority.records.database
    with database.read() as connection:
        ((count,),) = connection.execute("SELECT sign_count FROM auth_authenticator").fetchall()
    assert int(str(count)) > 0

    def counted(number: int) -> None:
        sql = "UPDATE auth_authenticator SET sign_count=?"
        database.write(lambda cursor: cursor.execute(sql, (number,)) and None)

    counted(1_000_000)
    waits = _begin(place, client)
    assert _send(place, client, waits, page.evaluate(ANSWER, waits["options"])) in {401, 403}
    counted(int(str(count)))


def _again(place: Place, client: httpx.Client, page: Page) -> str:
    """A later signature of the session by the authenticator alone, and a replay of it."""
    waits = _begin(place, client)
    credential = page.evaluate(ANSWER, waits["options"])
    assert _send(place, client, waits, credential) == 200
    assert _send(place, client, waits, credential) in {401, 403}
    return str(waits["signature_id"])


def _revoked(place: Place, client: httpx.Client, page: Page) -> None:
    waits = _begin(place, client, "authorship")
    credential = page.evaluate(ANSWER, waits["options"])
    (mine,) = client.get("/api/authenticators").json()
    with place.client("pavel") as pavel:
        assert pavel.get("/api/authenticators").json() == []
        assert pavel.delete(f"/api/authenticators/{mine['credential']}").status_code == 404
    assert client.delete(f"/api/authenticators/{mine['credential']}").status_code == 204
    assert _send(place, client, waits, credential) in {401, 403}
    assert client.get("/api/authenticators").json() == []
    assert client.post(f"{place.path}/challenge", json={"meaning": "authorship"}).status_code == 400
