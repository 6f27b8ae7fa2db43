"""Authenticators of accounts (W3C Web Authentication Level 2): registered, asked, counted, revoked.

Only for electronic signatures: nobody signs in with one. An authenticator must verify its user (PIN or
biometrics), answers for one web origin, and is asked for an answer to a challenge that we choose.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digital_twins._errors import InputError, MissingExtraError, NotFoundError
from digital_twins.auth._refusals import NotSignedInError

if TYPE_CHECKING:
    from types import ModuleType

    import apsw

    from digital_twins.auth._accounts import Accounts, User
    from digital_twins.auth._records import Records

CHALLENGE_S = 300
"""Seconds for which a challenge may be answered."""

_TIMEOUT_MS = CHALLENGE_S * 1000
_MOST = 10
_LABEL_CHARACTERS = 60
_NAME = "Digital Twins"


@dataclass(frozen=True, slots=True)
class Authenticator:
    """A registered authenticator.

    Attributes
    ----------
    credential
        Its credential id, base64url.
    label
        What its owner calls it.
    created
        Seconds since 1970.
    sign_count
        Its counter at the last answer; 0 always: it has none.
    """

    credential: str
    label: str
    created: int
    sign_count: int


@dataclass(frozen=True, slots=True)
class Assertion:
    """An answer that was checked; `Authenticators.spend_in` makes it count.

    Attributes
    ----------
    credential
        Of the authenticator.
    before, after
        Its counter before and with this answer.
    evidence
        Canonical JSON with credential, public key (COSE), client data, authenticator data and signature,
        base64url each, and the origin: with it anybody can check the answer again (`evidence_holds`).
    """

    credential: str
    before: int
    after: int
    evidence: str


class Authenticators:
    """The authenticators of a node's accounts; every change writes one audit event.

    Parameters
    ----------
    records
        Database, clock and trail.
    accounts
        Check password and one-time code of whoever registers one.
    base_url
        Address at which people reach the node: its origin is the only one whose answers count, its host is
        the relying party.
    """

    def __init__(self, records: Records, accounts: Accounts, base_url: str) -> None:
        self._records = records
        self._accounts = accounts
        parts = urlsplit(base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.hostname or ""

    def registration(self, user: User, session: str, *, password: str, code: str) -> dict[str, Any]:
        """Return the options with which a browser makes a credential (``navigator.credentials.create``).

        Parameters
        ----------
        user, session
            Whose session it is, and its digest.
        password, code
            Shown again: a session alone registers nothing, and an account without one-time codes neither, as
            a password alone would then be enough to sign for its owner.

        Raises
        ------
        NotSignedInError
            One is wrong, or the account is locked or has no one-time codes.
        InputError
            The node is reached by http or by a number, or the account has ten.
        MissingExtraError
            The extra ``webauthn`` is not installed.
        """
        library = self._library()
        self._accounts.confirm(user.name, password=password, code=code)
        known = self.of(user.name)
        if len(known) >= _MOST:
            raise _refused("The account has ten.", "Revoke one that is not used any more.")
        structs = library.helpers.structs
        challenge = secrets.token_bytes(32)
        options = library.generate_registration_options(
            rp_id=self._host,
            rp_name=_NAME,
            user_name=user.name,
            user_display_name=user.display,
            user_id=secrets.token_bytes(32),  # tells nothing of the account
            challenge=challenge,
            timeout=_TIMEOUT_MS,
            attestation=structs.AttestationConveyancePreference.NONE,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                user_verification=structs.UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[_descriptor(library, each.credential) for each in known],
        )
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute("DELETE FROM auth_registration WHERE session=? OR expires<=?", (session, now))
            cursor.execute(
                "INSERT INTO auth_registration(session, username, challenge, expires) VALUES(?,?,?,?)",
                (session, user.name, _coded(challenge), now + CHALLENGE_S),
            )

        self._records.database.write(work)
        return _as_dict(library, options)

    def register(self, user: User, session: str, credential: dict[str, Any], *, label: str) -> Authenticator:
        """Keep the credential that a browser made for `registration`; each challenge serves once.

        Raises
        ------
        NotSignedInError
            The answer is not one to the challenge of this session, of this origin, or its user was not
            verified.
        InputError
            The label is empty, long or not printable, or the credential is registered already.
        """
        library, now = self._library(), int(self._records.now())
        text = label.strip()
        if not text or len(text) > _LABEL_CHARACTERS or not text.isprintable():
            raise _refused("Its label is empty, too long or not printable.", "Call it e.g. 'blue key'.")
        challenge = self._records.database.write(lambda cursor: _taken(cursor, user.name, session, now))
        if challenge is None:
            raise self._wrong(user.name, "challenge", kind="authenticator.add")
        try:
            made = library.verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                require_user_verification=True,
            )
        except _library_errors(library) as error:
            raise self._wrong(user.name, type(error).__name__, kind="authenticator.add") from None
        found = Authenticator(_coded(made.credential_id), text, now, int(made.sign_count))
        row = (found.credential, user.name, made.credential_public_key, found.sign_count, text, now)

        def work(cursor: apsw.Cursor) -> None:
            held = "SELECT 1 FROM auth_authenticator WHERE credential=?"
            if cursor.execute(held, (found.credential,)).fetchone() is not None:
                raise _refused("It is registered already.", "Use another authenticator.")
            cursor.execute(
                "INSERT INTO auth_authenticator(credential, username, public_key, sign_count, label, created)"
                " VALUES(?,?,?,?,?,?)",
                row,
            )
            self._event(cursor, "authenticator.add", user.name, found.credential)

        self._records.database.write(work)
        return found

    def of(self, name: str) -> list[Authenticator]:
        """Return the authenticators of an account that are not revoked, oldest first."""
        with self._records.database.read() as connection:
            rows = connection.execute(
                "SELECT credential, label, created, sign_count FROM auth_authenticator"
                " WHERE username=? AND revoked=0 ORDER BY created, credential",
                (name,),
            ).fetchall()
        return [Authenticator(str(row[0]), str(row[1]), int(str(row[2])), int(str(row[3]))) for row in rows]

    def revoke(self, name: str, credential: str, *, agent: str) -> None:
        """Never take an answer of an authenticator again, e.g. of a lost one.

        Raises
        ------
        NotFoundError
            The account has no such authenticator.
        """
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> None:
            text = (
                "UPDATE auth_authenticator SET revoked=? WHERE username=? AND credential=? AND revoked=0"
                " RETURNING label"
            )
            if cursor.execute(text, (now, name, credential)).fetchone() is None:
                raise NotFoundError(
                    "The authenticator was not revoked.",
                    "The account has none of this id.",
                    "List them: GET /api/authenticators",
                )
            self._event(cursor, "authenticator.revoke", name, credential, agent=agent)

        self._records.database.write(work)

    def revoke_all(self, name: str, *, agent: str) -> int:
        """Revoke every authenticator of an account, by one event, and return how many there were.

        Raises
        ------
        NotFoundError
            There is no such account.
        """
        now = int(self._records.now())

        def work(cursor: apsw.Cursor) -> int:
            if cursor.execute("SELECT 1 FROM auth_user WHERE name=?", (name,)).fetchone() is None:
                raise NotFoundError(
                    "Nothing was revoked.", "There is no account of this name.", "Run: twin auth user list"
                )
            text = (
                "UPDATE auth_authenticator SET revoked=? WHERE username=? AND revoked=0 RETURNING credential"
            )
            count = len(cursor.execute(text, (now, name)).fetchall())
            self._records.event(
                cursor, "authenticator.revoke", agent=agent, entity=f"user:{name}", detail={"count": count}
            )
            return count

        return self._records.database.write(work)

    def request(self, name: str, challenge: bytes) -> dict[str, Any]:
        """Return the options with which a browser asks an authenticator (``navigator.credentials.get``).

        Raises
        ------
        InputError
            The account has no authenticator.
        """
        library, known = self._library(), self.of(name)
        if not known:
            raise InputError(
                "No authenticator can be asked.",
                "The account has none.",
                "Register one, or sign with a one-time code.",
            )
        options = library.generate_authentication_options(
            rp_id=self._host,
            challenge=challenge,
            timeout=_TIMEOUT_MS,
            allow_credentials=[_descriptor(library, each.credential) for each in known],
            user_verification=library.helpers.structs.UserVerificationRequirement.REQUIRED,
        )
        return _as_dict(library, options)

    def check(self, name: str, credential: dict[str, Any], challenge: bytes) -> Assertion:
        """Check an answer to a challenge; a wrong one counts towards the lock of the account.

        Raises
        ------
        NotSignedInError
            It is of another account, another challenge or origin, was changed, its user was not verified, its
            counter went back (a cloned authenticator), or the authenticator is revoked.
        """
        library = self._library()
        shown = credential.get("id") if isinstance(credential, dict) else None
        with self._records.database.read() as connection:
            row: Any = connection.execute(
                "SELECT public_key, sign_count FROM auth_authenticator"
                " WHERE username=? AND credential=? AND revoked=0",
                (name, shown if isinstance(shown, str) else ""),
            ).fetchone()
        if row is None:
            raise self._wrong(name, "authenticator", counted=True)
        public_key, before = bytes(row[0]), int(row[1])
        try:
            done = library.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=public_key,
                credential_current_sign_count=before,
                require_user_verification=True,
            )
        except _library_errors(library):
            raise self._wrong(name, "answer", counted=True) from None
        response = credential["response"]
        parts = {part: response[part] for part in ("authenticatorData", "clientDataJSON", "signature")}
        parts |= {"publicKey": _coded(public_key), "credential": str(shown), "origin": self._origin}
        evidence = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return Assertion(str(shown), before, int(done.new_sign_count), evidence)

    def spend_in(self, cursor: apsw.Cursor, assertion: Assertion) -> None:
        """Keep the counter of an answer, inside the transaction of what it allows.

        Raises
        ------
        NotSignedInError
            Another answer was taken meanwhile, or the authenticator was revoked.
        """
        text = (
            "UPDATE auth_authenticator SET sign_count=?"
            " WHERE credential=? AND sign_count=? AND revoked=0 RETURNING credential"
        )
        row = (assertion.after, assertion.credential, assertion.before)
        if cursor.execute(text, row).fetchone() is None:
            raise _not_confirmed()

    def _wrong(
        self, name: str, why: str, *, kind: str = "signature", counted: bool = False
    ) -> NotSignedInError:
        if counted:  # with its own event
            self._accounts.count_failure(name)
        else:
            self._records.refused(kind, agent=f"user:{name}", why=why)
        return _not_confirmed()

    def _event(self, cursor: apsw.Cursor, kind: str, name: str, credential: str, *, agent: str = "") -> None:
        detail: dict[str, str | int] = {"authenticator": credential[:16]}
        self._records.event(cursor, kind, agent=agent or f"user:{name}", entity=f"user:{name}", detail=detail)

    def _library(self) -> ModuleType:
        try:
            import webauthn
        except ImportError as error:
            raise MissingExtraError("webauthn", "webauthn") from error
        local = self._host == "localhost"
        if _is_number(self._host) or not (local or self._origin.startswith("https://")):
            raise InputError(
                "Authenticators cannot be used here.",
                "Browsers allow them at https://NAME only, or at http://localhost.",
                "Set public_url to the https address by which people reach the node.",
            )
        return webauthn


def evidence_holds(evidence: str, challenge: bytes) -> bool:
    """Whether an `Assertion`'s evidence is a right answer to a challenge; needs no node and no account.

    Whose public key it is, the evidence cannot tell: compare it with the key that was registered.

    Raises
    ------
    MissingExtraError
        The extra ``webauthn`` is not installed.
    """
    try:
        import webauthn
    except ImportError as error:
        raise MissingExtraError("webauthn", "webauthn") from error
    try:
        parts = json.loads(evidence)
        webauthn.verify_authentication_response(
            credential={
                "id": parts["credential"],
                "rawId": parts["credential"],
                "type": "public-key",
                "response": {n: parts[n] for n in ("authenticatorData", "clientDataJSON", "signature")},
            },
            expected_challenge=challenge,
            expected_rp_id=urlsplit(parts["origin"]).hostname or "",
            expected_origin=parts["origin"],
            credential_public_key=base64.urlsafe_b64decode(parts["publicKey"] + "=="),
            credential_current_sign_count=0,
            require_user_verification=True,
        )
    except _library_errors(webauthn):
        return False
    return True


def _library_errors(library: ModuleType) -> tuple[type[Exception], ...]:
    """What a hostile answer may raise: the library's own errors, and Python's where it looks into it."""
    return (library.helpers.exceptions.WebAuthnException, ValueError, TypeError, KeyError, AttributeError)


def _taken(cursor: apsw.Cursor, name: str, session: str, now: int) -> bytes | None:
    text = "DELETE FROM auth_registration WHERE session=? AND username=? AND expires>? RETURNING challenge"
    row = cursor.execute(text, (session, name, now)).fetchone()
    return None if row is None else base64.urlsafe_b64decode(f"{row[0]}==")


def _descriptor(library: ModuleType, credential: str) -> Any:
    identity = base64.urlsafe_b64decode(credential + "==")
    return library.helpers.structs.PublicKeyCredentialDescriptor(id=identity)


def _as_dict(library: ModuleType, options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(library.options_to_json(options))
    return found


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _refused(why: str, fix: str) -> InputError:
    return InputError("The authenticator was not registered.", why, fix)


def _not_confirmed() -> NotSignedInError:
    return NotSignedInError(
        "The authenticator's answer was refused.",
        "It does not belong to this account, this request and this address, or it was given before.",
        "Begin again; after five failures wait 15 minutes.",
    )
