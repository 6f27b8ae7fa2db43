"""A DICOM series into a Volume."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_not_finite, refuse_size
from digital_twins.imaging._dicom_files import required
from digital_twins.imaging._planes import (
    SPACING_TOLERANCE,
    Plane,
    affine_of,
    lone_step,
    planes_of,
    projections,
)
from digital_twins.imaging._volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset


def volume_from_series(datasets: Sequence[Dataset], *, even_out: bool = False) -> Volume:
    """Return the volume that the images of one DICOM series make, in any order they come in.

    Reads single-frame CT, MR and PET and multi-frame (enhanced and legacy converted) objects; applies
    RescaleSlope and RescaleIntercept slice by slice; oblique and gantry-tilted series keep their geometry
    (the slice column of the affine is the real vector between slices). Slices are ordered as highdicom does.

    Parameters
    ----------
    datasets
        The data sets of one series, with pixel data in any transfer syntax that pydicom decodes.
    even_out
        Interpolate a series of unevenly spaced slices onto even ones (median gap) instead of refusing it.

    Raises
    ------
    InputError
        Two patients, series or frames of reference; missing, duplicate or unevenly spaced slices; colour;
        mosaics; voxels that are not finite; damaged pixel data; absurd sizes.
    """
    with foreign("DICOM series"):
        return _volume(datasets, even_out=even_out)


def _volume(datasets: Sequence[Dataset], *, even_out: bool) -> Volume:
    if not datasets:
        raise InputError(
            what="The series has no images.", why="The list is empty.", fix="Pass the data sets of a series."
        )
    _refuse_mixture(datasets)
    planes: list[Plane] = []
    owners: list[str] = []
    for dataset in datasets:
        _refuse_kind(dataset)
        own = planes_of(dataset)
        if len(own) != int(dataset.get("NumberOfFrames") or 1):
            raise InputError(
                what="A multi-frame image does not describe each of its frames.",
                why="NumberOfFrames and the functional groups disagree.",
                fix="Export it again as an enhanced multi-frame object, or as single-frame images.",
            )
        planes += own
        owners += [str(dataset.SOPInstanceUID)] * len(own)
    shape = (len(planes), int(required(datasets[0], "Rows")), int(required(datasets[0], "Columns")))
    refuse_size(shape)
    where = projections(planes)
    order = np.argsort(where, kind="stable")
    array = _voxels(datasets, planes, shape)[order]
    ordered = [planes[i] for i in order]
    affine, array = regular_grid(ordered, where[order], array, even_out=even_out)
    first = datasets[0]
    return Volume(
        array,
        affine,
        frame_of_reference_uid=_text(first, "FrameOfReferenceUID"),
        modality=_text(first, "Modality"),
        acquired=acquired_utc(first),
        source_uids=tuple(dict.fromkeys(owners[i] for i in order)),
        patient_id=_text(first, "PatientID"),
    )


def _refuse_mixture(datasets: Sequence[Dataset]) -> None:
    for keyword, what, fix in (
        ("PatientID", "patients", "Select the images of one patient."),
        ("SeriesInstanceUID", "series", "Select the images of one series (series_uid=...)."),
        ("FrameOfReferenceUID", "frames of reference", "Select the images of one frame of reference."),
        ("Rows", "numbers of rows", "Select the images of one size."),
        ("Columns", "numbers of columns", "Select the images of one size."),
    ):
        count = len({str(d.get(keyword, "")) for d in datasets})
        if count > 1:
            raise InputError(
                what=f"The images belong to {count} {what}.", why=f"{keyword} differs among them.", fix=fix
            )


def _refuse_kind(dataset: Dataset) -> None:
    if "MOSAIC" in (dataset.get("ImageType") or ()):
        raise InputError(
            what="The image is a Siemens mosaic.",
            why="It tiles all slices of a volume into one plane whose position is not that of its slices.",
            fix="Export enhanced multi-frame MR from the scanner, or convert it with dcm2niix to NIfTI.",
        )
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2")
    if not photometric.startswith("MONOCHROME") or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise InputError(
            what=f"The image is in colour ({photometric}).",
            why="Twins are made from CT, MR and PET values, one per voxel.",
            fix="Pass the original series instead of a screen capture or colour overlay.",
        )


def _voxels(
    datasets: Sequence[Dataset], planes: Sequence[Plane], shape: tuple[int, int, int]
) -> NDArray[Any]:
    """Decode every frame into one array in units of the modality, in the order given."""
    dtype = _result_type(datasets, planes)
    array = np.empty(shape, dtype)
    start = 0
    for dataset in datasets:
        pixels = decode(dataset)
        for frame, plane in zip(pixels, planes[start : start + len(pixels)], strict=True):
            if plane.slope == 1.0 and plane.intercept == 0.0:
                array[start] = frame
            elif dtype.kind == "f":
                array[start] = frame.astype(dtype) * plane.slope + plane.intercept
            else:
                array[start] = frame + dtype.type(plane.intercept)
            start += 1
    refuse_not_finite(array)
    small = array.dtype.kind == "i" and array.min() >= -(2**15) and array.max() < 2**15
    return array.astype(np.int16) if small else array


def _result_type(datasets: Sequence[Dataset], planes: Sequence[Plane]) -> np.dtype[Any]:
    """Keep integers where rescaling does."""
    if "FloatPixelData" in datasets[0] or any(p.slope != 1.0 or p.intercept % 1.0 for p in planes):
        return np.dtype(np.float32)
    wide = max(int(d.get("BitsAllocated") or 16) for d in datasets) > 16
    return np.dtype(np.int64 if wide else np.int32)


def decode(dataset: Dataset) -> NDArray[Any]:
    """Return the stored values as ``[frame, row, column]``, or refuse damaged pixel data."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    rows, columns = int(required(dataset, "Rows")), int(required(dataset, "Columns"))
    refuse_size((frames, rows, columns))
    with foreign("pixel data"):
        return np.asarray(dataset.pixel_array).reshape(frames, rows, columns)


