"""Sign-in of a person at a FHIR server: SMART standalone launch of a program without a web server."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import webbrowser
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import orjson

from digital_twins._errors import InputError
from digital_twins.crypto import create_secret_file
from digital_twins.fhir._client_auth import OAuth2Auth
from digital_twins.fhir._exchange import FHIRRequestError, checked_base

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

READ_SCOPE = "launch/patient openid fhirUser offline_access patient/*.rs"
"""What is asked for by default: to read one patient that the person chooses, and to stay signed in."""

_WHAT = "The sign-in failed."
_LOCAL = {"127.0.0.1", "localhost", "::1"}
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class SmartSession:
    """What a person allowed.

    Attributes
    ----------
    auth
        For `FHIRClient` and `AsyncFHIRClient`; renews its token from the credentials file.
    scope
        Scopes that were given, which may be fewer than asked for.
    patient
        Id of the patient in context, None without.
    """

    auth: OAuth2Auth
    scope: str
    patient: str | None


def sign_in(
    base_url: str,
    *,
    client_id: str,
    credentials_path: str | os.PathLike[str],
    scope: str = READ_SCOPE,
    client_secret: str | None = None,
    port: int = 0,
    open_page: Callable[[str], Any] = webbrowser.open,
    timeout_s: float = 300.0,
) -> SmartSession:
    """Let a person sign in with the browser and allow this program access to a FHIR server.

    The authorization code flow with PKCE (SMART App Launch 2.2.0, standalone launch; RFC 7636), the answer
    taken on this machine (RFC 8252, section 7.3). The refresh token is kept in a file of mode 0600.

    Parameters
    ----------
    base_url
        Base of the FHIR server, which must offer ``.well-known/smart-configuration``.
    client_id
        Name under which this program is registered there, with ``http://127.0.0.1:PORT/callback``.
    credentials_path
        File for `OAuth2Auth`; replaced when it exists.
    scope
        Scopes to ask for; ``offline_access`` or ``online_access`` must be among them.
    client_secret
        Secret of a confidential client; kept in the file too.
    port
        Port of the registered address; 0 takes any, where the server lets programs do so.
    open_page
        Shows an address to the person.
    timeout_s
        Seconds to wait for the person.

    Returns
    -------
    SmartSession
        How to go on, and the patient.

    Raises
    ------
    FHIRRequestError
        The server or the person refused, nobody answered, or no refresh token was given.
    InputError
        An address is neither https nor of this machine.

    Examples
    --------
    >>> session = sign_in(base, client_id="my-app", credentials_path="me.json", port=8910)
    >>> patient = FHIRClient(base, auth=session.auth).read("Patient", session.patient)
    """
    base = checked_base(base_url)
    known = _configuration(base)
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
    challenge = urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with _Loopback(state, port) as server:
        back = f"http://127.0.0.1:{server.server_port}/callback"
        asked = {"response_type": "code", "client_id": client_id, "redirect_uri": back, "scope": scope}
        asked |= {"state": state, "aud": base, "code_challenge": challenge, "code_challenge_method": "S256"}
        address = known["authorization_endpoint"]
        open_page(f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}")
        code = _code(_wait(server, timeout_s), known.get("issuer"))
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back}
    form |= {"code_verifier": verifier, "client_id": client_id}
    held = {"token_url": known["token_endpoint"], "client_id": client_id}
    if client_secret is not None:
        form["client_secret"] = held["client_secret"] = client_secret
    answer = _exchanged(known["token_endpoint"], form)
    path = Path(credentials_path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    create_secret_file(temporary, orjson.dumps({**held, "refresh_token": answer["refresh_token"]}))
    temporary.replace(path)
    return SmartSession(OAuth2Auth(path), str(answer.get("scope", scope)), answer.get("patient"))


def _failed(why: str, fix: str, *, status: int | None = None) -> FHIRRequestError:
    return FHIRRequestError(_WHAT, why, fix, status=status)


def _configuration(base: str) -> dict[str, Any]:
    """Return the server's SMART configuration; its addresses must be https or of this machine."""
    try:
        answer = httpx.get(f"{base}/.well-known/smart-configuration", timeout=_TIMEOUT_S)
        found: dict[str, Any] = answer.json()
        addresses = [str(found["authorization_endpoint"]), str(found["token_endpoint"])]
        methods = found.get("code_challenge_methods_supported", ())
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        why = "The server has no usable .well-known/smart-configuration."
        raise _failed(why, "Check the base address.") from None
    if any(urlsplit(a).scheme != "https" and urlsplit(a).hostname not in _LOCAL for a in addresses):
        raise InputError(_WHAT, "An address of the server is not https.", "Tell its operator.")
    if "S256" not in methods:
        raise _failed("The server does not offer PKCE with S256.", "SMART 2 needs it: tell its operator.")
    return found


class _Callback(BaseHTTPRequestHandler):
    """Takes the browser's return and keeps its query on the server."""

    def do_GET(self) -> None:
        parts, server = urlsplit(self.path), cast("_Loopback", self.server)
        query = dict(parse_qsl(parts.query))
        state = query.get("state", "").encode()
        ours = parts.path == "/callback" and hmac.compare_digest(state, server.state.encode())
        if ours:
            server.answered = query
        text = b"You may close this page." if ours else b"Not found."
        self.send_response(200 if ours else 404)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the address holds the code."""


class _Loopback(HTTPServer):
    """Listens on this machine only, for one answer."""

    def __init__(self, state: str, port: int) -> None:
        self.state = state
        self.answered: dict[str, str] = {}
        super().__init__(("127.0.0.1", port), _Callback)


def _wait(server: _Loopback, timeout_s: float) -> dict[str, str]:
    """Return the query of the first return that carries our state; other requests change nothing."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        server.timeout = min(1.0, end - time.monotonic())
        server.handle_request()
        if server.answered:
            return server.answered
    raise _failed("Nobody answered in the browser.", "Try again, or give more time.")


def _code(query: dict[str, str], issuer: str | None) -> str:
    """Return the code; the issuer must be the server that was asked (RFC 9207)."""
    if issuer and query.get("iss", issuer) != issuer:
        raise _failed("The answer came from another server.", "Do not use what it gave.")
    if "code" not in query:
        raise _failed(f"The server refused: {query.get('error', 'no code')}.", "Allow it, or ask for less.")
    return query["code"]


def _exchanged(address: str, form: dict[str, str]) -> dict[str, Any]:
    """Return the token answer; it must hold a refresh token."""
    try:
        answer = httpx.post(address, data=form, headers={"accept": "application/json"}, timeout=_TIMEOUT_S)
        found = answer.json()
    except (httpx.HTTPError, ValueError):
        raise _failed("The token endpoint did not answer in JSON.", "Try again.") from None
    if not isinstance(found, dict) or answer.status_code != httpx.codes.OK:
        why = f"The token endpoint answered {answer.status_code}."
        raise _failed(why, "Check client_id, client_secret and the address.", status=answer.status_code)
    if not found.get("refresh_token"):
        raise _failed("No refresh token was given.", "Ask for offline_access, and register the app for it.")
    return found
