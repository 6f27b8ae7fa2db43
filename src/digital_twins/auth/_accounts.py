"""Accounts of people: made, disabled, never deleted, so that a name is never used again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import ConflictError, InputError, NotFoundError
from digital_twins.auth._passwords import check_password, hash_password, new_totp_secret, totp_step
from digital_twins.auth._refusals import NotSignedInError
from digital_twins.auth._roles import check_roles

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw

    from digital_twins.auth._records import Records
    from digital_twins.auth._sealed import SealedSecrets

LOCK_AFTER = 5
"""Wrong passwords or codes in a row after which an account is locked."""

LOCK_S = 15 * 60
"""Seconds for which it is locked."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{1,63}")
_COLUMNS = "name, display, roles, fhir_user, patient, disabled, totp IS NOT NULL, locked_until"


@dataclass(frozen=True, slots=True)
class User:
    """An account without its secrets.

    Attributes
    ----------
    name
        Sign-in name.
    display
        Printed name.
    roles
        Roles of the table.
    fhir_user
        Resource that stands for the person, e.g. ``"Practitioner/7"``; the ``fhirUser`` claim.
    patient
        Id of the Patient whose own account this is.
    disabled
        Whether it is closed for good.
    second_factor
        Whether sign-in asks for a one-time code.
    locked_until
        Seconds since 1970 until which sign-in is refused.
    """

    name: str
    display: str
    roles: tuple[str, ...]
    fhir_user: str | None
    patient: str | None
    disabled: bool
    second_factor: bool
    locked_until: int


def _user(row: tuple[Any, ...]) -> User:
    name, display, roles, fhir_user, patient, disabled, totp, locked = row
    return User(
        name, display, tuple(json.loads(roles)), fhir_user, patient, bool(disabled), bool(totp), locked
    )


def _wrong() -> NotSignedInError:
    return NotSignedInError(
        "The sign-in was refused.",
        "Name, password or one-time code is wrong, or the account is locked.",
        f"Try again; after {LOCK_AFTER} failures wait {LOCK_S // 60} minutes.",
    )


