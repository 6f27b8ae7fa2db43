"""The nodes that somebody signed in to from this account: tokens in a file of mode 0600, renewed in time.

The file lies in ``$XDG_CONFIG_HOME/digital-twins`` (else ``~/.config``), never in a project or data folder.
Refresh tokens are good once, and a second use ends the sign-in: so a lock lets one process renew at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import ssl
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from digital_twins._errors import InputError, NotFoundError, StorageError
from digital_twins.auth import NotSignedInError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

CLIENT_ID = "twin-cli"
_EARLY_S = 20
_PATIENCE_S = 30.0
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class SignIn:
    """One node and what it gave.

    Attributes
    ----------
    url
        Address of the node, its issuer.
    token_endpoint, revocation_endpoint, userinfo_endpoint
        As its discovery document names them.
    access_token, until
        Token for requests, and the second since 1970 after which it is not used any more.
    refresh_token
        Token that gets the next one, good once.
    authority
        File with the certificate authority of the node, None for those that the system trusts.
    """

    url: str
    token_endpoint: str
    revocation_endpoint: str
    userinfo_endpoint: str
    access_token: str
    until: float
    refresh_token: str
    authority: str | None = None

    def http(self) -> httpx.Client:
        """Return a client for the node."""
        return http_client(self.authority)

    def with_tokens(self, answer: Mapping[str, Any]) -> SignIn:
        """Return the same with the tokens of an answer of the token endpoint.

        Raises
        ------
        NotSignedInError
            They are not there.
        """
        try:
            access, refresh = str(answer["access_token"]), str(answer["refresh_token"])
            until = time.time() + max(float(answer["expires_in"]) - _EARLY_S, 1)
        except (KeyError, TypeError, ValueError):
            raise refused("It gave no usable tokens.") from None
        return replace(self, access_token=access, refresh_token=refresh, until=until)


def http_client(authority: str | None) -> httpx.Client:
    """Return an HTTP client that speaks TLS 1.3 and follows nobody elsewhere.

    Raises
    ------
    InputError
        The file of the authority cannot be used.
    """
    return httpx.Client(verify=tls(authority), timeout=_PATIENCE_S, follow_redirects=False, trust_env=False)


def tls(authority: str | None) -> ssl.SSLContext:
    """Return TLS 1.3 that trusts a certificate authority of a file, or those of the system."""
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            "The certificate authority cannot be used.",
            f"Reading its file failed ({type(error).__name__}).",
            "Name the ca.pem of 'twin certs init' with --authority.",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def safe(url: str) -> bool:
    """Whether tokens may go to an address: https, or http to this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
    )


def refused(why: str) -> NotSignedInError:
    """Return the error of a sign-in that the node does not take, or not any more."""
    return NotSignedInError("The node did not sign you in.", why, "Run: twin login")


class SignIns:
    """The sign-ins of this account of the operating system."""

    def __init__(self, folder: Path | None = None) -> None:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        self._folder = folder or home / "digital-twins"
        self._file = self._folder / "sign-ins.json"

    def find(self, url: str | None) -> SignIn:
        """Return the sign-in of a node, without an address the newest.

        Raises
        ------
        NotFoundError
            There is none.
        """
        found = self._read()
        name = url.rstrip("/") if url is not None else next(reversed(found), "")
        if name not in found:
            raise NotFoundError(
                "Nobody is signed in.", "This account holds no such sign-in.", "Run: twin login"
            )
        return found[name]

    def covering(self, url: str) -> SignIn | None:
        """Return the sign-in of the node that an address lies on, None without one."""
        return next((each for each in self._read().values() if origin(each.url) == origin(url)), None)

    def keep(self, made: SignIn) -> None:
        """Keep a sign-in as the newest, in place of the one before to the same node."""
        with self._locked():
            found = self._read()
            found.pop(made.url, None)
            self._write({**found, made.url: made})

    def drop(self, url: str) -> None:
        """Forget the sign-in of a node."""
        with self._locked():
            found = self._read()
            found.pop(url, None)
            self._write(found)

    def access_token(self, url: str, *, not_this: str = "") -> str:
        """Return a token for requests that is still good, renewed where it has to be.

        Parameters
        ----------
        url
            Address of the node, as `SignIn.url`.
        not_this
            A token that the node does not take any more.

        Raises
        ------
        NotFoundError, NotSignedInError, StorageError
            Nobody is signed in; the sign-in ended; the node does not answer.
        """
        with self._locked():
            held = self.find(url)
            if time.time() < held.until and held.access_token != not_this:
                return held.access_token
            made = held.with_tokens(_renewed(held))
            self._write({**self._read(), held.url: made})
        return made.access_token

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, SignIn]:
        what = "The sign-ins cannot be read."
        try:
            mode, text = self._file.stat().st_mode, self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except OSError as error:
            why = f"Reading their file failed ({type(error).__name__})."
            raise StorageError(what, why, "Give the file back to your account.") from None
        if mode & 0o077:
            raise StorageError(what, "Others than you may read their file.", f"chmod 600 '{self._file}'")
        try:
            return {name: SignIn(**row) for name, row in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError):
            raise StorageError(
                what, "Their file is damaged.", f"Remove '{self._file}' and run: twin login"
            ) from None

    def _write(self, found: Mapping[str, SignIn]) -> None:
        content = json.dumps({name: asdict(each) for name, each in found.items()}, indent=1).encode()
        temporary = self._file.with_name(f"{self._file.name}.{secrets.token_hex(6)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(self._file)


def _renewed(held: SignIn) -> dict[str, Any]:
    form = {"grant_type": "refresh_token", "refresh_token": held.refresh_token, "client_id": CLIENT_ID}
    with held.http() as client:
        return token_answer(client, held.token_endpoint, form)


def token_answer(client: httpx.Client, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return what the token endpoint gives for a form.

    Raises
    ------
    NotSignedInError
        It refused.
    StorageError
        It did not answer.
    """
    try:
        answer = client.post(endpoint, data=dict(form), headers={"accept": "application/json"})
        found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise unreachable(error) from None
    if answer.status_code != httpx.codes.OK or not isinstance(found, dict):
        word = found.get("error") if isinstance(found, dict) else None
        reason = "the sign-in ended or was revoked" if word == "invalid_grant" else "it refused the request"
        raise refused(f"It answered {answer.status_code}: {reason}.")
    return found


def unreachable(error: Exception) -> StorageError:
    """Return the error of a node that does not answer as one."""
    return StorageError(
        "The node did not answer.",
        f"The request failed ({type(error).__name__}).",
        "Check the address, --authority for a certificate of your own authority, and that the node runs.",
    )


class SignedIn(httpx.Auth):
    """Signs the requests of a client to one node; requests to other places carry no token."""

    def __init__(self, held: SignIn, store: SignIns) -> None:
        self._held = held
        self._store = store

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request with a token; one that the node does not take any more is renewed once."""
        if origin(str(request.url)) != origin(self._held.url):
            yield request
            return
        token = self._store.access_token(self._held.url)
        request.headers["authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            token = self._store.access_token(self._held.url, not_this=token)
            request.headers["authorization"] = f"Bearer {token}"
            yield request
