"""A node where people sign in, with accounts, clients and records, for the tests of access."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from digital_twins import auth
from digital_twins.audit import tail_trail
from digital_twins.config import Settings
from digital_twins.server import Node

PASSWORD = "correct horse battery staple"
CALLBACK = "http://127.0.0.1:9/callback"
LAB = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"


@dataclass
class Site:
    """The node, its authority, and keys of its service client."""

    node: Node
    authority: auth.Authority
    ec: ECKey
    rsa: RSAKey
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return self.node.base_url

    def trail(self, *kinds: str) -> list[dict[str, Any]]:
        """The events of these kinds, once the outbox is empty."""
        database, end = self.authority.records.database, time.monotonic() + 20
        while time.monotonic() < end:
            with database.read() as connection:
                ((left,),) = connection.execute("SELECT count(*) FROM audit_outbox").fetchall()
            if left == 0:
                break
            time.sleep(0.05)
        rows = tail_trail(self.node.services.data_dir / "audit.sqlite", n=100_000)
        events = [msgspec.structs.asdict(row.event) for row in rows]
        return [event for event in events if event["kind"] in kinds]

    @contextmanager
    def browser(self, user: str = "anna") -> Iterator[httpx.Client]:
        """A signed-in browser."""
        with httpx.Client(base_url=self.base, headers={"origin": self.base}) as client:
            if user in self.cookies:  # argon2 is slow on purpose: one sign-in a user is enough
                client.cookies.set("twin-session", self.cookies[user])
            else:
                answer = client.post("/auth/sign-in", data={"name": user, "password": PASSWORD})
                assert answer.status_code == 303, answer.text
                self.cookies[user] = client.cookies["twin-session"]
            yield client

    def app_token(
        self, scope: str, *, patient: str | None = None, user: str = "anna", app: str = "app"
    ) -> str:
        return str(self.app_tokens(scope, patient=patient, user=user, app=app)["access_token"])

    def app_tokens(
        self, scope: str, *, patient: str | None = None, user: str = "anna", app: str = "app"
    ) -> dict[str, Any]:
        """The whole standalone launch, as a browser and an app do it."""
        with self.browser(user) as browser:
            code, verifier = self.code(browser, scope, patient=patient, app=app)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        answer = self.token(**form, client_id=app, code_verifier=verifier)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def request(self, scope: str, *, app: str = "app", **more: str) -> tuple[dict[str, str], str]:
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": app,
            "redirect_uri": CALLBACK,
            "scope": scope,
            "state": secrets.token_urlsafe(8),
            "aud": f"{self.base}/fhir",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return query | more, verifier

    def code(
        self, browser: httpx.Client, scope: str, *, patient: str | None, app: str = "app", **more: str
    ) -> tuple[str, str]:
        query, verifier = self.request(scope, app=app, **more)
        page = browser.get("/auth/authorize", params=query)
        assert page.status_code == 200, page.text
        form = {"decision": "allow", "form_token": _form_token(page.text)}
        if patient is not None:
            form["patient"] = patient
        answer = browser.post("/auth/authorize", params=query, data=form)
        assert answer.status_code == 303, answer.text
        found = parse_qs(urlsplit(answer.headers["location"]).query)
        assert found["state"] == [query["state"]]
        assert found["iss"] == [self.base]
        return found["code"][0], verifier

    def token(self, **form: str) -> httpx.Response:
        return httpx.post(f"{self.base}/auth/token", data=form)

    def assertion(self, *, key: Any = None, alg: str = "ES384", **changes: Any) -> str:
        key = key or (self.rsa if alg == "RS384" else self.ec)
        claims = {
            "iss": "service",
            "sub": "service",
            "aud": f"{self.base}/auth/token",
            "exp": int(time.time()) + 120,
            "jti": secrets.token_hex(8),
        } | changes
        return jwt.encode({"alg": alg, "kid": key.kid}, claims, key, algorithms=[alg])

    def service(self, scope: str = "system/*.rs", **changes: Any) -> httpx.Response:
        return self.token(
            grant_type="client_credentials",
            scope=scope,
            client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            client_assertion=self.assertion(**changes),
        )

    def fhir(self, token: str, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} | more.pop("headers", {})
        return httpx.request(method, f"{self.base}/fhir{path}", headers=headers, **more)


def _form_token(page: str) -> str:
    return page.split('name="form_token" value="')[1].split('"', maxsplit=1)[0]


def keyed(kind: str) -> Any:
    """A new key with an id: P-384 or RSA of 2048 bits."""
    made = ECKey.generate_key("P-384") if kind == "EC" else RSAKey.generate_key(2048)
    imported = type(made).import_key({**made.as_dict(private=True), "kid": secrets.token_hex(4)})
    return imported


@contextmanager
def site(folder: Path, **settings: Any) -> Iterator[Site]:
    """A running node with accounts of every role and three clients."""
    given = Settings(data_dir=folder, http_port=0, dicom_port=0, authentication=True, **settings)
    with Node(given) as node:
        services = node.services
        authority = auth.open_authority(
            services.database, services.auditor, services.data_dir, base_url=node.base_url
        )
        for name, role in {"anna": "clinician", "rita": "researcher", "adam": "admin", "theo": "technologist",
                           "phil": "physicist", "otto": "auditor"}.items():  # fmt: skip
            authority.accounts.add(
                name, password=PASSWORD, roles=[role], second_factor=False, fhir_user="Practitioner/7"
            )
        authority.accounts.add(
            "pat",
            password=PASSWORD,
            roles=["patient"],
            patient="p1",
            second_factor=False,
            fhir_user="Patient/p1",
        )
        scope = "openid fhirUser profile launch launch/patient offline_access"
        scope = f"{scope} patient/*.cruds user/*.cruds twin.read"
        authority.clients.add(
            "app", scope=scope, redirect_uris=[CALLBACK], launch_url="http://127.0.0.1:9/launch"
        )
        ec, rsa = keyed("EC"), keyed("RSA")
        jwks = {"keys": [key.as_dict(private=False) for key in (ec, rsa)]}
        authority.clients.add("service", scope="system/*.cruds imaging.read", jwks=jwks)
        yield Site(node, authority, ec, rsa)


def records(node: Node) -> None:
    """Two patients with an encounter-free record each: a laboratory value, a vital sign, and a doctor."""
    store = node.services.fhir
    store.update({"resourceType": "Practitioner", "id": "7", "name": [{"family": "Seven"}]})
    for name in ("p1", "p2"):
        store.update({"resourceType": "Patient", "id": name, "name": [{"family": name.upper()}]})
        for kind, code in (("lab", "laboratory"), ("vital", "vital-signs")):
            store.update(
                {
                    "resourceType": "Observation",
                    "id": f"{kind}-{name}",
                    "status": "final",
                    "code": {"text": kind},
                    "category": [{"coding": [{"system": LAB.split("|", maxsplit=1)[0], "code": code}]}],
                    "subject": {"reference": f"Patient/{name}"},
                    "performer": [{"reference": "Practitioner/7"}],
                }
            )
