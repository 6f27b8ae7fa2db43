"""RT Structure Sets (PS3.3 section A.19): contours into masks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_size
from digital_twins.imaging._polygons import polygon_coverage
from digital_twins.imaging._rt_files import single
from digital_twins.imaging._series import acquired_utc
from digital_twins.imaging._volume import Mask, Volume
from digital_twins.records import NEOPLASM, Code

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_MOST_POINTS = 20_000_000
_TILT_MM = 0.1
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """One region of interest.

    Attributes
    ----------
    number, name
        ROI Number and Name.
    interpreted_type
        RTROIInterpretedType: ``GTV``, ``CTV``, ``PTV``, ``ORGAN``, ``EXTERNAL`` ...; None when not stated.
    colour
        Red, green, blue in 0..255.
    contours
        Closed planar contours, each [point, 3] in LPS millimetres. Points and open lines are left out.
    frame_of_reference_uid
        Frame of the coordinates.
    meaning
        Code of what it outlines, where the object states one; a neoplasm otherwise.
    """

    number: int
    name: str
    interpreted_type: str | None
    colour: tuple[int, int, int] | None
    contours: tuple[NDArray[np.float64], ...]
    frame_of_reference_uid: str | None = None
    meaning: Code = NEOPLASM

    def coverage(self, like: Volume) -> Volume:
        """Return the part of each voxel of ``like`` inside the structure, float64 in 0..1.

        Each contour fills a slab as thick as the smallest distance between its structure's planes (the
        slice of ``like`` when there is one plane). Contours of one plane combine by the even-odd rule, so an
        inner one is a hole; keyholes need nothing special. In-plane areas are exact; the volume is the sum
        of area times thickness.

        Raises
        ------
        InputError
            Another frame of reference, no closed contour, or contours that are not parallel to the slices.
        """
        _refuse_frame(self, like)
        if not self.contours:
            raise InputError(
                what="The structure has no closed contour.",
                why="It is empty, or made of points or open lines, which enclose nothing.",
                fix="Choose another structure.",
            )
        slices, planes = _by_plane(self.contours, like)
        thickness = float(np.diff(slices).min()) if slices.size > 1 else 1.0
        total = np.zeros(like.shape)
        for where, contours in zip(slices, planes, strict=True):
            low, high = where - 0.5 * thickness, where + 0.5 * thickness
            first = max(0, int(np.floor(low + 0.5 + 1e-6)))
            last = min(like.shape[0] - 1, int(np.ceil(high - 0.5 - 1e-6)))
            if last < first:
                continue
            filled = _even_odd(contours, like.shape[1:])
            for k in range(first, last + 1):
                share = min(high, k + 0.5) - max(low, k - 0.5)
                total[k] += share * filled
        return Volume(
            np.clip(total, 0.0, 1.0),
            like.affine,
            frame_of_reference_uid=like.frame_of_reference_uid or self.frame_of_reference_uid,
            patient_id=like.patient_id,
        )

    def mask(self, like: Volume) -> Mask:
        """Return the voxels of ``like`` of which at least half is inside; see :meth:`coverage`."""
        covered = self.coverage(like)
        return Mask(
            covered.array >= 0.5,
            covered.affine,
            frame_of_reference_uid=covered.frame_of_reference_uid,
            modality="RTSTRUCT",
            patient_id=covered.patient_id,
            meaning=self.meaning,
        )

    def volume_cm3(self) -> float:
        """Return the sum of the contours' areas times the smallest distance between their planes.

        Needs no image: the area of even-odd contours is measured on squares of 1 mm.

        Raises
        ------
        InputError
            No closed contour, a single plane (its thickness is unknown), or contours in differing planes.
        """
        grid = _own_grid(self)
        return float(self.coverage(grid).array.sum()) * grid.voxel_volume_mm3 / 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class StructureSet:
    """The structures of one RTSTRUCT.

    Attributes
    ----------
    structures
        In the order of the object.
    image_uids
        SOP Instance UIDs of the images that the contours refer to.
    series_uids, label, uid, patient_id, acquired
        Referenced image series, StructureSetLabel, SOP Instance UID, PatientID (never logged), and the time
        of the series or study, UTC.
    """

    structures: tuple[Structure, ...]
    image_uids: tuple[str, ...] = ()
    series_uids: tuple[str, ...] = ()
    label: str = ""
    uid: str = ""
    patient_id: str | None = None
    acquired: datetime | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the structures."""
        return tuple(structure.name for structure in self.structures)

    def __getitem__(self, key: int | str) -> Structure:
        """Return the one structure of a ROI number or name."""
        found = [s for s in self.structures if key in (s.number, s.name)]
        if len(found) != 1:
            raise InputError(
                what=f"{len(found)} structures of {len(self.structures)} fit the number or name asked for.",
                why="One must be meant.",
                fix="Use one of the set's names or ROI numbers (StructureSet.names).",
            )
        return found[0]


