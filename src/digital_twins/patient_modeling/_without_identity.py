"""A twin that says nothing of who it is of: the same model, state and versions under other names and days."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from digital_twins.patient_modeling._twin import PatientTwin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from digital_twins.imaging import Mask
    from digital_twins.patient_modeling._snapshot import Snapshot
    from digital_twins.records import Treatment


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """What stands in the place of what names a patient.

    Attributes
    ----------
    patient_id, twin_id
        New identifiers.
    uid
        Gives the new DICOM UID of an old one.
    moment
        Gives the new wall-clock time of an old one.
    clinical_data
        Gives what may stay of the clinical facts.
    note
        How it was done, in words; the one note of provenance that the new twin has.
    """

    patient_id: str
    twin_id: str
    uid: Callable[[str], str]
    moment: Callable[[datetime], datetime]
    clinical_data: Callable[[Mapping[str, Any]], dict[str, Any]]
    note: str


def twin_without_identity(twin: PatientTwin, identity: NewIdentity) -> PatientTwin:
    """Return a twin that predicts the same and names nobody.

    The image goes (a face can be rendered from a head), and so do the callers' own dictionaries of
    treatments, sources in the record, hashes of the inputs and notes; masks, days and parameters stay.

    Parameters
    ----------
    twin
        Stays as it is.
    identity
        New names and times.
    """
    simulator = replace(twin._simulator, domain=_mask(twin._simulator.domain, identity))
    return PatientTwin(
        identity.twin_id,
        identity.patient_id,
        baseline=None if twin.baseline is None else identity.moment(twin.baseline),
        image=None,
        simulator=simulator,
        clinical_data=identity.clinical_data(twin.clinical_data),
        history=[_snapshot(snapshot, identity) for snapshot in twin.history],
    )


def _snapshot(snapshot: Snapshot, identity: NewIdentity) -> Snapshot:
    return replace(
        snapshot,
        created_utc=identity.moment(snapshot.created_utc),
        treatment_history=tuple(_treatment(each, identity) for each in snapshot.treatment_history),
        provenance=replace(snapshot.provenance, inputs={}, notes=(identity.note,)),
    )


def _treatment(treatment: Treatment, identity: NewIdentity) -> Treatment:
    return replace(
        treatment,
        label=_label(treatment),
        technique=None,
        start=None if treatment.start is None else identity.moment(treatment.start),
        source=None,
        as_given={},
    )


def _label(treatment: Treatment) -> str:
    """Say what a treatment was by its numbers alone: labels and techniques are anybody's words."""
    parts: list[str] = [treatment.kind]
    if treatment.drug:
        parts.append(treatment.drug)
    if treatment.doses:
        parts.append(f"{treatment.total_dose_mg:g} mg in {len(treatment.doses)} doses")
    if treatment.fractions:
        parts.append(f"{treatment.total_dose_gy:g} Gy in {len(treatment.fractions)} fractions")
    return " ".join(parts)


def _mask(mask: Mask, identity: NewIdentity) -> Mask:
    frame = mask.frame_of_reference_uid
    return replace(
        mask,
        frame_of_reference_uid=None if frame is None else identity.uid(frame),
        acquired=None if mask.acquired is None else identity.moment(mask.acquired),
        source_uids=tuple(identity.uid(each) for each in mask.source_uids),
        patient_id=identity.patient_id if mask.patient_id else mask.patient_id,
    )
