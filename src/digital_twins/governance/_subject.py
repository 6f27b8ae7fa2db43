"""What the calls of this room take: a twin, or whatever carries one."""

from __future__ import annotations

from typing import Protocol

from digital_twins.patient_modeling import PatientTwin


class CarriesTwin(Protocol):
    """Something with a twin, e.g. the connector's ``ClinicalTwin``."""

    @property
    def twin(self) -> PatientTwin:
        """The twin."""


def twin_of(subject: PatientTwin | CarriesTwin) -> PatientTwin:
    """Return the twin itself."""
    return subject if isinstance(subject, PatientTwin) else subject.twin