def regular_grid(
    planes: Sequence[Plane], where: NDArray[np.float64], array: NDArray[Any], *, even_out: bool = False
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return the affine of ordered planes, and the array, interpolated only when asked and needed."""
    if len(planes) == 1:
        return affine_of(planes[0], lone_step(planes[0])), array
    gaps = np.diff(where)
    _refuse_duplicates(gaps)
    positions = np.array([plane.position for plane in planes])
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    even = np.abs(gaps - gaps.mean()).max() <= SPACING_TOLERANCE * gaps.mean()
    if not even and not even_out:
        raise _uneven(gaps)
    _refuse_drift(positions, where)
    if even:
        return affine_of(planes[0], step), array
    spacing = float(np.median(gaps))
    target = where[0] + spacing * np.arange(int(np.floor((where[-1] - where[0]) / spacing + 1e-6)) + 1)
    direction = (positions[-1] - positions[0]) / (where[-1] - where[0])
    return affine_of(planes[0], direction * spacing), _between(array, where, target)


def _refuse_duplicates(gaps: NDArray[np.float64]) -> None:
    if gaps.min() < 1e-3:
        raise InputError(
            what=f"{int((gaps < 1e-3).sum())} slices lie at the position of another one.",
            why="The series holds several images per position: time points, echoes, b-values or copies.",
            fix="Select one image per position first (e.g. by AcquisitionNumber, EchoTime or TriggerTime).",
        )


def _uneven(gaps: NDArray[np.float64]) -> InputError:
    usual = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - usual)))
    place = f"Between slices {worst} and {worst + 1} the gap is {gaps[worst]:.3f} mm, usually {usual:.3f} mm."
    counts = gaps / usual
    if np.abs(counts - np.round(counts)).max() < 0.05 and counts.max() > 1.5:
        missing = int(np.round(counts).sum()) - len(gaps)
        return InputError(
            what=f"The series has missing slices: {missing} in all.",
            why=place,
            fix="Send the series again completely, or load it with even_out=True to interpolate the gaps.",
        )
    return InputError(
        what="The series has unequal spacing.",
        why=place,
        fix="Load it with even_out=True to interpolate onto evenly spaced slices.",
    )


def _refuse_drift(positions: NDArray[np.float64], where: NDArray[np.float64]) -> None:
    """Slices may shift in their plane (tilted gantry) but only steadily."""
    part = ((where - where[0]) / (where[-1] - where[0]))[:, None]
    straight = positions[0] + part * (positions[-1] - positions[0])
    worst = float(np.linalg.norm(positions - straight, axis=1).max())
    if worst > 0.1:
        raise InputError(
            what=f"The slices do not lie on one line: one is {worst:.2f} mm aside.",
            why="No regular grid holds them, as happens when a patient table moved between slabs.",
            fix="Pass one slab of the series, or resample it at the scanner.",
        )


def _between(
    array: NDArray[Any], where: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Interpolate linearly along the slice axis."""
    upper = np.clip(np.searchsorted(where, target, side="right"), 1, len(where) - 1)
    weight = ((target - where[upper - 1]) / (where[upper] - where[upper - 1])).astype(np.float32)
    weight = weight[:, None, None]
    return np.asarray(array[upper - 1] * (1 - weight) + array[upper] * weight, dtype=np.float32)


def _text(dataset: Dataset, keyword: str) -> str | None:
    return str(dataset.get(keyword) or "") or None


def acquired_utc(dataset: Dataset) -> datetime | None:
    """Return when an object was acquired (else its content, series or study time), in UTC, or None."""
    stamp = str(dataset.get("AcquisitionDateTime") or "")
    for kind in ("Acquisition", "Content", "Series", "Study"):
        if not stamp and dataset.get(f"{kind}Date"):
            stamp = str(dataset.get(f"{kind}Date")) + str(dataset.get(f"{kind}Time") or "000000")
    digits = stamp.split(".", maxsplit=1)[0][:14]
    try:
        moment = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        offset = str(dataset.get("TimezoneOffsetFromUTC") or "+0000")
        sign = -1 if offset.startswith("-") else 1
        zone = timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))
    except ValueError:
        return None
    return moment.replace(tzinfo=zone).astimezone(UTC)


def with_patient_of(volume: Volume, other: Volume) -> Volume:
    """Return ``volume`` with the frame of reference and patient of ``other`` where it has none itself."""
    return replace(
        volume,
        frame_of_reference_uid=volume.frame_of_reference_uid or other.frame_of_reference_uid,
        patient_id=volume.patient_id or other.patient_id,
    )
