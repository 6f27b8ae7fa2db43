"""Grants: what a client was given, its codes, its refresh tokens, and how all of it ends."""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from digital_twins.auth._records import digest, new_secret
from digital_twins.auth._refusals import OAuthError

if TYPE_CHECKING:
    import apsw

    from digital_twins.auth._records import Records

CODE_S = 60
"""Seconds within which a code must be redeemed."""

REFRESH_S = 30 * 86400
"""Seconds after which an unused refresh token ends."""

GRANT_S = 180 * 86400
"""Seconds after which people are asked again in any case."""

LAUNCH_S = 300
"""Seconds within which an app must be started after an EHR launch."""

_COLUMNS = "id, client, username, scope, patient, context, created"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client may do, for whom.

    Attributes
    ----------
    id
        Names the family of tokens.
    client, user
        Who got it, and on whose behalf (empty: the client's own).
    scope
        The scopes that were given.
    patient
        Patient in context.
    context
        Further launch context, e.g. ``{"encounter": "7"}``, and the time of sign-in.
    created
        Seconds since 1970.
    """

    id: str
    client: str
    user: str
    scope: str
    patient: str | None
    context: dict[str, Any]
    created: int


@dataclass(frozen=True, slots=True)
class Launch:
    """An EHR launch: the context that an app is opened in."""

    client: str
    user: str
    patient: str
    encounter: str | None


def _grant(row: tuple[Any, ...]) -> Grant:
    name, client, user, scope, patient, context, created = row
    return Grant(name, client, user, scope, patient, json.loads(context), created)


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    return urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class Grants:
    """The grants of a node; every step writes an audit event in its own transaction."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def create(self, cursor: apsw.Cursor, grant: Grant, *, lifetime_s: int = GRANT_S) -> None:
        """Store a grant."""
        cursor.execute(
            "INSERT INTO auth_grant(id, client, username, scope, patient, context, created, expires) "
            "VALUES(?,?,?,?,?,?,?,?)",
            (
                *(grant.id, grant.client, grant.user, grant.scope, grant.patient, json.dumps(grant.context)),
                *(grant.created, grant.created + lifetime_s),
            ),
        )

    def new(self, client: str, user: str, scope: str, patient: str | None, context: dict[str, Any]) -> Grant:
        """Return a grant that is not stored yet."""
        return Grant(secrets.token_hex(16), client, user, scope, patient, context, int(self._records.now()))

    def authorise(
        self,
        grant: Grant,
        *,
        redirect_uri: str,
        challenge: str,
        nonce: str | None,
        lifetime_s: int = GRANT_S,
    ) -> str:
        """Store a grant that somebody agreed to and return its code."""
        code = new_secret()

        def work(cursor: apsw.Cursor) -> None:
            self.create(cursor, grant, lifetime_s=lifetime_s)
            cursor.execute(
                "INSERT INTO auth_code(digest, grant_id, redirect_uri, challenge, nonce, expires) "
                "VALUES(?,?,?,?,?,?)",
                (digest(code), grant.id, redirect_uri, challenge, nonce, grant.created + CODE_S),
            )
            self._records.event(
                cursor,
                "authorise",
                agent=f"user:{grant.user}",
                entity=f"client:{grant.client}",
                patient=grant.patient,
                detail={"scope": grant.scope, "grant": grant.id},
            )

        self._records.database.write(work)
        return code

    def redeem(self, code: str, *, client: str, redirect_uri: str, verifier: str) -> tuple[Grant, str | None]:
        """Return the grant of a code and its nonce; a code that comes twice revokes what it gave.

        Raises
        ------
        OAuthError
            ``invalid_grant``: unknown, expired, used, of another client, address or verifier.
        """
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> tuple[Grant, str | None] | str:
            row = cursor.execute(
                "SELECT grant_id, redirect_uri, challenge, nonce, expires, used FROM auth_code "
                "WHERE digest=?",
                (digest(code),),
            ).fetchone()
            if row is None:
                return "unknown"
            name, address, challenge, nonce, expires, used = row
            grant = self._load(cursor, name)
            if used:
                self._revoke(cursor, name, "code-reused")
                return "reused"
            if grant is None or grant.client != client or now > expires:
                return "expired"
            cursor.execute("UPDATE auth_code SET used=? WHERE digest=?", (now, digest(code)))
            right = hmac.compare_digest(challenge_of(verifier).encode(), challenge.encode())
            if address != redirect_uri or not right:
                self._revoke(cursor, name, "code-stolen")
                return "verifier"
            return grant, nonce

        return self._settled(self._records.database.write(work), client, "code")

    def refresh(self, token: str, *, client: str) -> Grant:
        """Use a refresh token up and return its grant; one that comes twice revokes the whole family.

        Raises
        ------
        OAuthError
            ``invalid_grant``.
        """
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> tuple[Grant, str | None] | str:
            text = "SELECT grant_id, expires, used FROM auth_refresh WHERE digest=?"
            row = cursor.execute(text, (digest(token),)).fetchone()
            if row is None:
                return "unknown"
            name, expires, used = row
            grant = self._load(cursor, name)
            if used:
                self._revoke(cursor, name, "refresh-reused")
                return "reused"
            if grant is None or grant.client != client or now > expires:
                return "expired"
            cursor.execute("UPDATE auth_refresh SET used=? WHERE digest=?", (now, digest(token)))
            return grant, None

        return self._settled(self._records.database.write(work), client, "refresh")[0]

    def client_of_refresh(self, token: str) -> str | None:
        """Return whose refresh token this is or was, used up or not; None for one never given."""
        text = "SELECT g.client FROM auth_refresh r JOIN auth_grant g ON g.id = r.grant_id WHERE r.digest=?"
        with self._records.database.read() as connection:
            row = connection.execute(text, (digest(token),)).fetchone()
        return None if row is None else str(row[0])

    def _settled(
        self, found: tuple[Grant, str | None] | str, client: str, kind: str
    ) -> tuple[Grant, str | None]:
        if isinstance(found, str):
            self._records.refused("token", agent=f"client:{client}", why=f"{kind}-{found}")
            raise OAuthError("invalid_grant", "The code or refresh token is not valid any more.")
        return found

    def refresh_token(self, cursor: apsw.Cursor, grant: Grant) -> str:
        """Store and return a new refresh token."""
        token = new_secret()
        text = "INSERT INTO auth_refresh(digest, grant_id, expires) VALUES(?,?,?)"
        cursor.execute(text, (digest(token), grant.id, int(self._records.now()) + REFRESH_S))
        return token

    def alive(self, name: str) -> bool:
        """Whether a grant still holds: not revoked, not expired, its user and client not disabled."""
        with self._records.database.read() as connection:
            return self._load(connection, name) is not None

    def of_refresh(self, token: str) -> tuple[Grant, int] | None:
        """Return the grant of a refresh token that is still good and when the token expires."""
        with self._records.database.read() as connection:
            text = "SELECT grant_id, expires FROM auth_refresh WHERE digest=? AND used=0 AND expires>?"
            row = connection.execute(text, (digest(token), int(self._records.now()))).fetchone()
            grant = self._load(connection, row[0]) if row else None
        return (grant, row[1]) if row is not None and grant is not None else None

    def revoke(self, name: str, *, client: str) -> None:
        """End a grant of a client with every token of it."""

        def work(cursor: apsw.Cursor) -> None:
            grant = self._load(cursor, name)
            if grant is not None and grant.client == client:
                self._revoke(cursor, name, "asked")

        self._records.database.write(work)

    def _revoke(self, cursor: apsw.Cursor, name: str, why: str) -> None:
        text = "UPDATE auth_grant SET revoked=? WHERE id=? AND revoked=0 RETURNING client"
        row = cursor.execute(text, (int(self._records.now()), name)).fetchone()
        if row is not None:
            detail: dict[str, str | int] = {"grant": name, "why": why}
            self._records.event(cursor, "revoke", agent="node", entity=f"client:{row[0]}", detail=detail)

    def _load(self, cursor: Any, name: str) -> Grant | None:
        row = cursor.execute(
            f"SELECT {_COLUMNS} FROM auth_grant g WHERE id=? AND revoked=0 AND expires>? "  # noqa: S608  (columns of ours)  # nosec B608
            "AND NOT EXISTS (SELECT 1 FROM auth_user u WHERE u.name=g.username AND u.disabled=1) "
            "AND NOT EXISTS (SELECT 1 FROM auth_client c WHERE c.id=g.client AND c.disabled=1)",
            (name, int(self._records.now())),
        ).fetchone()
        return None if row is None else _grant(row)

    def launch(self, launch: Launch) -> str:
        """Keep the context of an EHR launch and return the value that the app hands back."""
        value = new_secret()
        expires = int(self._records.now()) + LAUNCH_S

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(
                "INSERT INTO auth_launch(digest, client, username, patient, encounter, expires) "
                "VALUES(?,?,?,?,?,?)",
                (digest(value), launch.client, launch.user, launch.patient, launch.encounter, expires),
            )
            self._records.event(
                cursor,
                "launch",
                agent=f"user:{launch.user}",
                entity=f"client:{launch.client}",
                patient=launch.patient,
            )

        self._records.database.write(work)
        return value

    def launched(self, value: str, *, client: str) -> Launch | None:
        """Return the context of an EHR launch, None when it is not that client's or too old."""
        text = (
            "SELECT client, username, patient, encounter FROM auth_launch "
            "WHERE digest=? AND client=? AND expires>?"
        )
        with self._records.database.read() as connection:
            arguments = (digest(value), client, int(self._records.now()))
            row = connection.execute(text, arguments).fetchone()
        return None if row is None else Launch(*row)

    def first_use(self, cursor: apsw.Cursor, client: str, jti: str, expires: int) -> bool:
        """Whether a client's assertion was never shown before; remembers it until it expires."""
        cursor.execute("DELETE FROM auth_assertion WHERE expires<?", (int(self._records.now()) - 60,))
        text = (
            "INSERT INTO auth_assertion(client, jti, expires) VALUES(?,?,?) "
            "ON CONFLICT DO NOTHING RETURNING jti"
        )
        return cursor.execute(text, (client, jti, expires)).fetchone() is not None
