"""What the record says, fact by fact, each with its resource; and where it contradicts itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement of the record.

    Attributes
    ----------
    kind
        ``"diagnosis"``, ``"stage"``, ``"tnm"``, ``"biomarker"``, ``"variant"``, ``"tumour-size"``,
        ``"performance-status"``, ``"disease-status"``, ``"histology"``, ``"pathology"``, ``"lab"`` or
        ``"note"``.
    name
        What it is about, e.g. ``"cT"``, ``"EGFR"``, ``"Hemoglobin"``.
    value
        What it says, e.g. ``"cT2a"``, ``"positive"``, ``"13.2 g/dL"``; the text of a report or note.
    source
        ``Type/id`` of the resource.
    effective
        When it applies, if the resource says so.
    """

    kind: str
    name: str
    value: str
    source: str
    effective: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Facts of one kind and name that contradict each other and that no date puts in order.

    None of the values is used: the caller, or a person, has to decide.
    """

    kind: str
    name: str
    facts: tuple[Fact, ...]
