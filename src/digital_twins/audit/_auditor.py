"""A short way to write events: it knows the node, the key and the outbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from digital_twins.audit._event import AuditEvent
from digital_twins.audit._outbox import stage
from digital_twins.audit._pseudonym import pseudonym

if TYPE_CHECKING:
    import apsw


class Auditor:
    """Makes events of one node, and pseudonyms of its patients.

    Parameters
    ----------
    node
        Which node writes, e.g. its AE title.
    key
        As `load_pseudonym_key` returns it.
    agent
        Who acts unless a call says otherwise.
    """

    def __init__(self, node: str, key: bytes, *, agent: str = "node") -> None:
        self.node = node
        self.agent = agent
        self._key = key

    def acting(self, agent: str) -> Auditor:
        """Return an auditor of the same node for another agent, e.g. a calling AE title."""
        return Auditor(self.node, self._key, agent=agent)

    def patient(self, patient_id: str) -> str:
        """Return the pseudonym of a patient identifier."""
        return pseudonym(patient_id, self._key)

    def event(
        self,
        action: Literal["C", "R", "U", "D", "E"],
        kind: str,
        *,
        outcome: Literal["success", "refused", "failure"] = "success",
        entity: str | None = None,
        patient_id: str | None = None,
        detail: dict[str, str | int] | None = None,
    ) -> AuditEvent:
        """Return an event; `patient_id` is given in clear and leaves as a pseudonym.

        Raises
        ------
        InputError
            As for `AuditEvent`.
        """
        return AuditEvent(
            action=action,
            kind=kind,
            outcome=outcome,
            agent=self.agent,
            entity=entity,
            patient=None if patient_id is None else self.patient(patient_id),
            detail=detail or {},
            node=self.node,
        )

    def stage(self, cursor: apsw.Cursor, event: AuditEvent) -> None:
        """Put an event into the outbox, inside the transaction of the write that it speaks of."""
        stage(cursor, event)
