"""OAuth 2, SMART launches and the list of attacks on tokens, against a running node."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from joserfc import jwt

from auth_support import CALLBACK, Site, keyed, records, site
from digital_twins import auth
from digital_twins.fhir import structural_issues


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("node")) as found:
        records(found.node)
        yield found


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _raw(header: dict[str, Any], claims: dict[str, Any], sign: Any) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{text}.{part(sign(text.encode()))}"


def _ours(
    place: Site, *, kid: str | None = None, alg: str = "ES256", typ: str = "at+jwt", **changes: Any
) -> str:
    """A token signed with the node's own key, with one thing changed."""
    claims = _claims(place.app_token("user/*.rs")) | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    key = place.authority.keys.signing
    return jwt.encode({"alg": alg, "kid": kid or key.kid, "typ": typ}, claims, key, algorithms=[alg])


def test_discovery_names_what_answers(place: Site) -> None:
    for path in ("/.well-known/openid-configuration", "/fhir/.well-known/smart-configuration"):
        found = httpx.get(place.base + path).json()
        assert found["issuer"] == place.base
        assert httpx.get(found["jwks_uri"]).json()["keys"][0]["alg"] == "ES256"
        assert "d" not in httpx.get(found["jwks_uri"]).json()["keys"][0]
        assert "S256" in found["code_challenge_methods_supported"]
        for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint"):
            assert httpx.post(found[name], data={"x": "y"}).status_code == 401


def test_standalone_launch_gives_a_short_token_bound_to_the_patient(place: Site) -> None:
    found = place.app_tokens("openid fhirUser launch/patient patient/Observation.rs", patient="p1")
    claims, identity = _claims(found["access_token"]), _claims(found["id_token"])
    assert claims["exp"] - claims["iat"] <= 600
    assert (claims["aud"], claims["iss"]) == (f"{place.base}/fhir", place.base)
    assert (found["patient"], claims["patient"]) == ("p1", "p1")
    assert identity["fhirUser"] == f"{place.base}/fhir/Practitioner/7"
    assert (identity["aud"], identity["sub"]) == ("app", "anna")
    assert "refresh_token" not in found
    assert place.fhir(found["access_token"], "GET", "/Observation/lab-p1").status_code == 200
    assert place.fhir(found["access_token"], "GET", "/Observation/lab-p2").status_code == 403


def test_ehr_launch_brings_its_patient(place: Site) -> None:
    with place.browser() as browser:
        form = {"client_id": "app", "patient": "p2", "encounter": "e9"}
        made = browser.post("/auth/launch", data=form).json()
        assert made["url"].startswith("http://127.0.0.1:9/launch?iss=")
        code, verifier = place.code(browser, "launch patient/*.rs", patient=None, launch=made["launch"])
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
    found = place.token(**form, client_id="app", code_verifier=verifier).json()
    assert (found["patient"], found["encounter"], found["need_patient_banner"]) == ("p2", "e9", False)
    with place.browser("rita") as browser:
        assert browser.post("/auth/launch", data={"client_id": "app", "patient": "p2"}).status_code == 403
    query, _ = place.request("launch patient/*.rs", launch="made-up")
    with place.browser() as browser:
        answer = browser.get("/auth/authorize", params=query)
    assert "error=invalid_request" in answer.headers["location"]


