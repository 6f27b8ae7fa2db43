"""How a client proves who it is: private_key_jwt (SMART Backend Services), a secret, or nothing."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from digital_twins._errors import DigitalTwinError
from digital_twins.auth._jwt import TokenRefusedError, header_of, read_token
from digital_twins.auth._records import digest
from digital_twins.auth._refusals import OAuthError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from digital_twins.auth._clients import Client, Clients
    from digital_twins.auth._grants import Grants
    from digital_twins.auth._records import Records

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS384", "ES384")
"""Algorithms of assertions that SMART Backend Services names."""

_LONGEST_S = 300


class ClientAuthentication:
    """Recognises clients at the token, introspection and revocation endpoints.

    Parameters
    ----------
    records, clients, grants
        Of the node.
    audiences
        What an assertion may name as its audience: the token endpoint.
    """

    def __init__(
        self, records: Records, clients: Clients, grants: Grants, audiences: tuple[str, ...]
    ) -> None:
        self._records = records
        self._clients = clients
        self._grants = grants
        self._audiences = audiences

    def recognise(self, form: Mapping[str, str], authorization: str) -> Client:
        """Return the client of a request.

        Raises
        ------
        OAuthError
            ``invalid_client`` (401): unknown, disabled, or the proof is missing or wrong.
        """
        client: Client | None = None
        try:
            client = self._recognise(form, authorization)
            why = "disabled" if client.disabled else ""
        except TokenRefusedError as error:
            why = str(error)
        except DigitalTwinError:
            why = "keys"
        if client is None or why:
            self._records.refused("client", agent="anonymous", why=why)
            raise OAuthError(
                "invalid_client", "The client is not known or did not prove who it is.", status=401
            )
        return client

    def _recognise(self, form: Mapping[str, str], authorization: str) -> Client:
        if "client_assertion" in form:
            if form.get("client_assertion_type") != ASSERTION:
                raise TokenRefusedError("type")
            return self._by_assertion(form["client_assertion"], form.get("client_id"))
        name, secret = form.get("client_id", ""), form.get("client_secret")
        if authorization[:6].lower() == "basic ":
            name, secret = _basic(authorization[6:])
        elif not name and form.get("grant_type") == "refresh_token":
            # SMART App Launch 2.2.0 section 2.0.14 has public apps send the refresh token without their name.
            name = self._grants.client_of_refresh(form.get("refresh_token", "")) or ""
        client = self._known(name)
        if client.secret is not None:
            if secret is None or not hmac.compare_digest(digest(secret), client.secret):
                raise TokenRefusedError("secret")
        elif client.confidential or secret is not None:
            raise TokenRefusedError("proof")
        return client

    def _known(self, name: str) -> Client:
        client = self._clients.get(name)
        if client is None:
            raise TokenRefusedError("unknown")
        return client

    def _by_assertion(self, assertion: str, named: str | None) -> Client:
        from joserfc.jwk import JWKRegistry, KeySet
        from joserfc.jws import extract_compact

        header = header_of(assertion)
        if header.get("alg") not in ALGORITHMS:
            raise TokenRefusedError("algorithm")
        claimed = _issuer(extract_compact(assertion.encode()).payload)
        client = self._known(claimed)
        if named not in {None, client.id} or client.secret is not None:
            raise TokenRefusedError("client")
        rows = self._clients.keys_of(client, header["kid"])
        rows = [row for row in rows if row["kty"] == ("RSA" if header["alg"] == "RS384" else "EC")]
        try:
            keys = KeySet([JWKRegistry.import_key(row) for row in rows])
        except ValueError as error:
            raise TokenRefusedError("key") from error
        now = self._records.now()
        claims = read_token(
            assertion, keys, algorithms=ALGORITHMS, issuer=client.id, audiences=self._audiences, now=now
        )
        expires, jti = int(claims["exp"]), claims.get("jti")
        if claims.get("sub") != client.id or not isinstance(jti, str) or not 0 < len(jti) <= 256:
            raise TokenRefusedError("subject")
        if expires > now + _LONGEST_S + 30:
            raise TokenRefusedError("lifetime")
        first = self._records.database.write(
            lambda cursor: self._grants.first_use(cursor, client.id, jti, expires)
        )
        if not first:
            raise TokenRefusedError("replayed")
        return client


def _issuer(payload: Any) -> str:
    try:
        claims = json.loads(payload)
    except ValueError as error:
        raise TokenRefusedError("form") from error
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    if not isinstance(issuer, str):
        raise TokenRefusedError("issuer")
    return issuer


def _basic(text: str) -> tuple[str, str]:
    try:
        name, _, secret = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except ValueError as error:
        raise TokenRefusedError("form") from error
    return unquote(name), unquote(secret)
