"""Sign-in to the pages through an OpenID provider: the node as relying party (OpenID Connect Core 1.0)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from digital_twins._errors import DigitalTwinError, InputError, StorageError
from digital_twins.auth._authority import fetch_json
from digital_twins.auth._issuers import ExternalIssuers, TrustedIssuer
from digital_twins.auth._jwt import TokenRefusedError
from digital_twins.auth._refusals import NotSignedInError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from digital_twins.auth._accounts import User
    from digital_twins.auth._authority import Authority

PENDING_S = 600
"""Seconds within which somebody has to come back from the provider."""

_MOST_PENDING = 1000
_TIMEOUT_S = 10.0
_LOCAL = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class SignInProvider:
    """The OpenID provider through which people sign in.

    Attributes
    ----------
    issuer
        Its address, equal to ``iss`` of its ID tokens.
    client_id
        Name of this node there, registered with ``<public_url>/auth/provider/callback``.
    client_secret
        Secret of this node there, None for a public client.
    account_claim
        Claim of the ID token that equals the name of an account of this node; ``email`` counts only when
        the provider verified it.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    account_claim: str = "sub"

    @classmethod
    def configured(
        cls, *, issuer: str, client_id: str, client_secret_file: Path | None, account_claim: str
    ) -> SignInProvider:
        """Return the provider of the settings.

        Raises
        ------
        StorageError
            The file of the secret cannot be read, is empty, or others may read it.
        """
        if client_secret_file is None:
            return cls(issuer, client_id, account_claim=account_claim)
        what = f"The secret file '{client_secret_file.name}' cannot be used."
        try:
            open_to_others = client_secret_file.stat().st_mode & 0o077
            secret = client_secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise StorageError(what, "It cannot be read.", "Correct oidc.client_secret_file.") from None
        if open_to_others or not secret:
            why = "Others than its owner may read it." if open_to_others else "It is empty."
            raise StorageError(what, why, f"chmod 600 {client_secret_file.name}, or write the secret.")
        return cls(issuer, client_id, secret, account_claim)


@dataclass(frozen=True, slots=True)
class _Pending:
    verifier: str
    nonce: str
    target: str
    since: float


class ProviderSignIn:
    """Sends people to the provider and takes them back; roles stay those of their account here.

    Parameters
    ----------
    authority
        Whose accounts and sessions they get.
    provider
        Whom to ask.
    fetch
        Returns the JSON at an address.
    """

    def __init__(
        self, authority: Authority, provider: SignInProvider, fetch: Callable[[str], Any] = fetch_json
    ) -> None:
        self._authority = authority
        self._provider = provider
        self._fetch = fetch
        self._trusted = TrustedIssuer(provider.issuer, provider.client_id)
        self._keys = ExternalIssuers([self._trusted], fetch=fetch, now=authority.records.now)
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()

    @property
    def callback(self) -> str:
        """Address to which the provider sends people back."""
        return f"{self._authority.base_url}/auth/provider/callback"

    def start(self, target: str) -> tuple[str, str]:
        """Return the provider's address for one sign-in, and the state that the browser has to keep.

        Raises
        ------
        NotSignedInError
            The provider cannot be reached or is another one than the settings say.
        """
        found = self._discovered()
        made = _Pending(secrets.token_urlsafe(48), secrets.token_urlsafe(24), target, time.monotonic())
        state = secrets.token_urlsafe(24)
        with self._lock:
            old = [s for s, p in self._pending.items() if made.since - p.since > PENDING_S]
            for each in (*old, *list(self._pending)[: max(0, len(self._pending) - _MOST_PENDING + 1)]):
                self._pending.pop(each, None)
            self._pending[state] = made
        challenge = urlsafe_b64encode(hashlib.sha256(made.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._provider.client_id,
            "redirect_uri": self.callback,
            "scope": "openid email" if self._provider.account_claim == "email" else "openid profile",
            "state": state,
            "nonce": made.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        address = str(found["authorization_endpoint"])
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}", state

    def finish(self, query: Mapping[str, str], kept: str) -> tuple[User, str]:
        """Return who came back and where to; ``kept`` is the state that the browser kept.

        Raises
        ------
        NotSignedInError
            The answer is not for this browser, is too old or forged, or names no account of this node.
        """
        state = query.get("state", "")
        with self._lock:
            pending = self._pending.pop(state, None)
        if pending is None or not hmac.compare_digest(state.encode(), kept.encode()):
            raise self._refused("state")
        if time.monotonic() - pending.since > PENDING_S:
            raise self._refused("late")
        if query.get("iss", self._provider.issuer) != self._provider.issuer or "code" not in query:
            raise self._refused("answer")
        claims = self._claims(self._id_token(query["code"], pending.verifier), pending.nonce)
        name = claims.get(self._provider.account_claim)
        if self._provider.account_claim == "email" and claims.get("email_verified") is not True:
            raise self._refused("email")
        if not isinstance(name, str):
            raise self._refused("claim")
        return self._authority.accounts.admit_of_provider(name), pending.target

    def _discovered(self) -> dict[str, Any]:
        try:
            address = f"{self._provider.issuer.rstrip('/')}/.well-known/openid-configuration"
            found: dict[str, Any] = self._fetch(address)
            if found["issuer"] != self._provider.issuer:
                raise self._refused("issuer")
            ends = [str(found["authorization_endpoint"]), str(found["token_endpoint"])]
        except (InputError, KeyError, TypeError):
            raise self._refused("discovery") from None
        if any(urlsplit(e).scheme != "https" and urlsplit(e).hostname not in _LOCAL for e in ends):
            raise self._refused("discovery")
        return found

    def _id_token(self, code: str, verifier: str) -> str:
        import httpx

        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.callback}
        form |= {"code_verifier": verifier}
        given = self._provider
        basic = (given.client_id, given.client_secret) if given.client_secret is not None else None
        if basic is None:
            form["client_id"] = given.client_id
        try:
            address = str(self._discovered()["token_endpoint"])
            with httpx.Client(auth=basic, timeout=_TIMEOUT_S, trust_env=False) as client:
                answer = client.post(address, data=form)
            token = answer.json()["id_token"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            raise self._refused("token") from None
        if not isinstance(token, str):
            raise self._refused("token")
        return token

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token after the checks of OpenID Connect Core, section 3.1.3.7."""
        try:
            claims, _ = self._keys.checked(self._trusted, token)
        except TokenRefusedError:
            raise self._refused("id-token") from None
        if claims.get("azp", self._provider.client_id) != self._provider.client_id:
            raise self._refused("azp")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise self._refused("nonce")
        return claims

    def _refused(self, why: str) -> DigitalTwinError:
        self._authority.records.refused("sign-in", agent="anonymous", why=f"provider-{why}")
        return NotSignedInError(
            "The sign-in was refused.",
            "The provider did not confirm who you are.",
            "Begin again at the sign-in page; if it happens again, tell the operator.",
        )


def with_provider(
    authority: Authority, provider: SignInProvider, *, fetch: Callable[[str], Any] = fetch_json
) -> Authority:
    """Return an authority whose people may also sign in through a provider.

    Parameters
    ----------
    authority
        As `open_authority` returns it.
    provider
        Whom to ask.
    fetch
        Returns the JSON at an address; by default an https request (http to this machine only).
    """
    return replace(authority, provider=ProviderSignIn(authority, provider, fetch))