class Accounts:
    """The accounts of a node; every change writes one audit event.

    Parameters
    ----------
    records
        Database, clock and trail.
    sealed
        Keeps the secrets of one-time codes; those that stand there in the clear are sealed now.
    """

    def __init__(self, records: Records, sealed: SealedSecrets) -> None:
        self._records = records
        self._sealed = sealed
        self._seal_old()

    def _seal_old(self) -> None:
        """Seal what an older version stored in the clear."""
        with self._records.database.read() as connection:
            rows = connection.execute("SELECT name, totp FROM auth_user WHERE totp IS NOT NULL").fetchall()
        clear = [(str(name), str(totp)) for name, totp in rows if not self._sealed.sealed(str(totp))]

        def work(cursor: apsw.Cursor) -> None:
            for name, totp in clear:
                row = (self._sealed.seal(name, totp), name, totp)
                cursor.execute("UPDATE auth_user SET totp=? WHERE name=? AND totp=?", row)

        if clear:
            self._records.database.write(work)

    def add(
        self,
        name: str,
        *,
        password: str,
        roles: Iterable[str],
        display: str = "",
        fhir_user: str | None = None,
        patient: str | None = None,
        second_factor: bool = True,
    ) -> str | None:
        """Make an account and return the secret of its one-time codes, shown only now (None without).

        Raises
        ------
        InputError
            The name, password or a role cannot be used.
        ConflictError
            The name is or was in use.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                "The account was not made.",
                "Its name must be 2 to 64 of a-z, 0-9, '.', '_', '@' and '-'.",
                "Choose another name.",
            )
        known = check_roles(roles)
        if "patient" in known and not patient:
            raise InputError(
                "The account was not made.",
                "The role patient needs the patient whom it belongs to.",
                "Name the Patient's id.",
            )
        totp = new_totp_secret() if second_factor else None
        sealed = self._sealed.seal(name, totp) if totp else None
        row = (name, display or name, json.dumps(known), hash_password(password), sealed, fhir_user, patient)

        def work(cursor: apsw.Cursor) -> None:
            if cursor.execute("SELECT 1 FROM auth_user WHERE name=?", (name,)).fetchone():
                raise ConflictError(
                    "The account was not made.",
                    "The name is or was in use, and names are never used again.",
                    "Choose another name.",
                )
            cursor.execute(
                "INSERT INTO auth_user(name, display, roles, password, totp, fhir_user, patient, created) "
                "VALUES(?,?,?,?,?,?,?,?)",
                (*row, int(self._records.now())),
            )
            self._records.event(
                cursor, "user.add", agent="operator", entity=f"user:{name}", detail={"roles": ",".join(known)}
            )

        self._records.database.write(work)
        return totp

    def disable(self, name: str) -> None:
        """Close an account for good: sessions and grants end with it. NotFoundError for an unknown name."""
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            self._change(cursor, "UPDATE auth_user SET disabled=1 WHERE name=? RETURNING name", (name,))
            cursor.execute("UPDATE auth_session SET ended=? WHERE username=? AND ended=0", (now, name))
            cursor.execute("UPDATE auth_grant SET revoked=? WHERE username=? AND revoked=0", (now, name))
            self._records.event(cursor, "user.disable", agent="operator", entity=f"user:{name}")

        self._records.database.write(work)

    def set_roles(self, name: str, roles: Iterable[str]) -> None:
        """Give an account other roles."""
        known = check_roles(roles)

        def work(cursor: apsw.Cursor) -> None:
            text = "UPDATE auth_user SET roles=? WHERE name=? RETURNING name"
            self._change(cursor, text, (json.dumps(known), name))
            detail: dict[str, str | int] = {"roles": ",".join(known)}
            self._records.event(cursor, "user.roles", agent="operator", entity=f"user:{name}", detail=detail)

        self._records.database.write(work)

    def set_password(self, name: str, password: str) -> None:
        """Give an account another password; sessions and what apps were given end, and a lock is lifted."""
        hashed, now = hash_password(password), int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            text = "UPDATE auth_user SET password=?, failures=0, locked_until=0 WHERE name=? RETURNING name"
            self._change(cursor, text, (hashed, name))
            cursor.execute("UPDATE auth_session SET ended=? WHERE username=? AND ended=0", (now, name))
            cursor.execute("UPDATE auth_grant SET revoked=? WHERE username=? AND revoked=0", (now, name))
            self._records.event(cursor, "user.password", agent="operator", entity=f"user:{name}")

        self._records.database.write(work)

    def _change(self, cursor: apsw.Cursor, text: str, arguments: tuple[Any, ...]) -> None:
        if cursor.execute(text, arguments).fetchone() is None:
            raise NotFoundError(
                "The account was not changed.", "There is none of this name.", "Run: twin auth user list"
            )

    def get(self, name: str) -> User | None:
        """Return an account, None when there is none."""
        with self._records.database.read() as connection:
            text = f"SELECT {_COLUMNS} FROM auth_user WHERE name=?"  # noqa: S608  (columns of ours)  # nosec B608
            row = connection.execute(text, (name,)).fetchone()
        return None if row is None else _user(row)

    def all(self) -> list[User]:
        """Return all accounts by name."""
        with self._records.database.read() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM auth_user ORDER BY name").fetchall()  # noqa: S608  (as above)  # nosec B608
        return [_user(row) for row in rows]

    def sign_in(self, name: str, password: str, code: str = "") -> User:
        """Check a password and, where the account has one, the one-time code; takes some 0.1 s.

        Raises
        ------
        NotSignedInError
            Always with the same words, whether the name, the password, the code or a lock is the reason.
        """
        text = "SELECT password, totp, totp_last, disabled, locked_until FROM auth_user WHERE name=?"
        with self._records.database.read() as connection:
            row = connection.execute(text, (name,)).fetchone()
        password_hash, totp, last, disabled, locked = row or (None, None, 0, 0, 0)
        now = self._records.now()
        right = check_password(password_hash, password)
        secret = self._sealed.reveal(name, totp) if totp else None
        step = totp_step(secret, code, now=now, last=last) if secret else last
        if right and step is not None and not disabled and now >= locked:
            return self._admit(name, step, spent=totp is not None)
        why = "locked" if now < locked else "disabled" if disabled else "credentials"
        self._refuse(name if row else "", why)
        raise _wrong()

    def confirm(
        self,
        name: str,
        *,
        password: str | None = None,
        code: str | None = None,
        authenticator: bool = False,
    ) -> User:
        """Check the components of an electronic signature again; a code is good once, failures lock.

        Parameters
        ----------
        name
            Account of the session in which the signature is given.
        password, code
            What was shown; at least one, and every one that was shown must be right.
        authenticator
            An authenticator is asked too, in place of a code: see `Authenticators`.

        Raises
        ------
        NotSignedInError
            One is wrong, none was shown, or the account is locked, closed or has no one-time codes.
        """
        text = "SELECT password, totp, totp_last, disabled, locked_until FROM auth_user WHERE name=?"
        with self._records.database.read() as connection:
            row = connection.execute(text, (name,)).fetchone()
        password_hash, totp, last, disabled, locked = row or (None, None, 0, 1, 0)
        now = self._records.now()
        right = password is None or check_password(password_hash, password)
        secret = self._sealed.reveal(name, totp) if totp and code is not None else None
        step = totp_step(secret, code or "", now=now, last=last) if secret else last
        right = right and step is not None and (password is not None or code is not None or authenticator)
        if right and totp and step is not None and not disabled and now >= locked:
            return self._admit(name, step, spent=code is not None, kind="")
        why = "locked" if now < locked else "disabled" if disabled or not totp else "credentials"
        self._refuse(name if row else "", why, kind="signature")
        raise _wrong()

    def count_failure(self, name: str) -> None:
        """Count a wrong answer of an authenticator towards the lock of the account."""
        self._refuse(name, "credentials", kind="signature")

    def _admit(self, name: str, step: int, *, spent: bool, kind: str = "sign-in") -> User:
        def work(cursor: apsw.Cursor) -> User:
            text = (
                "UPDATE auth_user SET failures=0, locked_until=0, totp_last=? "  # noqa: S608  (columns of ours)  # nosec B608
                f"WHERE name=? AND totp_last{'<' if spent else '<='}? RETURNING {_COLUMNS}"
            )
            row = cursor.execute(text, (step, name, step)).fetchone()
            if row is None:  # the code was used by another request meanwhile
                raise _wrong()
            if kind:
                self._records.event(cursor, kind, agent=f"user:{name}")
            return _user(row)

        return self._records.database.write(work)

    def admit_of_provider(self, name: str) -> User:
        """Return the account of somebody whom the OpenID provider has confirmed; one event either way.

        Raises
        ------
        NotSignedInError
            There is no such account, or it is closed.
        """
        user = self.get(name)
        if user is None or user.disabled:
            self._refuse(name if user else "", "provider-account" if user is None else "disabled")
            raise NotSignedInError(
                "The sign-in was refused.",
                "This person has no account here.",
                "Ask the operator to make one of the same name.",
            )

        def work(cursor: apsw.Cursor) -> None:
            self._records.event(cursor, "sign-in", agent=f"user:{name}", detail={"by": "provider"})

        self._records.database.write(work)
        return user

    def _refuse(self, name: str, why: str, *, kind: str = "sign-in") -> None:
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            # A name that nobody has may be a password typed into the wrong field: it is not recorded.
            agent = f"user:{name}" if name else "anonymous"
            self._records.event(cursor, kind, agent=agent, outcome="refused", detail={"why": why})
            if why != "credentials" or not name:
                return
            text = "UPDATE auth_user SET failures=failures+1 WHERE name=? RETURNING failures"
            row = cursor.execute(text, (name,)).fetchone()
            if row is not None and row[0] >= LOCK_AFTER:
                text = "UPDATE auth_user SET failures=0, locked_until=? WHERE name=?"
                cursor.execute(text, (now + LOCK_S, name))
                self._records.event(cursor, "user.locked", agent="node", entity=f"user:{name}")

        self._records.database.write(work)
