"""Access tokens of OpenID providers that the operator names: keys fetched from the provider and kept."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError
from digital_twins.auth._clients import public_keys
from digital_twins.auth._jwt import TokenRefusedError, header_of, read_token
from digital_twins.auth._principal import Principal
from digital_twins.auth._roles import known_actions, rights_of
from digital_twins.auth._scopes import narrowed, parse_fhir_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from joserfc.jwk import KeySet

ALGORITHMS = ("ES256", "ES384", "RS256", "RS384", "PS256", "EdDSA")
"""Algorithms that a provider's tokens may have: asymmetric ones only."""

_MAX_AGE_S, _MIN_AGE_S = 600.0, 5.0


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An OpenID provider whose access tokens this node takes.

    Attributes
    ----------
    issuer
        Its address, equal to ``iss`` of its tokens; ``/.well-known/openid-configuration`` is read below it.
    audience
        What ``aud`` of its tokens must name: this node, as the provider knows it.
    roles_claim
        Claim that lists roles of the role table; others are ignored.
    """

    issuer: str
    audience: str
    roles_claim: str = "roles"


@dataclass(slots=True)
class _Keys:
    at: float = float("-inf")
    keys: KeySet | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class ExternalIssuers:
    """The trusted providers of a node.

    Parameters
    ----------
    issuers
        Whom to trust.
    fetch
        Returns the JSON at an address.
    now
        Seconds since 1970.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        *,
        fetch: Callable[[str], Any],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {each.issuer.rstrip("/"): each for each in issuers}
        self._held = {name: _Keys() for name in self._issuers}
        self._fetch = fetch
        self._now = now

    def issuer_of(self, token: str) -> TrustedIssuer | None:
        """Return the provider that a token names, None when it is none of them; nothing is verified yet."""
        from joserfc.jws import extract_compact

        header_of(token)
        try:
            claims = json.loads(extract_compact(token.encode()).payload)
        except ValueError as error:
            raise TokenRefusedError("form") from error
        name = claims.get("iss") if isinstance(claims, dict) else None
        return self._issuers.get(name.rstrip("/")) if isinstance(name, str) else None

    def checked(self, trusted: TrustedIssuer, token: str) -> tuple[dict[str, Any], Principal]:
        """Return the claims of a provider's token and who it stands for.

        What somebody may do is what both the token's scope and the roles in it allow; a token without roles
        (of a service) is held to its scope.

        Raises
        ------
        TokenRefusedError
            The token is not valid, or the provider's keys cannot be had.
        """
        claims = read_token(
            token,
            self._keys_for(trusted, header_of(token)["kid"]),
            algorithms=ALGORITHMS,
            issuer=trusted.issuer,
            audiences=(trusted.audience,),
            now=self._now(),
        )
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise TokenRefusedError("subject")
        return claims, _principal(trusted, claims, subject)

    def _keys_for(self, trusted: TrustedIssuer, kid: str) -> KeySet:
        from joserfc.jwk import JWKRegistry, KeySet

        held = self._held[trusted.issuer.rstrip("/")]
        with held.lock:
            age = time.monotonic() - held.at
            known = held.keys is not None and any(key.kid == kid for key in held.keys.keys)
            if held.keys is None or age > _MAX_AGE_S or (not known and age > _MIN_AGE_S):
                try:
                    found = self._fetch(f"{trusted.issuer.rstrip('/')}/.well-known/openid-configuration")
                    if found["issuer"] != trusted.issuer:
                        raise TokenRefusedError("issuer")
                    rows = public_keys(self._fetch(found["jwks_uri"]))["keys"]
                    held.keys = KeySet([JWKRegistry.import_key(row) for row in rows])
                    held.at = time.monotonic()
                except (DigitalTwinError, KeyError, TypeError, ValueError) as error:
                    raise TokenRefusedError("keys") from error
            return held.keys


def _principal(trusted: TrustedIssuer, claims: dict[str, Any], subject: str) -> Principal:
    words = str(claims.get("scope", "")).split()
    asked = [found for word in words if (found := parse_fhir_scope(word)) is not None]
    actions = frozenset(words) & known_actions().keys()
    given = claims.get(trusted.roles_claim)
    roles = frozenset(str(each) for each in given) if isinstance(given, list) else frozenset()
    if roles:
        rights = rights_of(roles)
        allowed = [type(scope)("*", scope.kind, scope.actions) for scope in rights.fhir]
        scopes = tuple(part for scope in asked for part in narrowed(scope, allowed)) if asked else rights.fhir
        actions = actions & rights.actions if actions else rights.actions
    else:
        scopes = tuple(asked)
    patient = claims.get("patient")
    return Principal(
        f"user:{subject} issuer:{trusted.issuer}",
        roles=roles,
        actions=actions,
        scopes=scopes,
        patient=patient if isinstance(patient, str) else None,
    )
