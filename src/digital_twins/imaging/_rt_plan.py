"""RT Plan (PS3.3 section A.20): fraction groups, prescriptions and beams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign
from digital_twins.imaging._rt_files import single

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MOST_FRACTIONS = 200


@dataclass(frozen=True, slots=True)
class Beam:
    """A beam of a fraction group.

    ``dose_gy`` is the dose of one fraction at the beam's dose point, ``meterset`` the monitor units.
    """

    number: int
    name: str | None = None
    radiation_type: str | None = None
    dose_gy: float | None = None
    meterset: float | None = None


@dataclass(frozen=True, slots=True)
class FractionGroup:
    """Fractions that are alike: ``fractions_planned`` times the same beams."""

    number: int
    fractions_planned: int
    beams: tuple[Beam, ...] = ()

    @property
    def beam_dose_gy(self) -> float | None:
        """Summed dose of the beams in one fraction at their dose points; None where one is not stated."""
        doses = [beam.dose_gy for beam in self.beams]
        known = [dose for dose in doses if dose is not None]
        return sum(known) if known and len(known) == len(doses) else None


@dataclass(frozen=True, slots=True)
class Prescription:
    """A dose reference: ``dose_gy`` in all fractions to a ``target`` (or what it describes)."""

    number: int
    kind: str
    description: str | None
    dose_gy: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A treatment plan.

    Attributes
    ----------
    uid
        SOP Instance UID: an RTDOSE names it in ``plan_uids``.
    label
        RTPlanLabel.
    fraction_groups
        At least one, in the order of the object.
    prescriptions
        Dose references with a target prescription or constraint.
    structure_set_uid, frame_of_reference_uid, patient_id, approval
        Links and ApprovalStatus, where stated; the patient is never logged.
    """

    uid: str
    label: str
    fraction_groups: tuple[FractionGroup, ...]
    prescriptions: tuple[Prescription, ...] = ()
    structure_set_uid: str | None = None
    frame_of_reference_uid: str | None = None
    patient_id: str | None = None
    approval: str | None = None

    @property
    def fractions_planned(self) -> int:
        """Fractions of all groups."""
        return sum(group.fractions_planned for group in self.fraction_groups)

    @property
    def prescribed_gy(self) -> float | None:
        """Prescribed dose of the target in all fractions: of volume or site references if any, else points.

        None where none is stated, or where the references disagree.
        """
        doses = [p for p in self.prescriptions if p.kind.startswith("TARGET") and p.dose_gy]
        wide = [p for p in doses if "POINT" not in p.kind]
        stated = {p.dose_gy for p in wide or doses}
        return stated.pop() if len(stated) == 1 else None


def load_plan(source: Any) -> Plan:
    """Return the plan in an RTPLAN object.

    Parameters
    ----------
    source
        Path of a file, or of a folder with one RTPLAN in it; bytes; or a pydicom data set.

    Raises
    ------
    InputError
        Not one RTPLAN, damaged, or without a fraction group and its number of fractions.
    NotFoundError
        The path does not exist.
    """
    dataset = single(source, "RTPLAN")
    with foreign("RT Plan"):
        return _plan(dataset)


def _plan(dataset: Dataset) -> Plan:
    groups = tuple(_group(item, dataset) for item in dataset.get("FractionGroupSequence") or [])
    if not groups:
        raise InputError(
            what="The plan has no fraction group.",
            why="Without one its number of fractions is unknown.",
            fix="Export the plan again with its fraction scheme.",
        )
    structures = dataset.get("ReferencedStructureSetSequence") or []
    return Plan(
        uid=str(dataset.SOPInstanceUID),
        label=str(dataset.get("RTPlanLabel") or ""),
        fraction_groups=groups,
        prescriptions=tuple(_prescription(item) for item in dataset.get("DoseReferenceSequence") or []),
        structure_set_uid=str(structures[0].ReferencedSOPInstanceUID) if structures else None,
        frame_of_reference_uid=_text(dataset, "FrameOfReferenceUID"),
        patient_id=_text(dataset, "PatientID"),
        approval=_text(dataset, "ApprovalStatus"),
    )


def _group(item: Dataset, plan: Dataset) -> FractionGroup:
    planned = int(item.get("NumberOfFractionsPlanned") or 0)
    if not 1 <= planned <= _MOST_FRACTIONS:
        raise InputError(
            what=f"A fraction group plans {planned} fractions.",
            why=f"A course has between 1 and {_MOST_FRACTIONS}; the dose of a fraction follows from it.",
            fix="Export the plan again with NumberOfFractionsPlanned.",
        )
    about = {
        int(beam.BeamNumber): beam
        for sequence in ("BeamSequence", "IonBeamSequence")
        for beam in plan.get(sequence) or []
    }
    beams = []
    for referenced in item.get("ReferencedBeamSequence") or []:
        number = int(referenced.ReferencedBeamNumber)
        beam: Any = about.get(number, {})
        beams.append(
            Beam(
                number,
                _text(beam, "BeamName"),
                _text(beam, "RadiationType"),
                _number(referenced, "BeamDose"),
                _number(referenced, "BeamMeterset"),
            )
        )
    return FractionGroup(int(item.get("FractionGroupNumber") or 1), planned, tuple(beams))


def _prescription(item: Dataset) -> Prescription:
    kind = str(item.get("DoseReferenceType") or "")
    structure = str(item.get("DoseReferenceStructureType") or "")
    points = ("POINT", "COORDINATES")
    if kind == "TARGET":
        dose = _number(item, "TargetPrescriptionDose")
    else:
        dose = _number(item, "OrganAtRiskMaximumDose")
    return Prescription(
        number=int(item.get("DoseReferenceNumber") or 0),
        kind=f"{kind}_POINT" if structure in points else kind,
        description=_text(item, "DoseReferenceDescription"),
        dose_gy=dose,
    )


def _number(item: Dataset, keyword: str) -> float | None:
    value = item.get(keyword)
    return None if value in (None, "") else float(value)


def _text(item: Any, keyword: str) -> str | None:
    return str(item.get(keyword) or "") or None
