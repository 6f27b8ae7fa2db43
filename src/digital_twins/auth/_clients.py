"""Registered clients: apps that people launch, and services that act for themselves."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.auth._records import digest, new_secret
from digital_twins.auth._roles import known_actions
from digital_twins.auth._scopes import parse_fhir_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import apsw

    from digital_twins.auth._records import Records

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,63}")
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]):([0-9]{1,5})(/[A-Za-z0-9._~/-]*)")
OPEN_SCOPES = ("openid", "fhirUser", "profile", "launch", "launch/patient", "offline_access", "online_access")
COMMAND_LINE = "twin-cli"
"""The client that `twin login` is; it needs no registration, and ends when an operator disables it."""

CODE_PAGE = "/auth/code"
"""Page that shows a code to somebody whose terminal has no browser beside it."""

_LOOPBACK_BACK = "http://127.0.0.1/signed-in"
_AT_THE_PAGES = frozenset({"pages.view", "report.sign", "launch.create", "emergency.use"})
_KEYS_MAX_AGE_S, _KEYS_MIN_AGE_S = 300.0, 10.0
_COLUMNS = "id, name, secret, redirect_uris, launch_url, scope, jwks, jwks_url, disabled"


@dataclass(frozen=True, slots=True)
class Client:
    """A registered client.

    Attributes
    ----------
    id, name
        Identifier, and the name that people are shown.
    secret
        Digest of the secret of a confidential client that has one.
    redirect_uris
        Addresses that people are sent back to, compared letter by letter; see `returns_to`.
    launch_url
        Where an EHR launch begins.
    scope
        Everything it may ever be given.
    jwks, jwks_url
        Public keys of its assertions, given or to be fetched (``private_key_jwt``).
    disabled
        Whether it is closed.
    """

    id: str
    name: str
    secret: str | None
    redirect_uris: tuple[str, ...]
    launch_url: str | None
    scope: str
    jwks: dict[str, Any] | None
    jwks_url: str | None
    disabled: bool

    @property
    def confidential(self) -> bool:
        """Whether it must prove who it is."""
        return self.secret is not None or self.jwks is not None or self.jwks_url is not None

    def returns_to(self, uri: str) -> bool:
        """Whether people may be sent back to an address.

        A registered ``http://127.0.0.1/...`` or ``http://[::1]/...`` without a port stands for every port, as
        a program on the person's machine listens where the system lets it (RFC 8252 section 7.3).
        """
        return uri in self.redirect_uris or _without_port(uri) in self.redirect_uris


def _without_port(uri: str) -> str | None:
    """Return an address of this machine without its port; None for one with anything unusual in it."""
    match = _LOOPBACK.fullmatch(uri)
    return f"http://{match[1]}{match[3]}" if match and 0 < int(match[2]) <= 65535 else None


def command_line_client(base_url: str) -> Client:
    """Return the client of the command line of a node.

    It may have what the person's roles allow, but for what belongs to a person at the pages: signatures,
    launches and breaking the glass.
    """
    actions = (action for action in known_actions() if action not in _AT_THE_PAGES)
    return Client(
        id=COMMAND_LINE,
        name="twin, the command line",
        secret=None,
        redirect_uris=(_LOOPBACK_BACK, f"{base_url}{CODE_PAGE}"),
        launch_url=None,
        scope=" ".join(("openid profile online_access user/*.cruds", *actions)),
        jwks=None,
        jwks_url=None,
        disabled=False,
    )


def _client(row: tuple[Any, ...]) -> Client:
    name, display, secret, uris, launch_url, scope, jwks, jwks_url, disabled = row
    keys = json.loads(jwks) if jwks else None
    return Client(
        name, display, secret, tuple(json.loads(uris)), launch_url, scope, keys, jwks_url, bool(disabled)
    )


class Clients:
    """The clients of a node; every change writes one audit event.

    Parameters
    ----------
    records
        Database, clock and trail.
    fetch
        Returns the JSON at an address, for key sets that a client keeps at one.
    base_url
        Address of the node.
    """

    def __init__(self, records: Records, *, fetch: Callable[[str], Any], base_url: str) -> None:
        self._records = records
        self._fetch = fetch
        self._command_line = command_line_client(base_url)
        self._lock = threading.Lock()
        self._fetched: dict[str, tuple[float, dict[str, Any]]] = {}

    def add(
        self,
        name: str,
        *,
        scope: str,
        display: str = "",
        redirect_uris: Sequence[str] = (),
        launch_url: str | None = None,
        jwks: dict[str, Any] | None = None,
        jwks_url: str | None = None,
        secret: bool = False,
    ) -> str | None:
        """Register a client and return its secret, shown only now (None without ``secret``).

        Raises
        ------
        InputError
            An address, the scope or the keys cannot be used.
        ConflictError
            The identifier is or was in use.
        """
        _check(name, scope, (*redirect_uris, *filter(None, (launch_url, jwks_url))))
        keys = None if jwks is None else json.dumps(public_keys(jwks))
        value = new_secret() if secret else None
        row = (
            *(name, display or name, digest(value) if value else None, json.dumps(list(redirect_uris))),
            *(launch_url, scope, keys, jwks_url, int(self._records.now())),
        )

        def work(cursor: apsw.Cursor) -> None:
            taken = cursor.execute("SELECT 1 FROM auth_client WHERE id=?", (name,)).fetchone()
            if taken or name == COMMAND_LINE:
                raise ConflictError(
                    "The client was not registered.", "Its identifier is or was in use.", "Choose another."
                )
            cursor.execute(
                "INSERT INTO auth_client(id, name, secret, redirect_uris, launch_url, scope, jwks, jwks_url,"
                " created) VALUES(?,?,?,?,?,?,?,?,?)",
                row,
            )
            self._records.event(cursor, "client.add", agent="operator", entity=f"client:{name}")

        self._records.database.write(work)
        return value

    def disable(self, name: str) -> None:
        """Close a client for good; its grants end with it. NotFoundError for an unknown one."""
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            if name == COMMAND_LINE:
                cursor.execute(
                    "INSERT INTO auth_client(id, name, redirect_uris, scope, created) VALUES(?,?,'[]','',?) "
                    "ON CONFLICT DO NOTHING",
                    (name, self._command_line.name, now),
                )
            text = "UPDATE auth_client SET disabled=1 WHERE id=? RETURNING id"
            if cursor.execute(text, (name,)).fetchone() is None:
                raise NotFoundError(
                    "The client was not changed.", "There is no such one.", "Run: twin auth client list"
                )
            cursor.execute("UPDATE auth_grant SET revoked=? WHERE client=? AND revoked=0", (now, name))
            self._records.event(cursor, "client.disable", agent="operator", entity=f"client:{name}")

        self._records.database.write(work)

    def get(self, name: str) -> Client | None:
        """Return a client, None when there is none."""
        with self._records.database.read() as connection:
            text = f"SELECT {_COLUMNS} FROM auth_client WHERE id=?"  # noqa: S608  (columns of ours)  # nosec B608
            row = connection.execute(text, (name,)).fetchone()
        if row is None:
            return self._command_line if name == COMMAND_LINE else None
        return _client(row)

    def all(self) -> list[Client]:
        """Return all clients by identifier, the command line among them."""
        with self._records.database.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM auth_client ORDER BY id").fetchall()  # noqa: S608  (as above)  # nosec B608
        found = {str(row[0]): _client(row) for row in rows}
        found.setdefault(COMMAND_LINE, self._command_line)
        return [found[name] for name in sorted(found)]

    def keys_of(self, client: Client, kid: str) -> list[dict[str, Any]]:
        """Return the public keys of a client that carry an id, fetched anew when the id is not known.

        Only the registered address is ever asked: ``jku`` of an assertion is not looked at.
        """
        if client.jwks is not None:
            return [key for key in client.jwks["keys"] if key.get("kid") == kid]
        if client.jwks_url is None:
            return []
        with self._lock:
            at, held = self._fetched.get(client.jwks_url, (float("-inf"), {"keys": []}))
            age = time.monotonic() - at
            known = any(key.get("kid") == kid for key in held["keys"])
            if age > _KEYS_MAX_AGE_S or (not known and age > _KEYS_MIN_AGE_S):
                held = public_keys(self._fetch(client.jwks_url))
                self._fetched[client.jwks_url] = (time.monotonic(), held)
        return [key for key in held["keys"] if key.get("kid") == kid]


def public_keys(jwks: Any) -> dict[str, Any]:
    """Return the RSA and EC public keys of a JWK set.

    Raises
    ------
    InputError
        It is no set of public keys with ids.
    """
    rows = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(rows, list) or not rows:
        raise InputError("The keys cannot be used.", "They are no JWK set.", 'Give {"keys": [...]}.')
    for key in rows:
        usable = isinstance(key, dict) and key.get("kty") in {"RSA", "EC"} and isinstance(key.get("kid"), str)
        if not usable or "d" in key:
            raise InputError(
                "The keys cannot be used.",
                "A key is not a public RSA or EC key with a kid.",
                "Leave private keys and symmetric keys out.",
            )
    return {"keys": rows}


def _check(name: str, scope: str, addresses: Sequence[str]) -> None:
    if not _ID.fullmatch(name):
        raise InputError(
            "The client was not registered.", "Its identifier has other characters.", "Use A-Z, 0-9, . _ -"
        )
    for address in addresses:
        parts = urlsplit(address)
        local = parts.hostname in {"127.0.0.1", "localhost", "::1"}
        if not (parts.scheme == "https" or (parts.scheme == "http" and local)) or parts.fragment:
            raise InputError(
                "The client was not registered.",
                "An address is neither https nor of this machine, or has a fragment.",
                "Use https addresses.",
            )
    for each in scope.split():
        known = each in OPEN_SCOPES or each in known_actions() or parse_fhir_scope(each) is not None
        if not known:
            raise InputError(
                "The client was not registered.",
                "Its scope has a part that this server does not know.",
                "Use SMART scopes such as patient/*.rs, openid, or actions of the role table.",
            )
