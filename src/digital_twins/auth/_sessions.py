"""Sessions of the web pages: a random value in a cookie, its digest in the database."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins._logging import get_logger
from digital_twins.auth._principal import Principal
from digital_twins.auth._records import digest, new_secret
from digital_twins.auth._roles import rights_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from digital_twins.auth._accounts import Accounts, User
    from digital_twins.auth._records import Records

IDLE_S = 15 * 60
"""Seconds without a request after which a session ends."""

ABSOLUTE_S = 12 * 3600
"""Seconds after which it ends in any case."""

EMERGENCY_S = 3600
"""Seconds for which a broken glass stays broken."""

_MIN_REASON = 10
_TOUCH_S = 15
_log = get_logger(__name__)


class Sessions:
    """Sessions of people; every start, end and emergency writes an audit event.

    Parameters
    ----------
    records
        Database, clock and trail.
    accounts
        The accounts whose sessions these are.
    on_emergency
        Called with the user's name when somebody breaks the glass, e.g. to alert the security office.
    """

    def __init__(
        self,
        records: Records,
        accounts: Accounts,
        *,
        on_emergency: Callable[[str], None] | None = None,
    ) -> None:
        self._records = records
        self._accounts = accounts
        self._on_emergency = on_emergency
        self._key = secrets.token_bytes(32)

    def start(self, user: User, *, replacing: str | None = None) -> str:
        """Begin a session and return the cookie's value: always a new one; the one before it ends."""
        secret, now = new_secret(), int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            if replacing:
                text = "UPDATE auth_session SET ended=? WHERE digest=? AND ended=0"
                cursor.execute(text, (now, digest(replacing)))
            text = "INSERT INTO auth_session(digest, username, created, seen) VALUES(?,?,?,?)"
            cursor.execute(text, (digest(secret), user.name, now, now))

        self._records.database.write(work)
        return secret

    def find(self, secret: str) -> tuple[User, Principal] | None:
        """Return whose session it is and what that person may do; None when it ended or never was."""
        return self.alive(digest(secret))

    def alive(self, key: str) -> tuple[User, Principal] | None:
        """Return the same for a session's digest, which a `Principal` carries."""
        now = int(self._records.now())
        with self._records.database.read() as connection:
            text = "SELECT username, created, seen, ended, emergency_until FROM auth_session WHERE digest=?"
            row = connection.execute(text, (key,)).fetchone()
        if row is None:
            return None
        name, created, seen, ended, emergency_until = row
        if ended or now - seen > IDLE_S or now - created > ABSOLUTE_S:
            return None
        user = self._accounts.get(name)
        if user is None or user.disabled:
            return None
        if now - seen >= _TOUCH_S:
            self._records.database.submit(
                lambda cursor: cursor.execute("UPDATE auth_session SET seen=? WHERE digest=?", (now, key))
            )
        return user, principal_of(user, session=key, emergency=now < emergency_until)

    def end(self, secret: str) -> None:
        """Sign out."""
        key, now = digest(secret), int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            text = "UPDATE auth_session SET ended=? WHERE digest=? AND ended=0 RETURNING username"
            row = cursor.execute(text, (now, key)).fetchone()
            if row is not None:
                self._records.event(cursor, "sign-out", agent=f"user:{row[0]}")

        self._records.database.write(work)

    def break_glass(self, principal: Principal, reason: str) -> str:
        """Give emergency rights to a session for an hour and return the number of the emergency.

        The reason stays in the table ``auth_emergency``: it may name a patient, and the trail must not.

        Raises
        ------
        InputError
            The reason is missing.
        """
        if len(reason.strip()) < _MIN_REASON:
            raise InputError(
                "The emergency access was refused.",
                f"It needs a reason of at least {_MIN_REASON} characters.",
                "Write why the access cannot wait.",
            )
        number, now = secrets.token_hex(8), int(self._records.now())
        name = principal.name.removeprefix("user:")

        def work(cursor: apsw.Cursor) -> None:
            text = "INSERT INTO auth_emergency(id, username, reason, began) VALUES(?,?,?,?)"
            cursor.execute(text, (number, name, reason.strip()[:2000], now))
            text = "UPDATE auth_session SET emergency_until=? WHERE digest=?"
            cursor.execute(text, (now + EMERGENCY_S, principal.session))
            self._records.event(cursor, "emergency", agent=principal.name, entity=f"emergency:{number}")

        self._records.database.write(work)
        _log.warning("auth.emergency", event_id=number)
        if self._on_emergency is not None:
            self._on_emergency(name)
        return number

    def form_token(self, session: str) -> str:
        """Return the token that forms of a session carry, so that no other site can send them."""
        return hmac.new(self._key, session.encode(), "sha256").hexdigest()

    def form_token_right(self, session: str, token: str) -> bool:
        """Whether a form carries the token of the session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode())


def principal_of(user: User, *, session: str = "", emergency: bool = False) -> Principal:
    """Return what somebody may do by the own roles; a patient's account is bound to that patient."""
    rights = rights_of(user.roles, emergency=emergency)
    scopes = rights.fhir
    if user.patient is not None:
        scopes = tuple(replace(scope, level="patient") for scope in scopes)
    return Principal(
        f"user:{user.name}",
        roles=frozenset(user.roles),
        actions=rights.actions,
        scopes=scopes,
        patient=user.patient,
        session=session,
        emergency=emergency,
    )
