"""Access and ID tokens: ES256, at most ten minutes, for this node alone (RFC 9068, OpenID Connect Core)."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

from digital_twins.auth._jwt import TokenRefusedError, header_of, read_token
from digital_twins.auth._principal import Principal
from digital_twins.auth._records import digest
from digital_twins.auth._roles import known_actions
from digital_twins.auth._scopes import parse_fhir_scope

if TYPE_CHECKING:
    from digital_twins.auth._grants import Grant, Grants
    from digital_twins.auth._issuers import ExternalIssuers
    from digital_twins.auth._keyring import KeyRing
    from digital_twins.auth._records import Records

ACCESS_S = 300
"""Seconds that an access token is good for."""

CHECK_S = 5.0
"""Seconds for which a checked token counts as not revoked; a revocation in this process is seen at once."""

_MOST_HELD = 10_000


class Tokens:
    """Makes and checks the tokens of a node.

    Parameters
    ----------
    records, keys, grants
        Of the node.
    issuer
        Its address.
    audience
        Its FHIR base, the audience of every access token.
    external
        Other issuers whose tokens are taken too.
    """

    def __init__(
        self,
        records: Records,
        keys: KeyRing,
        grants: Grants,
        *,
        issuer: str,
        audience: str,
        external: ExternalIssuers | None = None,
    ) -> None:
        self._records = records
        self._keys = keys
        self._grants = grants
        self.issuer = issuer
        self.audience = audience
        self._external = external
        self._held: dict[str, tuple[float, float, Principal]] = {}
        self._lock = threading.Lock()

    def access_token(self, grant: Grant, roles: tuple[str, ...] = ()) -> str:
        """Return a new access token of a grant."""
        now = int(self._records.now())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": grant.user or grant.client,
            "client_id": grant.client,
            "scope": grant.scope,
            "iat": now,
            "exp": now + ACCESS_S,
            "jti": secrets.token_hex(16),
            "grant": grant.id,
        }
        if grant.patient is not None:
            claims["patient"] = grant.patient
        if roles:
            claims["roles"] = list(roles)
        return self._signed(claims, "at+jwt")

    def id_token(self, grant: Grant, *, nonce: str | None, fhir_user: str | None, display: str) -> str:
        """Return a new ID token of a grant (OpenID Connect Core section 2)."""
        now = int(self._records.now())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": grant.client,
            "sub": grant.user,
            "iat": now,
            "exp": now + ACCESS_S,
            "auth_time": grant.context.get("auth_time", grant.created),
        }
        scope = grant.scope.split()
        if nonce is not None:
            claims["nonce"] = nonce
        if "fhirUser" in scope and fhir_user:
            claims["fhirUser"] = f"{self.audience}/{fhir_user}"
        if "profile" in scope:
            claims["name"] = display
        return self._signed(claims, "JWT")

    def _signed(self, claims: dict[str, Any], kind: str) -> str:
        from joserfc import jwt

        key = self._keys.signing
        return jwt.encode({"alg": "ES256", "kid": key.kid, "typ": kind}, claims, key, algorithms=["ES256"])

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of an access token that is signed by us, for us, and still good.

        Raises
        ------
        TokenRefusedError
            It is not, or its grant was revoked.
        """
        if header_of(token).get("typ") != "at+jwt":
            raise TokenRefusedError("type")
        claims = read_token(
            token,
            self._keys.verifying,
            algorithms=("ES256",),
            issuer=self.issuer,
            audiences=(self.audience,),
            now=self._records.now(),
        )
        if not self._grants.alive(str(claims.get("grant"))):
            raise TokenRefusedError("revoked")
        return claims

    def principal(self, token: str) -> Principal:
        """Return who a token stands for; a token seen in the last seconds costs a look into a table.

        Raises
        ------
        TokenRefusedError
            The token is not valid.
        """
        found = self.held(token)
        if found is not None:
            return found
        key, clock = digest(token), time.monotonic()
        claims, principal = self._checked(token)
        with self._lock:
            if len(self._held) >= _MOST_HELD:
                self._held.clear()
            self._held[key] = (clock + CHECK_S, float(claims["exp"]), principal)
        return principal

    def held(self, token: str) -> Principal | None:
        """Return who a token stands for when it was checked in the last seconds; costs a hash."""
        held = self._held.get(digest(token))
        if held is not None and time.monotonic() < held[0] and self._records.now() < held[1]:
            return held[2]
        return None

    def forget(self) -> None:
        """Check every token anew, because something was revoked."""
        with self._lock:
            self._held.clear()

    def _checked(self, token: str) -> tuple[dict[str, Any], Principal]:
        if self._external is not None:
            issuer = self._external.issuer_of(token)
            if issuer is not None:
                return self._external.checked(issuer, token)
        claims = self.claims(token)
        return claims, principal_of_claims(claims)


def principal_of_claims(claims: dict[str, Any]) -> Principal:
    """Return what the claims of an access token allow."""
    words = str(claims.get("scope", "")).split()
    scopes = tuple(found for word in words if (found := parse_fhir_scope(word)) is not None)
    client, subject = str(claims["client_id"]), str(claims["sub"])
    name = f"client:{client}" if subject == client else f"user:{subject} client:{client}"
    patient = claims.get("patient")
    return Principal(
        name,
        roles=frozenset(claims.get("roles", ())),
        actions=frozenset(words) & known_actions().keys(),
        scopes=scopes,
        patient=patient if isinstance(patient, str) else None,
    )
