"""What the rooms of `auth` share: the database, the clock, the audit trail, and secrets as digests."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from digital_twins.audit import Auditor
    from digital_twins.storage import Database


def new_secret() -> str:
    """Return 256 random bits for a URL or a cookie."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is stored of a random secret: its SHA-256, of no use to a thief of the table."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Records:
    """The database with `MIGRATIONS` and the audit outbox.

    Attributes
    ----------
    database
        Where the tables are.
    auditor
        Writes an event into the transaction that it speaks of.
    now
        Seconds since 1970; tests hand in a clock of their own.
    """

    database: Database
    auditor: Auditor
    now: Callable[[], float] = field(default=time.time)

    def event(
        self,
        cursor: apsw.Cursor,
        kind: str,
        *,
        agent: str,
        outcome: Literal["success", "refused", "failure"] = "success",
        entity: str | None = None,
        patient: str | None = None,
        detail: dict[str, str | int] | None = None,
    ) -> None:
        """Stage one event ``auth.<kind>`` of an agent."""
        event = self.auditor.acting(agent).event(
            "E", f"auth.{kind}", outcome=outcome, entity=entity, patient_id=patient, detail=detail
        )
        self.auditor.stage(cursor, event)

    def refused(self, kind: str, *, agent: str, why: str, entity: str | None = None) -> None:
        """Write the event of a refusal; ``why`` is a word of ours, never a text of the caller."""
        self.database.write(
            lambda cursor: self.event(
                cursor, kind, agent=agent, outcome="refused", entity=entity, detail={"why": why}
            )
        )