def test_refresh_rotates_and_reuse_ends_the_family(place: Site) -> None:
    first = place.app_tokens("offline_access user/*.rs")
    again = {"grant_type": "refresh_token", "client_id": "app"}
    second = place.token(**again, refresh_token=first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert place.fhir(second["access_token"], "GET", "/Patient").status_code == 200
    replayed = place.token(**again, refresh_token=first["refresh_token"])
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert place.token(**again, refresh_token=second["refresh_token"]).status_code == 400
    assert [e["detail"]["why"] for e in place.trail("auth.revoke")][-1:] == ["refresh-reused"]


def test_a_public_app_refreshes_without_its_name(place: Site) -> None:
    # SMART App Launch 2.2.0 section 2.0.14: a public app sends grant_type and refresh_token only.
    token = place.app_tokens("offline_access user/*.rs")["refresh_token"]
    fresh = place.token(grant_type="refresh_token", refresh_token=token)
    assert fresh.status_code == 200, fresh.text
    assert place.token(grant_type="refresh_token", refresh_token="unknown").status_code == 401
    access = fresh.json()["access_token"]
    assert place.fhir(access, "GET", "/Patient/p1").status_code == 200
    assert place.token(grant_type="refresh_token", refresh_token=token).json()["error"] == "invalid_grant"
    # The reuse ended the family: the access token too, at once.
    assert place.fhir(access, "GET", "/Patient/p1").status_code == 401


def test_a_confidential_app_never_refreshes_without_its_proof(place: Site) -> None:
    secret = place.authority.clients.add(
        "backend", scope="offline_access user/*.rs", redirect_uris=[CALLBACK], secret=True
    )
    with place.browser() as browser:
        code, verifier = place.code(browser, "offline_access user/*.rs", patient=None, app="backend")
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
    tokens = place.token(
        **form, client_id="backend", client_secret=str(secret), code_verifier=verifier
    ).json()
    refused = place.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_the_capability_statement_says_how_to_sign_in_and_what_runs(place: Site) -> None:
    statement = httpx.get(f"{place.base}/fhir/metadata").json()
    assert structural_issues(statement) == []
    rest = statement["rest"][0]
    addresses = {e["url"]: e["valueUri"] for e in rest["security"]["extension"][0]["extension"]}
    known = httpx.get(f"{place.base}/fhir/.well-known/smart-configuration").json()
    assert addresses["authorize"] == known["authorization_endpoint"]
    assert addresses["token"] == known["token_endpoint"]
    assert addresses["introspect"] == known["introspection_endpoint"]
    assert addresses["revoke"] == known["revocation_endpoint"]
    token = place.service("system/*.rs").json()["access_token"]
    kick = {"prefer": "respond-async"}
    operations = {("", o["name"]) for o in rest["operation"]}
    for each in rest["resource"]:
        operations |= {(each["type"], o["name"]) for o in each.get("operation", ())}
    assert {("", "export"), ("Patient", "export"), ("Group", "export")} <= operations
    assert {("Patient", "everything"), ("Subscription", "status"), ("Observation", "validate")} <= operations
    assert ("Observation", "export") not in operations
    for path in ("/$export", "/Patient/$export"):
        assert place.fhir(token, "GET", path, headers=kick).status_code == 202
    assert place.fhir(token, "GET", "/Observation/$export", headers=kick).status_code in {403, 404}


def test_codes_are_good_once_and_for_their_verifier(place: Site) -> None:
    with place.browser() as browser:
        code, verifier = place.code(browser, "user/*.rs", patient=None)
        other, _ = place.code(browser, "user/*.rs", patient=None)
    form = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "client_id": "app"}
    assert place.token(**form, code=other, code_verifier=verifier).status_code == 400
    given = place.token(**form, code=code, code_verifier=verifier)
    assert given.status_code == 200
    assert place.token(**form, code=code, code_verifier=verifier).status_code == 400
    dead = place.fhir(given.json()["access_token"], "GET", "/Patient")
    assert dead.status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"aud": "https://other.example/fhir"},
        {"state": ""},
        {"response_type": "token"},
        {"scope": "admin/everything"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_wrong_authorization_requests_give_no_code(place: Site, change: dict[str, str]) -> None:
    query, _ = place.request("user/*.rs")
    with place.browser() as browser:
        answer = browser.get("/auth/authorize", params=query | change)
    assert answer.status_code == 303
    assert "error=" in answer.headers["location"]
    assert "code=" not in answer.headers["location"].replace("error_code=", "")


@pytest.mark.parametrize("change", [{"redirect_uri": CALLBACK + "/x"}, {"client_id": "nobody"}])
def test_unregistered_addresses_are_never_redirected_to(place: Site, change: dict[str, str]) -> None:
    query, _ = place.request("user/*.rs")
    with place.browser() as browser:
        answer = browser.get("/auth/authorize", params=query | change)
    assert answer.status_code == 400
    assert "location" not in answer.headers


def _forged(place: Site) -> dict[str, str]:
    good = place.app_token("user/*.rs")
    claims, head = _claims(good), {"alg": "ES256", "kid": place.authority.keys.signing.kid, "typ": "at+jwt"}
    public = place.authority.keys.signing.as_pem(private=False)
    jwk = json.dumps(place.authority.keys.public()["keys"][0]).encode()
    mine = keyed("EC")
    parts = good.split(".")
    other = _raw({}, claims | {"sub": "adam"}, lambda _: b"")

    def mac(secret: bytes) -> Any:
        return lambda text: hmac.new(secret, text, hashlib.sha256).digest()

    return {
        "alg none": _raw(head | {"alg": "none"}, claims, lambda _: b""),
        "alg None": _raw(head | {"alg": "NonE"}, claims, lambda _: b""),
        "unsigned": f"{parts[0]}.{parts[1]}.",
        "HS256 with the public key": _raw(head | {"alg": "HS256"}, claims, mac(public)),
        "HS256 with the public JWK": _raw(head | {"alg": "HS256"}, claims, mac(jwk)),
        "HS256 with an empty key": _raw(head | {"alg": "HS256"}, claims, mac(b"")),
        "other key": jwt.encode(head | {"alg": "ES384"}, claims, mine, algorithms=["ES384"]),
        "own jwk": jwt.encode(head | {"alg": "ES384", "jwk": mine.as_dict(private=False)}, claims, mine,
                              algorithms=["ES384"]),
        "jku": _raw(head | {"jku": "http://127.0.0.1:9/jwks"}, claims, lambda _: b"x" * 64),
        "kid path": _ours(place, kid="../../../../dev/null"),
        "kid sql": _ours(place, kid="x' UNION SELECT 'y"),
        "kid of nobody": _ours(place, kid="zz"),
        "zero signature": f"{parts[0]}.{parts[1]}.{'A' * 86}",
        "expired": _ours(place, exp=int(time.time()) - 1),
        "no expiry": _ours(place, exp=None),
        "expiry as text": _ours(place, exp="9999999999"),
        "not yet": _ours(place, nbf=int(time.time()) + 600),
        "other audience": _ours(place, aud="https://other.example/fhir"),
        "no audience": _ours(place, aud=None),
        "other issuer": _ours(place, iss="https://other.example"),
        "unknown grant": _ours(place, grant="0" * 32),
        "ID token": _ours(place, typ="JWT"),
        "changed claims": f"{parts[0]}.{other.split('.')[1]}.{parts[2]}",
        "five parts": f"{good}.x.y",
        "two parts": "a.b",
        "long": "a" * 20_000,
    }  # fmt: skip


def test_forged_tokens_are_refused(place: Site) -> None:
    good = place.app_token("user/*.rs")
    assert place.fhir(good, "GET", "/Patient").status_code == 200
    assert place.fhir(_ours(place), "GET", "/Patient").status_code == 200
    attacks = _forged(place)
    answers = {name: place.fhir(token, "GET", "/Patient").status_code for name, token in attacks.items()}
    assert {name: status for name, status in answers.items() if status != 401} == {}
    assert len(attacks) == 26
    introspected = {name: _introspect(place, token)["active"] for name, token in attacks.items() if token}
    assert not any(introspected.values())


def _introspect(place: Site, token: str) -> dict[str, Any]:
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    form = {"token": token, "client_assertion_type": kind, "client_assertion": place.assertion()}
    found: dict[str, Any] = httpx.post(f"{place.base}/auth/introspect", data=form).json()
    return found


@pytest.mark.parametrize("alg", ["RS384", "ES384"])
def test_backend_services(place: Site, alg: str) -> None:
    answer = place.service("system/Patient.read", alg=alg)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "system/Patient.rs"
    token = answer.json()["access_token"]
    assert place.fhir(token, "GET", "/Patient").status_code == 200
    assert place.fhir(token, "GET", "/Observation").status_code == 403
    assert "refresh_token" not in answer.json()


def test_assertions_that_are_refused(place: Site) -> None:
    good = place.assertion()
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    form = {"grant_type": "client_credentials", "scope": "system/*.rs", "client_assertion_type": kind}
    assert place.token(**form, client_assertion=good).status_code == 200
    assert place.token(**form, client_assertion=good).status_code == 401  # replayed jti
    now = int(time.time())
    attacks: list[dict[str, Any]] = [
        {"aud": "https://other.example/token"},
        {"exp": now - 1},
        {"exp": now + 3600},
        {"jti": None},
        {"sub": "app"},
        {"iss": "app", "sub": "app"},
        {"key": keyed("EC")},
    ]
    assert [place.service(**attack).status_code for attack in attacks] == [401] * len(attacks)
    plain = _raw({"alg": "none", "kid": place.ec.kid}, _claims(good) | {"jti": "n"}, lambda _: b"")
    assert place.token(**form, client_assertion=plain).status_code == 401
    public = place.rsa.as_pem(private=False)
    head = {"alg": "HS384", "kid": place.rsa.kid}
    mixed = _raw(head, _claims(good) | {"jti": "m"}, lambda t: hmac.new(public, t, hashlib.sha384).digest())
    assert place.token(**form, client_assertion=mixed).status_code == 401
    assert (
        place.token(grant_type="client_credentials", client_id="service", scope="system/*.rs").status_code
        == 401
    )
    assert place.token(grant_type="client_credentials", client_id="app", scope="user/*.rs").status_code == 400


def test_revocation_and_introspection(place: Site) -> None:
    found = place.app_tokens("offline_access user/*.rs")
    assert _introspect(place, found["access_token"])["client_id"] == "app"
    assert _introspect(place, found["refresh_token"])["active"]
    assert place.fhir(found["access_token"], "GET", "/Patient").status_code == 200
    gone = {"token": found["refresh_token"], "client_id": "app"}
    assert httpx.post(f"{place.base}/auth/revoke", data=gone).status_code == 200
    assert place.fhir(found["access_token"], "GET", "/Patient").status_code == 401
    assert not _introspect(place, found["access_token"])["active"]
    assert (
        httpx.post(f"{place.base}/auth/introspect", data={"token": "x", "client_id": "app"}).status_code
        == 401
    )


def test_key_rotation_keeps_tokens_that_are_out(place: Site) -> None:
    before = place.app_token("user/*.rs")
    kid = place.authority.keys.rotate()
    after = place.app_token("user/*.rs")
    assert json.loads(base64.urlsafe_b64decode(after.split(".")[0] + "=="))["kid"] == kid
    assert place.fhir(before, "GET", "/Patient").status_code == 200
    assert place.fhir(after, "GET", "/Patient").status_code == 200
    assert len(httpx.get(f"{place.base}/auth/jwks").json()["keys"]) >= 2


def test_another_provider_is_trusted_by_its_address(
    place: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    provider = {"issuer": place.base, "audience": f"{place.base}/fhir"}
    with site(tmp_path_factory.mktemp("other"), auth_issuers=[provider]) as other:
        records(other.node)
        token = place.app_token("user/Patient.rs")
        assert other.fhir(token, "GET", "/Patient").status_code == 200
        assert other.fhir(token, "GET", "/Observation").status_code == 403
        place.authority.keys.rotate()
        assert place.fhir(other.app_token("user/*.rs"), "GET", "/Patient").status_code == 401
        forged = place.app_token("user/Patient.rs").rsplit(".", 1)[0] + "." + "A" * 86
        assert other.fhir(forged, "GET", "/Patient").status_code == 401


def test_role_decorator_denies_by_default() -> None:
    @auth.require_role("physicist")
    def approve() -> str:
        return "approved"

    with pytest.raises(auth.NotSignedInError):
        approve()
    with (
        auth.acting_as(auth.Principal("user:a", roles=frozenset({"researcher"}))),
        pytest.raises(auth.AccessDeniedError),
    ):
        approve()
    with auth.acting_as(auth.Principal("user:b", roles=frozenset({"physicist"}))):
        assert approve() == "approved"
