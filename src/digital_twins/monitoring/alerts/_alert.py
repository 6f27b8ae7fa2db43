"""One alert, and one step of its life."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from digital_twins.monitoring.alerts._thresholds import Priority


@dataclass(slots=True)
class Alert:
    """One alert of one patient.

    Attributes
    ----------
    id
        Unique and rising.
    patient, bed
        Whose, and where.
    key
        Id of the rule, ``event:NAME`` or ``technical:CODE``.
    priority, text
        For people.
    kind
        ``clinical``, ``event`` (never suppressed) or ``technical``.
    raised_s
        Seconds since 1970 UTC.
    value
        What broke the limit; None for events.
    active
        Whether the cause still holds.
    acknowledged_s, acknowledged_by
        None and empty before.
    level
        Steps of the escalation that were taken.
    repeats
        How often the cause came back and was the same alert.
    closed_s
        None while it is open.
    told_from_s
        From when its escalation counts.
    ended_s
        When the cause ended; None while it holds.
    """

    id: int
    patient: str
    bed: str
    key: str
    priority: Priority
    text: str
    kind: str
    raised_s: float
    value: float | None = None
    active: bool = True
    acknowledged_s: float | None = None
    acknowledged_by: str = ""
    level: int = 0
    repeats: int = 0
    closed_s: float | None = None
    told_from_s: float = 0.0
    ended_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with colour and asterisks of the priority."""
        return {
            **asdict(self),
            "priority": self.priority.name.lower(),
            "colour": self.priority.colour,
            "marks": self.priority.marks,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Alert:
        """Return the alert of `to_dict`."""
        values = {name: data[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "priority": Priority[data["priority"].upper()]})


@dataclass(frozen=True, slots=True)
class AlertStep:
    """One step of an alert's life, for the trail.

    Attributes
    ----------
    alert_id
        Of the alert; 0 for a shelf without an open alert.
    patient, key
        Whose, and of what.
    step
        raised, told, escalated, told-again, undelivered, repeated, ended, acknowledged, shelved or closed.
    at_s
        Seconds since 1970 UTC.
    by
        Person, or ``monitor``.
    detail
        Further words without patient data.
    """

    alert_id: int
    patient: str
    key: str
    step: str
    at_s: float
    by: str = "monitor"
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What somebody is told: the alert as it is now, and the role to which it goes."""

    alert: dict[str, Any]
    to: str
    at_s: float
