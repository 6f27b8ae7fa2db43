"""RT Dose (PS3.3 section A.18.3): dose grids in gray, and the planning system's own histograms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_not_finite, refuse_size
from digital_twins.imaging._dicom_files import required
from digital_twins.imaging._planes import Plane, planes_of, projections
from digital_twins.imaging._resample import refuse_other_frame, resample
from digital_twins.imaging._rt_files import objects_of
from digital_twins.imaging._series import acquired_utc, decode, regular_grid
from digital_twins.imaging._volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

WHOLE_COURSE = ("PLAN", "FRACTION", "BEAM", "BRACHY", "BRACHY_SETUP", "MULTI_PLAN")
"""Summation types over all fractions of what they name (PS3.3 section C.8.8.3.1)."""
ONE_SESSION = ("FRACTION_SESSION", "BEAM_SESSION")
"""Summation types of a single session."""
_ADDABLE = ("BEAM", "FRACTION", "BEAM_SESSION", "BRACHY_SETUP", "PLAN")


@dataclass(frozen=True, slots=True, eq=False)
class PlannedHistogram:
    """A cumulative dose-volume histogram that the planning system wrote into the RTDOSE.

    Computed from DVHData alone. DVHMinimumDose, DVHMaximumDose and DVHMeanDose are not used: systems write
    percent of the prescription there although DoseUnits says GY.

    Attributes
    ----------
    roi_numbers
        ROI Numbers of the structure set that it covers.
    dose_gy
        Lower edge of each bin, from 0 on.
    volume_cm3
        Volume that receives at least ``dose_gy``; its first entry is the volume of the structure.
    mean_gy, maximum_gy
        Area under the curve over the volume, and upper edge of the last bin with any volume.
    """

    roi_numbers: tuple[int, ...]
    dose_gy: NDArray[np.float64]
    volume_cm3: NDArray[np.float64]
    mean_gy: float
    maximum_gy: float


@dataclass(frozen=True, slots=True, eq=False)
class Dose:
    """A dose grid.

    Attributes
    ----------
    volume
        Absorbed dose in gray, float32, [slice, row, column].
    summation
        DoseSummationType: ``PLAN``, ``FRACTION`` (a whole fraction group), ``BEAM`` hold the dose of all
        fractions; ``FRACTION_SESSION`` and ``BEAM_SESSION`` that of one.
    dose_type
        ``PHYSICAL`` or ``EFFECTIVE``.
    plan_uids
        SOP Instance UIDs of the RTPLANs that it belongs to.
    histograms
        The planning system's own, where it wrote any.
    fraction_group
        Number of the plan's fraction group that it is the dose of, where it names one.
    """

    volume: Volume
    summation: str
    dose_type: str
    plan_uids: tuple[str, ...] = ()
    histograms: tuple[PlannedHistogram, ...] = ()
    fraction_group: int | None = None

    @property
    def is_one_session(self) -> bool:
        """Whether it is the dose of a single session, not of a whole course."""
        return self.summation in ONE_SESSION

    @property
    def maximum_gy(self) -> float:
        """Largest dose of the grid in gray."""
        return float(self.volume.array.max())


def load_dose(source: Any, *, even_out: bool = False) -> Dose:
    """Return the dose grid of an RTDOSE, or the sum of several (one a beam or fraction group).

    Parameters
    ----------
    source
        Path of a file or folder, bytes, pydicom data set, or a sequence of them. Several doses are added:
        all of one summation type, dose type, patient and frame of reference; on differing grids they are
        interpolated to the first one's. The sum of beams or fraction groups is called ``PLAN``, that of
        beams of one session ``FRACTION_SESSION``, that of plans ``MULTI_PLAN``.
    even_out
        Interpolate unevenly spaced planes linearly onto their median spacing instead of refusing them.

    Raises
    ------
    InputError
        DoseUnits RELATIVE (percent of an unknown dose), an ERROR dose, a dose given twice, doses that do not
        add up, unevenly spaced planes without ``even_out``, damaged or negative values.
    NotFoundError
        The path does not exist.
    """
    datasets = objects_of(source, "RTDOSE")
    with foreign("RT Dose"):
        doses = [_dose(dataset, even_out) for dataset in datasets]
        return doses[0] if len(doses) == 1 else _sum(doses)


def _dose(dataset: Dataset, even_out: bool) -> Dose:
    units = str(dataset.get("DoseUnits") or "")
    if units != "GY":
        raise InputError(
            what=f"The dose is in '{units or 'no'}' units, not in gray.",
            why="DoseUnits RELATIVE is a percentage of a dose that the object does not state.",
            fix="Export the dose from the planning system with DoseUnits GY.",
        )
    kind = str(dataset.get("DoseType") or "PHYSICAL")
    if kind not in ("PHYSICAL", "EFFECTIVE"):
        raise InputError(
            what=f"The dose is of type '{kind}'.",
            why="Only physical and effective doses act on tissue; ERROR is a difference of doses.",
            fix="Pass the dose itself.",
        )
    summation = str(required(dataset, "DoseSummationType"))
    if summation not in WHOLE_COURSE + ONE_SESSION:
        raise InputError(
            what=f"The DoseSummationType '{summation}' cannot be used.",
            why=f"Known are {', '.join(WHOLE_COURSE + ONE_SESSION)}; the dose of control points, of what was "
            "recorded, or of an overview is not that of a course.",
            fix="Export the plan's dose.",
        )
    plans = tuple(str(p.ReferencedSOPInstanceUID) for p in dataset.get("ReferencedRTPlanSequence") or [])
    volume = _volume(dataset, even_out)
    return Dose(volume, summation, kind, plans, _histograms(dataset), _fraction_group(dataset))


def _fraction_group(dataset: Dataset) -> int | None:
    numbers = {
        int(group.ReferencedFractionGroupNumber)
        for plan in dataset.get("ReferencedRTPlanSequence") or []
        for group in plan.get("ReferencedFractionGroupSequence") or []
    }
    return numbers.pop() if len(numbers) == 1 else None


def _volume(dataset: Dataset, even_out: bool) -> Volume:
    frames = int(dataset.get("NumberOfFrames") or 1)
    refuse_size((frames, int(required(dataset, "Rows")), int(required(dataset, "Columns"))))
    scaling = float(required(dataset, "DoseGridScaling"))
    if not (np.isfinite(scaling) and scaling > 0.0):
        raise InputError(
            what="DoseGridScaling is not a positive number.",
            why="It turns the stored integers into gray (PS3.3 section C.8.8.3).",
            fix="Export the dose again.",
        )
    planes = _planes(dataset, frames)
    where = projections(planes)
    order = np.argsort(where, kind="stable")
    stored = decode(dataset)
    if stored.dtype.kind == "i" and stored.min() < 0:
        raise InputError(
            what="The dose has negative values.",
            why="Only a difference of doses can be negative.",
            fix="Pass the dose itself.",
        )
    gray = np.empty(stored.shape, dtype=np.float32)
    for target, source in enumerate(order):  # frame by frame: no second copy in double precision
        gray[target] = stored[source] * scaling
    affine, gray = regular_grid([planes[i] for i in order], where[order], gray, even_out=even_out)
    refuse_not_finite(gray)
    return Volume(
        gray,
        affine,
        frame_of_reference_uid=str(dataset.get("FrameOfReferenceUID") or "") or None,
        modality="RTDOSE",
        acquired=acquired_utc(dataset),
        source_uids=(str(dataset.SOPInstanceUID),),
        patient_id=str(dataset.get("PatientID") or "") or None,
    )


def _planes(dataset: Dataset, frames: int) -> list[Plane]:
    """Planes by GridFrameOffsetVector: offsets from the first plane, or (first not 0) its coordinates.

    PS3.3 section C.8.8.3.2; the second form is allowed only for grids along the patient's axes.
    """
    first = planes_of(dataset)[0]
    if frames == 1:
        return [first]
    offsets = np.array(required(dataset, "GridFrameOffsetVector"), dtype=np.float64)
    if offsets.shape != (frames,) or not np.isfinite(offsets).all():
        raise InputError(
            what="GridFrameOffsetVector does not hold one number for each frame.",
            why="The position of the dose planes is unknown without it.",
            fix="Export the dose again.",
        )
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    if offsets[0] != 0.0:
        axis = int(np.abs(normal).argmax())
        if abs(abs(normal[axis]) - 1.0) > 1e-6 or abs(offsets[0] - first.position[axis]) > 1e-2:
            raise InputError(
                what="GridFrameOffsetVector starts neither at 0 nor at the first plane's coordinate.",
                why="PS3.3 section C.8.8.3.2 knows these two forms only.",
                fix="Export the dose again.",
            )
        offsets = (offsets - offsets[0]) * normal[axis]
    return [replace(first, position=first.position + offset * normal) for offset in offsets]


def _histograms(dataset: Dataset) -> tuple[PlannedHistogram, ...]:
    return tuple(
        _histogram(item)
        for item in dataset.get("DVHSequence") or []
        if str(item.get("DoseUnits")) == "GY"
        and str(item.get("DVHVolumeUnits")) == "CM3"
        and str(item.get("DVHType")) in ("CUMULATIVE", "DIFFERENTIAL")
    )


def _histogram(item: Dataset) -> PlannedHistogram:
    pairs = np.array(required(item, "DVHData"), dtype=np.float64).reshape(-1, 2)
    widths = pairs[:, 0] * float(item.get("DVHDoseScaling") or 1.0)
    volumes = pairs[:, 1]
    if str(item.DVHType) == "DIFFERENTIAL":
        volumes = np.cumsum(volumes[::-1])[::-1]
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    rois = tuple(
        int(roi.ReferencedROINumber)
        for roi in item.get("DVHReferencedROISequence") or []
        if str(roi.get("DVHROIContributionType")) != "EXCLUDED"
    )
    filled = np.flatnonzero(volumes > 0.0)
    # The volume of a bin holds over its width: so the area is that of bars.
    area = float(np.sum(widths * volumes))
    return PlannedHistogram(
        rois,
        edges[:-1],
        volumes,
        area / float(volumes[0]) if filled.size else 0.0,
        float(edges[filled[-1] + 1]) if filled.size else 0.0,
    )


def _sum(doses: Sequence[Dose]) -> Dose:
    first = doses[0]
    uids = [uid for dose in doses for uid in dose.volume.source_uids]
    kinds = {(dose.summation, dose.dose_type) for dose in doses}
    if len(set(uids)) < len(uids) or len(kinds) > 1 or first.summation not in _ADDABLE:
        raise InputError(
            what="The doses do not add up.",
            why="One is given twice, or they are of different kinds: the dose of a plan holds its beams'.",
            fix="Pass the plan's dose alone, or the dose of each beam once.",
        )
    if first.summation in ("BEAM", "FRACTION") and len({dose.plan_uids for dose in doses}) > 1:
        raise InputError(
            what="The doses belong to different plans.",
            why="Beams and fraction groups add up within one plan.",
            fix="Sum the beams of each plan, then add the plans.",
        )
    total = first.volume.array.astype(np.float64)
    for dose in doses[1:]:
        refuse_other_frame(dose.volume, first.volume)
        total += resample(dose.volume, first.volume, outside=0.0).array
    whole = {"PLAN": "MULTI_PLAN", "BEAM_SESSION": "FRACTION_SESSION"}.get(first.summation, "PLAN")
    plans = tuple(dict.fromkeys(uid for dose in doses for uid in dose.plan_uids))
    volume = replace(first.volume, array=total.astype(np.float32), source_uids=tuple(uids))
    groups = {dose.fraction_group for dose in doses}
    return Dose(volume, whole, first.dose_type, plans, (), groups.pop() if len(groups) == 1 else None)
