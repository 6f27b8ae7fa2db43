"""OAuth 2 for FHIR clients: Backend Services and refresh tokens, from a credentials file."""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from digital_twins._errors import InputError
from digital_twins.crypto import create_secret_file
from digital_twins.fhir._exchange import FHIRRequestError

if TYPE_CHECKING:
    import os
    from collections.abc import Generator

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EARLY_S = 30
_ASSERTION_S = 240


class OAuth2Auth(httpx.Auth):
    """Signs requests of a FHIR client in, and renews its token; for `FHIRClient` and `AsyncFHIRClient`.

    Parameters
    ----------
    credentials_path
        JSON file of mode 0600 with ``token_url``, ``client_id``, ``scope`` and one of ``private_key`` (a JWK
        with ``kid``: RSA for RS384, P-384 for ES384; SMART Backend Services) and ``refresh_token`` (with
        ``client_secret`` for a confidential client). A rotated refresh token is written back.

    Raises
    ------
    InputError
        The file cannot be used, or others may read it.

    Examples
    --------
    >>> client = FHIRClient("https://fhir.hospital.example/R4", auth=OAuth2Auth("service.json"))
    """

    requires_response_body = True

    def __init__(self, credentials_path: str | os.PathLike[str]) -> None:
        self._path = Path(credentials_path)
        self._given = _read(self._path)
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request with a token; a token that the server does not take any more is renewed once."""
        renewed = False
        if not self._token or time.time() >= self._until:
            self._take((yield self._token_request()))
            renewed = True
        request.headers["authorization"] = f"Bearer {self._token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED and not renewed:
            self._take((yield self._token_request()))
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request

    def _token_request(self) -> httpx.Request:
        given = self._given
        form = {"scope": given["scope"]} if "scope" in given else {}
        if "private_key" in given:
            form |= {
                "grant_type": "client_credentials",
                "client_assertion_type": _ASSERTION,
                "client_assertion": _assertion(given),
            }
        else:
            form |= {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
            form["client_id"] = given["client_id"]
            if "client_secret" in given:
                form["client_secret"] = given["client_secret"]
        return httpx.Request("POST", given["token_url"], data=form, headers={"accept": "application/json"})

    def _take(self, response: httpx.Response) -> None:
        try:
            answer = response.json()
            token, lasts = answer["access_token"], float(answer.get("expires_in", 60))
        except (ValueError, KeyError, TypeError):
            raise FHIRRequestError(
                "The FHIR client could not sign in.",
                f"The token endpoint answered {response.status_code}.",
                "Check client_id, keys and scope of the credentials file.",
                status=response.status_code,
            ) from None
        with self._lock:
            self._token, self._until = token, time.time() + max(lasts - _EARLY_S, 1)
            fresh = answer.get("refresh_token")
            if "private_key" not in self._given and fresh and fresh != self._given["refresh_token"]:
                self._given = {**self._given, "refresh_token": fresh}
                temporary = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
                create_secret_file(temporary, orjson.dumps(self._given))
                temporary.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    what = "The credentials file cannot be used."
    try:
        mode, given = path.stat().st_mode, orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise InputError(what, "It cannot be read as JSON.", "Check credentials_path.") from None
    if mode & 0o077:
        raise InputError(what, "Others than its owner may read it.", f"chmod 600 {path.name}")
    named = isinstance(given, dict) and {"token_url", "client_id"} <= given.keys()
    if not named or not {"private_key", "refresh_token"} & given.keys():
        raise InputError(
            what, "A part is missing.", "Give token_url, client_id, and private_key or refresh_token."
        )
    found: dict[str, Any] = given
    if not str(found["token_url"]).startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise InputError(what, "token_url is not https.", "Correct it.")
    return found


def _assertion(given: dict[str, Any]) -> str:
    from joserfc import jwt
    from joserfc.jwk import JWKRegistry

    key = JWKRegistry.import_key(given["private_key"])
    algorithm = "RS384" if given["private_key"]["kty"] == "RSA" else "ES384"
    claims = {
        "iss": given["client_id"],
        "sub": given["client_id"],
        "aud": given["token_url"],
        "exp": int(time.time()) + _ASSERTION_S,
        "jti": secrets.token_hex(16),
    }
    return jwt.encode({"alg": algorithm, "kid": key.kid, "typ": "JWT"}, claims, key, algorithms=[algorithm])
