"""One audit event for each interaction, in the same transaction as the write that it speaks of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from digital_twins.audit import AuditEvent, stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import apsw

_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9.\-]{1,64})(?:$|/_history/)")
_HOLDERS = ("subject", "patient", "beneficiary", "individual", "for")


def patient_of(resource: Mapping[str, Any]) -> str | None:
    """Return the id of the Patient that a resource speaks of, or None."""
    if resource.get("resourceType") == "Patient":
        name = resource.get("id")
        return name if isinstance(name, str) else None
    for holder in _HOLDERS:
        reference = resource.get(holder)
        if isinstance(reference, dict):
            match = _PATIENT.search(str(reference.get("reference", "")))
            if match:
                return match[1]
    return None


@dataclass(frozen=True, slots=True)
class Auditor:
    """Writes audit events; ``pseudonym`` turns a Patient id into what the trail may hold."""

    pseudonym: Callable[[str], str] | None = None

    def record(
        self,
        cursor: apsw.Cursor,
        action: Literal["C", "R", "U", "D", "E"],
        kind: str,
        *,
        agent: str,
        entity: str | None = None,
        patient: str | None = None,
        outcome: Literal["success", "refused", "failure"] = "success",
        detail: Mapping[str, str | int] | None = None,
    ) -> None:
        """Stage one event, e.g. ``record(cursor, "C", "fhir.create", agent="dr.x", entity="Patient/1")``."""
        shown = self.pseudonym(patient) if self.pseudonym and patient else None
        event = AuditEvent(
            action=action,
            kind=kind,
            outcome=outcome,
            agent=agent,
            entity=entity,
            patient=shown,
            detail=dict(detail or {}),
        )
        stage(cursor, event)
