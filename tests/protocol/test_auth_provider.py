"""Sign-in to the pages through an OpenID provider: here a second node, and answers that somebody forged."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt

from auth_support import PASSWORD, Site, _form_token, keyed, site
from digital_twins import auth
from digital_twins._errors import StorageError
from digital_twins.auth._provider import ProviderSignIn


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    """The provider, which also knows somebody without an account at the node, and the node."""
    folder = tmp_path_factory.mktemp("nodes")
    with site(folder / "provider") as provider:
        settings = {"issuer": provider.base, "client_id": "node"}
        with site(folder / "node", oidc=settings) as node:
            back = [f"{node.base}/auth/provider/callback"]
            provider.authority.clients.add("node", scope="openid profile", redirect_uris=back)
            accounts = provider.authority.accounts
            accounts.add("zoe", password=PASSWORD, roles=["clinician"], second_factor=False)
            yield provider, node


def _returned(provider: Site, url: str, user: str, decision: str = "allow") -> str:
    """Sign in and answer at the provider; the address at which the node is called back."""
    with provider.browser(user) as browser:
        page = browser.get(url)
        assert page.status_code == 200, page.text
        form = {"decision": decision, "form_token": _form_token(page.text)}
        return str(browser.post(url, data=form).headers["location"])


def test_a_person_signs_in_with_the_roles_of_the_account_here(two: tuple[Site, Site]) -> None:
    provider, node = two
    with httpx.Client(base_url=node.base) as browser:
        page = browser.get("/auth/sign-in", params={"next": "/auth/account"})
        assert 'href="/auth/provider?next=%2Fauth%2Faccount"' in page.text
        away = browser.get("/auth/provider", params={"next": "/auth/account"})
        url = away.headers["location"]
        assert url.startswith(f"{provider.base}/auth/authorize?")
        assert parse_qs(urlsplit(url).query)["code_challenge_method"] == ["S256"]
        back = _returned(provider, url, "rita")
        home = browser.get(back)
        assert (home.status_code, home.headers["location"]) == (303, "/auth/account")
        assert "HttpOnly" in home.headers["set-cookie"]
        account = browser.get("/auth/account").text
        assert "rita" in account
        assert "researcher" in account
        assert browser.get(back).status_code == 401  # good once
    assert any(e["detail"].get("by") == "provider" for e in node.trail("auth.sign-in"))


def test_another_site_is_not_led_to(two: tuple[Site, Site]) -> None:
    provider, node = two
    with httpx.Client(base_url=node.base) as browser:
        away = browser.get("/auth/provider", params={"next": "//evil.example/"})
        back = _returned(provider, away.headers["location"], "rita")
        assert browser.get(back).headers["location"] == "/"


@pytest.mark.parametrize(
    "how", ["denied", "no account", "closed", "other browser", "changed state", "issuer"]
)
def test_who_is_not_let_in(two: tuple[Site, Site], how: str) -> None:
    provider, node = two
    if how == "closed":
        node.authority.accounts.disable("theo")
    user = {"no account": "zoe", "closed": "theo"}.get(how, "phil")
    with httpx.Client(base_url=node.base) as browser:
        url = browser.get("/auth/provider").headers["location"]
        back = _returned(provider, url, user, "deny" if how == "denied" else "allow")
        if how == "other browser":  # login CSRF: somebody else's answer in the victim's browser
            browser.cookies.clear()
        elif how == "changed state":
            back = back.replace("state=", "state=x")
        elif how == "issuer":
            back = back.replace("iss=http", "iss=https")
        answer = browser.get(back)
        assert answer.status_code == 401
        assert "twin-session" not in answer.headers.get("set-cookie", "")
        assert browser.get("/auth/account").status_code == 303  # to the sign-in page


class _Forger(ProviderSignIn):
    """Its provider answers with the ID token that the test made."""

    token = ""

    def _id_token(self, code: str, verifier: str) -> str:
        return self.token


_ISSUER = "https://login.example"


def _forger(place: Site, key: Any, **more: Any) -> _Forger:
    known = {
        "issuer": _ISSUER,
        "jwks_uri": f"{_ISSUER}/keys",
        "authorization_endpoint": f"{_ISSUER}/authorize",
        "token_endpoint": f"{_ISSUER}/token",
    }
    keys = {"keys": [key.as_dict(private=False)]}
    fetch = {f"{_ISSUER}/.well-known/openid-configuration": known, f"{_ISSUER}/keys": keys}.__getitem__
    return _Forger(place.authority, auth.SignInProvider(_ISSUER, "node", **more), fetch)


def _finished(forger: _Forger, key: Any, **changes: Any) -> str:
    url, state = forger.start("/")
    nonce = parse_qs(urlsplit(url).query)["nonce"][0]
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": "node", "sub": "rita", "nonce": nonce, "iat": now, "exp": now + 60}
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    header = {"alg": "ES384", "kid": key.kid}
    forger.token = jwt.encode(header, claims, key, algorithms=["ES384"])
    return forger.finish({"state": state, "code": "c"}, state)[0].name


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": ["node", "another"], "azp": "another"},
        {"iss": "https://another.example"},
        {"exp": int(time.time()) - 100},
        {"exp": None},
        {"sub": "nobody"},
        {"sub": None},
        {"sub": ["rita"]},
    ],
)
def test_forged_id_tokens(two: tuple[Site, Site], changes: dict[str, Any]) -> None:
    key = keyed("EC")
    forger = _forger(two[1], key)
    assert _finished(forger, key) == "rita"
    with pytest.raises(auth.NotSignedInError):
        _finished(forger, key, **changes)


def test_id_tokens_of_other_keys_and_unverified_addresses(two: tuple[Site, Site]) -> None:
    key, stranger = keyed("EC"), keyed("EC")
    with pytest.raises(auth.NotSignedInError):
        _finished(_forger(two[1], key), stranger)
    two[1].authority.accounts.add("rita@example.org", password=PASSWORD, roles=["auditor"])
    by_address = _forger(two[1], key, account_claim="email")
    address = {"email": "rita@example.org"}
    assert _finished(by_address, key, **address, email_verified=True) == "rita@example.org"
    for verified in (False, None, "true"):
        with pytest.raises(auth.NotSignedInError):
            _finished(by_address, key, **address, email_verified=verified)


def test_sign_ins_that_never_end_fill_no_memory(two: tuple[Site, Site]) -> None:
    forger = _forger(two[1], keyed("EC"))
    for _ in range(1100):
        forger.start("/")
    assert len(forger._pending) <= 1000


def test_the_secret_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "oidc.secret"
    given: dict[str, Any] = {"issuer": _ISSUER, "client_id": "node", "account_claim": "sub"}
    with pytest.raises(StorageError):
        auth.SignInProvider.configured(**given, client_secret_file=file)
    file.write_text(secrets.token_urlsafe(16))
    file.chmod(0o644)
    with pytest.raises(StorageError, match="Others"):
        auth.SignInProvider.configured(**given, client_secret_file=file)
    file.chmod(0o600)
    held = auth.SignInProvider.configured(**given, client_secret_file=file)
    assert held.client_secret == file.read_text()
    assert str(held.client_secret) not in repr(held)
