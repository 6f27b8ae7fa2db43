"""One way in for every kind of image and mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign, refuse_not_finite
from digital_twins.imaging._dicom_files import existing, is_image, read_dicom, read_folder
from digital_twins.imaging._files import ITK_SUFFIXES, NIFTI_SUFFIXES, from_array_like, load_itk, load_nifti
from digital_twins.imaging._resample import refuse_other_frame, resample
from digital_twins.imaging._rt_structures import load_structures, mask_from_structures
from digital_twins.imaging._seg import masks_from_seg, segment_names
from digital_twins.imaging._series import volume_from_series, with_patient_of
from digital_twins.imaging._volume import Mask, Volume, as_mask

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_LABELS = 256


def load_volume(source: Any, *, series_uid: str | None = None, even_out: bool = False) -> Volume:
    """Return the image in ``source`` as a :class:`Volume`.

    Parameters
    ----------
    source
        Path of a NIfTI (.nii, .nii.gz), NRRD, MetaImage or DICOM file, or of a folder with a DICOM series
        (segmentations and reports in it are passed over); a pydicom Dataset or list of them; a MONAI
        MetaTensor, nibabel image, SimpleITK image or highdicom Volume; or a Volume.
    series_uid
        Which series to take when the folder or list holds several.
    even_out
        Interpolate unevenly spaced DICOM slices instead of refusing them.

    Raises
    ------
    InputError
        With the reason, for everything that does not make one trustworthy volume.
    NotFoundError
        The path does not exist.
    """
    if isinstance(source, Volume):
        refuse_not_finite(source.array)
        return source
    if isinstance(source, str | Path):
        path = existing(Path(source))
        found = _file(path)
        if found is not None:
            return found
        datasets = read_folder(path) if path.is_dir() else [read_dicom(path)]
        return volume_from_series(_one_series(datasets, series_uid), even_out=even_out)
    if _is_dataset(source):
        return volume_from_series([source], even_out=even_out)
    if isinstance(source, Sequence) and source and all(_is_dataset(d) for d in source):
        return volume_from_series(_one_series(source, series_uid), even_out=even_out)
    volume = from_array_like(source)
    if volume is None:
        raise _unknown(source)
    return volume


def load_mask(source: Any, *, like: Volume | None = None, segment: int | str | None = None) -> Mask:
    """Return the mask in ``source``.

    Parameters
    ----------
    source
        As for :func:`load_volume`, holding labels instead of an image, or a DICOM SEG or RTSTRUCT (file,
        data set, or folder with one of them in it; a SEG comes first). Contours without ``like`` are filled
        on squares of 1 mm in their planes.
    like
        The image it belongs to. The mask comes back on its grid, by nearest neighbour where the grids differ.
    segment
        Segment number or label of a SEG, ROI number or name of an RTSTRUCT, or label value of a label map. It
        may be left out when there is only one, or one RTSTRUCT structure of type GTV.

    Raises
    ------
    InputError
        An image instead of labels, several labels and none chosen, an empty mask, a mask of another frame of
        reference or patient, or one outside the image.
    """
    dataset = _seg_dataset(source)
    if isinstance(source, Mask):
        mask = source
    elif dataset is not None and str(dataset.get("Modality")) == "RTSTRUCT":
        mask = mask_from_structures(load_structures(dataset), segment, like)
    elif dataset is not None:
        mask = _segment(dataset, segment)
    else:
        mask = _label(load_volume(source), segment)
    if mask.is_empty:
        raise InputError(
            what="The mask is empty.",
            why="No voxel of it is set.",
            fix="Check that the segmentation was saved, and that the right segment was chosen.",
        )
    return mask if like is None else _on_grid(mask, like)


def _on_grid(mask: Mask, like: Volume) -> Mask:
    refuse_other_frame(mask, like)
    placed = with_patient_of(resample(mask, like, interpolation="nearest"), like)
    if not isinstance(placed, Mask):
        raise TypeError("resample keeps the type of a mask")
    if placed.is_empty:
        raise InputError(
            what="The mask lies outside the image.",
            why="No voxel of the image is inside the mask; usually they are not of the same scan.",
            fix="Check that the mask was drawn on this image and exported in the same coordinates.",
        )
    return placed


def _file(path: Path) -> Volume | None:
    """Read what the name says; None when it is DICOM, by name or by having no telling name."""
    name = path.name.lower()
    if path.is_dir():
        return None
    if name.endswith(NIFTI_SUFFIXES):
        return load_nifti(path)
    return load_itk(path) if name.endswith(ITK_SUFFIXES) else None


def _is_dataset(source: Any) -> bool:
    return hasattr(source, "file_meta") or hasattr(source, "to_json_dict")


def _one_series(datasets: Sequence[Dataset], series_uid: str | None) -> list[Dataset]:
    with foreign("DICOM object"):
        images = [d for d in datasets if is_image(d)]
        if series_uid is not None:
            images = [d for d in images if str(d.get("SeriesInstanceUID")) == series_uid]
    if not images:
        raise InputError(
            what="There is no image among the DICOM objects.",
            why="They are reports, segmentations or plans, or belong to other series.",
            fix="Pass the images of a CT, MR or PET series.",
        )
    return images


def _seg_dataset(source: Any) -> Dataset | None:
    """Return the one SEG in a source, else the one RTSTRUCT, or None when it holds something else."""
    candidates: list[Dataset] = []
    if _is_dataset(source):
        candidates = [source]
    elif isinstance(source, Sequence) and not isinstance(source, str) and all(map(_is_dataset, source)):
        candidates = list(source)
    elif isinstance(source, str | Path):
        path = existing(Path(source))
        if path.is_dir():
            candidates = read_folder(path)
        elif not path.name.lower().endswith((*NIFTI_SUFFIXES, *ITK_SUFFIXES)):
            candidates = [read_dicom(path)]
    with foreign("DICOM object"):
        kinds = [str(d.get("Modality")) for d in candidates]
        wanted = "SEG" if "SEG" in kinds else "RTSTRUCT"
        segs = [d for d, kind in zip(candidates, kinds, strict=True) if kind == wanted]
    if len(segs) > 1:
        raise InputError(
            what=f"There are {len(segs)} segmentations to choose from.",
            why="Each may hold another state of the tumour.",
            fix="Pass the file of the one that is meant.",
        )
    return segs[0] if segs else None


def _segment(dataset: Dataset, segment: int | str | None) -> Mask:
    with foreign("DICOM Segmentation"):
        names = segment_names(dataset)
    chosen = [n for n in names if segment in (n, names[n])]
    if segment is None and len(names) == 1:
        chosen = list(names)
    if len(chosen) != 1:
        raise _choose("segments", sorted(names), segment)
    return masks_from_seg(dataset, segment_numbers=chosen)[0]


def _label(volume: Volume, segment: int | str | None) -> Mask:
    """Turn a volume of labels into the mask of one label, refusing what is an image."""
    array = volume.array
    if array.dtype == bool:
        return as_mask(volume, array)
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise _not_labels("It holds fractions.")
    if array.min() < 0:
        raise _not_labels("It holds negative values, as a CT does.")
    labels = np.unique(array)
    if len(labels) > MAX_LABELS:
        raise _not_labels(f"It holds {len(labels)} different values.")
    present = [int(x) for x in labels if x > 0]
    if segment is None and len(present) <= 1:
        return as_mask(volume, array > 0)
    if not isinstance(segment, int) or segment not in present:
        raise _choose("labels", present, segment)
    return as_mask(volume, array == segment)


def _not_labels(why: str) -> InputError:
    return InputError(
        what="The source is an image, not a mask.",
        why=why,
        fix="Pass a label map (0 outside, 1 inside) or a DICOM SEG; threshold a probability map first.",
    )


def _choose(kind: str, present: Sequence[int], segment: int | str | None) -> InputError:
    listed = ", ".join(map(str, present[:20])) + (", ..." if len(present) > 20 else "")
    return InputError(
        what=f"The mask has {len(present)} {kind}: {listed}.",
        why="None was chosen." if segment is None else "The one asked for is not among them, or not unique.",
        fix="Pass segment= with one of these numbers (or a SEG's label).",
    )


def _unknown(source: Any) -> InputError:
    return InputError(
        what=f"A {type(source).__name__} is not an image with a place in the patient.",
        why="Without an affine the voxel sizes, and so every volume, would be a guess.",
        fix="Pass a path, a DICOM series, a MONAI MetaTensor, or Volume(array, affine).",
    )
