"""Authorization code with PKCE for a program on the person's machine (RFC 8252, RFC 7636, RFC 9207)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from digital_twins._errors import InputError, NotFoundError
from digital_twins.cli._sign_ins import (
    CLIENT_ID,
    SignIn,
    http_client,
    refused,
    safe,
    token_answer,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BACK = "/signed-in"
_CODE_PAGE = "/auth/code"
_ENDS = ("authorization_endpoint", "token_endpoint", "revocation_endpoint", "userinfo_endpoint")
_SCOPE = "openid profile online_access user/*.cruds"
_PAGE = (
    "<!doctype html><html lang='en'><meta charset='utf-8'><title>twin login</title>"
    "<p>{}</p><p>You may close this page and go back to the terminal.</p></html>"
)


@dataclass(frozen=True, slots=True)
class Discovered:
    """Addresses and scopes of a node, as its discovery document names them."""

    issuer: str
    ends: Mapping[str, str]
    scope: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in under way: what only this process knows of it."""

    node: Discovered
    redirect_uri: str
    verifier: str
    state: str

    @classmethod
    def begin(cls, node: Discovered, redirect_uri: str) -> Attempt:
        """Return a new one."""
        return cls(node, redirect_uri, secrets.token_urlsafe(48), secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        """Address to open in the browser."""
        hashed = hashlib.sha256(self.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": self.redirect_uri,
            "scope": self.node.scope,
            "state": self.state,
            "aud": f"{self.node.issuer}/fhir",
            "code_challenge": base64.urlsafe_b64encode(hashed).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{self.node.ends['authorization_endpoint']}?{urlencode(asked)}"

    def code_of(self, query: Mapping[str, str]) -> str | None:
        """Return the code of an answer, empty for a refusal; None when it is another sign-in's."""
        mine = hmac.compare_digest(query.get("state", "").encode(), self.state.encode())
        if not mine or query.get("iss") != self.node.issuer:
            return None
        return query.get("code", "")

    def finish(self, code: str, authority: str | None) -> SignIn:
        """Return the sign-in that a code gives.

        Raises
        ------
        NotSignedInError, StorageError
            The person or the node refused; the node does not answer.
        """
        if not code:
            raise refused("It was not allowed in the browser.")
        ends = self.node.ends
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": CLIENT_ID,
            "code_verifier": self.verifier,
        }
        empty = SignIn(
            url=self.node.issuer,
            token_endpoint=ends["token_endpoint"],
            revocation_endpoint=ends["revocation_endpoint"],
            userinfo_endpoint=ends["userinfo_endpoint"],
            access_token="",
            until=0.0,
            refresh_token="",
            authority=authority,
        )
        with http_client(authority) as client:
            return empty.with_tokens(token_answer(client, empty.token_endpoint, form))


def discover(url: str, authority: str | None) -> Discovered:
    """Return the addresses of a node.

    Raises
    ------
    InputError
        Tokens must not go to such an address, or the node calls itself by another one.
    NotFoundError
        Nobody signs in there.
    StorageError
        It does not answer.
    """
    address = url.rstrip("/")
    if not safe(address):
        raise InputError(
            "The address of the node cannot be used.",
            "It is neither https nor http to this machine.",
            "Write it like https://twin.hospital.example.",
        )
    try:
        with http_client(authority) as client:
            answer = client.get(f"{address}/.well-known/openid-configuration")
            document = answer.json() if answer.status_code == httpx.codes.OK else {}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise unreachable(error) from None
    ends = {name: str(document.get(name, "")) for name in _ENDS} if isinstance(document, dict) else {}
    if not ends or not all(map(safe, ends.values())):
        raise NotFoundError(
            "Nobody signs in there.",
            f"The address answered {answer.status_code} without the doors of a node with authentication.",
            "Check the address; set authentication = true in the node's twin.toml.",
        )
    if document.get("issuer") != address:
        raise InputError(
            "The address of the node cannot be used.",
            "The node calls itself by another one (its public_url).",
            f"Run: twin login {document.get('issuer')}",
        )
    words = [each for each in document.get("scopes_supported", ()) if isinstance(each, str) and "." in each]
    actions = [each for each in words if "/" not in each]
    return Discovered(address, ends, " ".join((_SCOPE, *actions)))


def by_browser(
    node: Discovered, authority: str | None, *, show: Callable[[str], None], timeout_s: float
) -> SignIn:
    """Return the sign-in of somebody who comes back to a port of this machine.

    Parameters
    ----------
    node
        Where to sign in.
    authority
        File of its certificate authority.
    show
        Shows the address, by opening it in a browser or on the screen.
    timeout_s
        How long to wait.

    Raises
    ------
    NotSignedInError
        Nobody came back in time, or the person or the node refused.
    """
    with _Listener() as listener:
        attempt = Attempt.begin(node, f"http://127.0.0.1:{listener.port}{_BACK}")
        listener.take = attempt.code_of
        show(attempt.url)
        code = listener.wait(timeout_s)
    if code is None:
        raise refused(f"Nobody came back from the browser within {timeout_s:.0f} s.")
    return attempt.finish(code, authority)


def by_code(
    node: Discovered, authority: str | None, *, show: Callable[[str], None], ask: Callable[[], str]
) -> SignIn:
    """Return the sign-in of somebody who copies a code from a browser anywhere.

    Parameters
    ----------
    node, authority, show
        As for `by_browser`.
    ask
        Returns what was copied: the code, or the whole address of the page that showed it.

    Raises
    ------
    NotSignedInError
        The code is not this sign-in's, or the node refused.
    """
    attempt = Attempt.begin(node, f"{node.issuer}{_CODE_PAGE}")
    show(attempt.url)
    given = ask().strip()
    if "://" in given:
        code = attempt.code_of(_fields(urlsplit(given).query))
        if code is None:
            raise refused("The address is that of another sign-in.")
        given = code
    return attempt.finish(given, authority)


def _fields(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items() if len(values) == 1}


class _Listener:
    """Waits at a free port of 127.0.0.1 for the browser to bring the code of one sign-in."""

    def __init__(self) -> None:
        self.take: Callable[[Mapping[str, str]], str | None] = lambda _: None
        self._code: str | None = None
        self._came = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0  # a connection that a browser opens in advance and leaves must not wait for ever

            def do_GET(self) -> None:
                """Take the code, or say that the request is not meant for this program."""
                parts = urlsplit(self.path)
                meant = parts.path == _BACK and self.headers.get("host") == f"127.0.0.1:{listener.port}"
                code = listener.take(_fields(parts.query)) if meant else None
                if code is None:
                    self._say(404, "This page belongs to no sign-in that waits here.")
                    return
                self._say(200, "You are signed in." if code else "You are not signed in.")
                listener.came(code)

            def _say(self, status: int, text: str) -> None:
                body = _PAGE.format(text).encode()
                self.send_response(status)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.send_header("content-length", str(len(body)))
                self.send_header("cache-control", "no-store")
                self.send_header("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
                self.send_header("referrer-policy", "no-referrer")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write nothing: the address holds the code."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """TCP port of 127.0.0.1 on which it waits."""
        return int(self._server.server_address[1])

    def came(self, code: str) -> None:
        """Keep the first answer."""
        if not self._came.is_set():
            self._code = code
            self._came.set()

    def wait(self, timeout_s: float) -> str | None:
        """Return the code, empty for a refusal, None when nobody came."""
        self._came.wait(timeout_s)
        return self._code

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