def load_structures(source: Any, *, images: Iterable[Dataset] | Volume | None = None) -> StructureSet:
    """Return the structures of an RTSTRUCT.

    Parameters
    ----------
    source
        Path of a file, or of a folder with one RTSTRUCT in it; bytes; or a pydicom data set.
    images
        Data sets or volume of the series that it was drawn on. When given, contours that refer to other
        images, or to none while the set names no series, are refused.

    Raises
    ------
    InputError
        Not one RTSTRUCT, damaged, contours that are no planar polygons, or broken references.
    NotFoundError
        The path does not exist.
    """
    dataset = single(source, "RTSTRUCT")
    with foreign("RT Structure Set"):
        structures = _set(dataset)
        if images is not None:
            _refuse_references(dataset, structures, images)
    return structures


def _set(dataset: Dataset) -> StructureSet:
    contours = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence") or []}
    observed = {
        int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence") or []
    }
    structures = []
    budget = _MOST_POINTS
    for roi in dataset.get("StructureSetROISequence") or []:
        number = int(roi.ROINumber)
        drawn = _contours(contours.get(number), budget)
        budget -= sum(len(points) for points in drawn)
        structures.append(
            Structure(
                number=number,
                name=str(roi.get("ROIName") or f"ROI {number}"),
                interpreted_type=_kind(observed.get(number)),
                colour=_colour(contours.get(number)),
                contours=drawn,
                frame_of_reference_uid=str(roi.get("ReferencedFrameOfReferenceUID") or "") or None,
                meaning=_meaning(roi, observed.get(number)),
            )
        )
    if not structures:
        raise InputError(
            what="The structure set has no structure.",
            why="StructureSetROISequence is empty.",
            fix="Export the structures again.",
        )
    series, uids = _references(dataset)
    return StructureSet(
        tuple(structures),
        uids,
        series,
        str(dataset.get("StructureSetLabel") or ""),
        str(dataset.SOPInstanceUID),
        str(dataset.get("PatientID") or "") or None,
        acquired_utc(dataset),
    )


def _contours(item: Dataset | None, budget: int) -> tuple[NDArray[np.float64], ...]:
    found = []
    for contour in (item.get("ContourSequence") if item is not None else None) or []:
        if str(contour.get("ContourGeometricType")) not in _CLOSED:
            continue
        values = np.array(contour.get("ContourData") or [], dtype=np.float64)
        budget -= values.size // 3
        if values.size < 9 or values.size % 3 or not np.isfinite(values).all() or budget < 0:
            raise InputError(
                what="A contour is no polygon.",
                why="A closed contour has 3 or more points of three finite coordinates; in all at most "
                f"{_MOST_POINTS} points are read.",
                fix="Export the structures again.",
            )
        found.append(values.reshape(-1, 3))
    return tuple(found)


def _kind(item: Dataset | None) -> str | None:
    return None if item is None else str(item.get("RTROIInterpretedType") or "") or None


def _colour(item: Dataset | None) -> tuple[int, int, int] | None:
    values = None if item is None else item.get("ROIDisplayColor")
    if values is None or len(values) != 3:
        return None
    red, green, blue = (min(255, max(0, int(v))) for v in values)
    return red, green, blue


def _meaning(roi: Dataset, observation: Dataset | None) -> Code:
    for item, name in (
        (observation, "RTROIIdentificationCodeSequence"),
        (roi, "SegmentedPropertyTypeCodeSequence"),
    ):
        codes = None if item is None else item.get(name)
        if codes:
            code = codes[0]
            return Code(
                str(code.get("CodeValue") or code.get("LongCodeValue") or ""),
                str(code.get("CodingSchemeDesignator") or ""),
                str(code.get("CodeMeaning") or ""),
            )
    return NEOPLASM


