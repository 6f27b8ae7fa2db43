"""Who looked at which patient of a ward, as audit events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from digital_twins.audit import LateEvents

if TYPE_CHECKING:
    from digital_twins.audit import Auditor
    from digital_twins.storage import Database


class AccessTrail:
    """Writes one event of each access that has no write of its own; on a full disk it waits in memory.

    Parameters
    ----------
    database
        Of the ward, with the audit outbox.
    auditor
        Of the ward.
    """

    def __init__(self, database: Database, auditor: Auditor) -> None:
        self._late, self._auditor = LateEvents(database), auditor

    def record(
        self,
        kind: str,
        action: Literal["C", "R", "U", "D", "E"],
        *,
        by: str,
        status: int = 200,
        patient: str | None = None,
        detail: dict[str, str | int] | None = None,
    ) -> None:
        """Queue one event.

        Parameters
        ----------
        kind, action
            As for `digital_twins.audit.AuditEvent`.
        by
            Who: the name of a person, ``device:NAME``, or ``anonymous``.
        status
            HTTP status of the answer: from 400 on it was refused, from 500 on it failed.
        patient
            Identifier in clear; it leaves as a pseudonym.
        detail
            Further facts without patient data.

        Raises
        ------
        StorageError
            The database is closed.
        """
        outcome: Literal["success", "refused", "failure"] = "success"
        if status >= 400:
            outcome = "refused" if status < 500 else "failure"
        event = self._auditor.acting(by).event(
            action, kind, outcome=outcome, patient_id=patient, detail=detail
        )
        self._late.record(event)