def _references(dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the series that the set names, and the images that its contours refer to."""
    series = [
        str(one.SeriesInstanceUID)
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for one in study.get("RTReferencedSeriesSequence") or []
    ]
    images = [
        str(image.ReferencedSOPInstanceUID)
        for item in dataset.get("ROIContourSequence") or []
        for contour in item.get("ContourSequence") or []
        for image in contour.get("ContourImageSequence") or []
    ]
    return tuple(dict.fromkeys(series)), tuple(dict.fromkeys(images))


def _refuse_references(
    dataset: Dataset, structures: StructureSet, images: Iterable[Dataset] | Volume
) -> None:
    if isinstance(images, Volume):
        known = set(images.source_uids)
    else:
        known = {str(image.SOPInstanceUID) for image in images}
    strangers = [uid for uid in structures.image_uids if uid not in known]
    if strangers:
        raise InputError(
            what=f"{len(strangers)} images that the contours refer to are not among the images given.",
            why="The structures were drawn on another series, or the series is not complete.",
            fix="Pass the whole series that the structures were drawn on.",
        )
    if not structures.image_uids and not structures.series_uids:
        raise InputError(
            what="The structure set refers to no image.",
            why="Neither its contours nor its frames of reference name one (PS3.3 section C.8.8.5).",
            fix="Export the structures again, or load them without images= and check the place by eye.",
        )


def _refuse_frame(structure: Structure, like: Volume) -> None:
    own, other = structure.frame_of_reference_uid, like.frame_of_reference_uid
    if own and other and own != other:
        raise InputError(
            what="The structure belongs to another frame of reference than the image.",
            why="Their coordinates have nothing to do with each other.",
            fix="Use the image that it was drawn on, or register one to the other first.",
        )


def _by_plane(
    contours: Iterable[NDArray[np.float64]], like: Volume
) -> tuple[NDArray[np.float64], list[list[NDArray[np.float64]]]]:
    """Return the fractional slices that hold contours, in order, and their contours as (row, column)."""
    depth_mm = like.voxel_volume_mm3 / float(np.prod(like.spacing_mm[1:]))
    indices = [like.mm_to_index(points) for points in contours]
    tilt = max(float(np.ptp(index[:, 0])) for index in indices) * depth_mm
    if tilt > max(_TILT_MM, 0.1 * depth_mm):
        raise InputError(
            what="The contours are not parallel to the slices of the image.",
            why=f"One spans {tilt:.1f} mm across them.",
            fix="Use the series that the structure was drawn on.",
        )
    middles = np.array([float(index[:, 0].mean()) for index in indices])
    order = np.argsort(middles, kind="stable")
    near = max(_TILT_MM / depth_mm, 1e-3)
    slices: list[float] = []
    planes: list[list[NDArray[np.float64]]] = []
    for i in order:
        if not slices or middles[i] - slices[-1] > near:
            slices.append(float(middles[i]))
            planes.append([])
        planes[-1].append(indices[i][:, 1:])
    return np.array(slices), planes


def _even_odd(contours: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each pixel in an odd number of contours; exact but for pixels that two outlines cross."""
    filled = np.zeros(shape)
    for contour in contours:
        low = np.maximum(np.floor(contour.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.ceil(contour.max(axis=0)).astype(int) + 2, shape)
        if (high <= low).any():
            continue
        rows, columns = (int(n) for n in high - low)
        part = polygon_coverage(contour - low, (rows, columns))
        view = filled[low[0] : high[0], low[1] : high[1]]
        view += part - 2.0 * view * part
    return filled


def mask_from_structures(structures: StructureSet, key: int | str | None, like: Volume | None) -> Mask:
    """Return the mask of one structure, on the grid of ``like`` or on squares of 1 mm in its planes.

    Without a ``key`` the only structure with contours is meant, or the only one of type GTV.

    Raises
    ------
    InputError
        Several structures and none chosen, or as :meth:`Structure.mask`.
    """
    drawn = [s for s in structures.structures if s.contours]
    if key is None:
        targets = drawn if len(drawn) == 1 else [s for s in drawn if s.interpreted_type == "GTV"]
        if len(targets) != 1:
            raise InputError(
                what=f"The structure set has {len(drawn)} structures with contours.",
                why=f"None was chosen, and {len(targets)} of them are of type GTV.",
                fix="Pass segment= with a ROI number or name.",
            )
        chosen = targets[0]
    else:
        chosen = structures[key]
    grid = _own_grid(chosen) if like is None else like
    return replace(
        chosen.mask(grid),
        patient_id=structures.patient_id,
        acquired=structures.acquired,
        source_uids=(structures.uid,),
    )


def _own_grid(structure: Structure) -> Volume:
    """Return a grid of 1 mm squares on the planes of a structure's contours."""
    contours = structure.contours
    if not contours:
        raise InputError(
            what="The structure has no closed contour.",
            why="It is empty, or made of points or open lines, which enclose nothing.",
            fix="Choose another structure.",
        )
    largest = max(contours, key=len)
    _, _, axes = np.linalg.svd(largest - largest.mean(axis=0), full_matrices=False)
    normal = axes[2] * np.sign(axes[2][np.abs(axes[2]).argmax()])
    across = np.eye(3)[0 if abs(normal[0]) < 0.8 else 1]
    column = across - normal * (normal @ across)
    column /= np.linalg.norm(column)
    flat = np.stack([np.cross(normal, column), column], axis=1)
    points = np.concatenate(contours)
    along = np.array([float((c @ normal).mean()) for c in contours])
    planes = np.unique(np.round(along, 2))
    if planes.size < 2:
        raise InputError(
            what="The structure lies in one plane.",
            why="Its thickness is unknown without the image.",
            fix="Pass the image that it was drawn on (like=).",
        )
    step = float(np.diff(planes).min())
    low, high = (points @ flat).min(axis=0), (points @ flat).max(axis=0)
    shape = (
        round(float(planes[-1] - planes[0]) / step) + 1,
        *(int(n) for n in np.ceil(high - low) + 3),
    )
    refuse_size(shape)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1:3] = normal * step, flat
    affine[:3, 3] = normal * planes[0] + flat @ (low - 1.0)
    return Volume(
        np.zeros(shape, dtype=np.uint8), affine, frame_of_reference_uid=structure.frame_of_reference_uid
    )
