"""Which series and segmentations lie at the paths of a patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign
from digital_twins.imaging._dicom_files import existing, is_image, read_dicom, read_folder
from digital_twins.imaging._files import ITK_SUFFIXES, NIFTI_SUFFIXES
from digital_twins.imaging._load import load_mask, load_volume
from digital_twins.imaging._resample import refuse_other_frame
from digital_twins.imaging._series import acquired_utc

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from pydicom.dataset import Dataset

    from digital_twins.imaging._volume import Mask, Volume

_MOST_BESIDE = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A mask with what tells its visit: the images it was drawn on, else the time of its study.

    The time at which a SEG object was written says nothing: outlines are often drawn days after the scan.
    """

    mask: Mask
    drawn_on: frozenset[str]
    when: datetime | None


def time_points(path: str | Path) -> list[Volume]:
    """Return the volumes at a path: one of a file, one of each series of a folder."""
    where = existing(Path(path))
    if where.is_file():
        return [load_volume(where)]
    series: dict[str, list[Dataset]] = {}
    for dataset in read_folder(where):
        with foreign("DICOM object"):
            if is_image(dataset):
                series.setdefault(str(dataset.get("SeriesInstanceUID")), []).append(dataset)
    if not series:
        raise InputError(
            "The folder holds no image.",
            "Its DICOM objects are reports, segmentations or plans.",
            "Pass the folder of an MR series.",
        )
    return [load_volume(datasets) for datasets in series.values()]


def outlines(
    segmentation: str | Path | None,
    beside: Iterable[str | Path],
    *,
    like: Volume,
    segment: int | str | None,
) -> list[Outline]:
    """Return the outlines of the SEG objects given, or of those beside the images that belong to them."""
    if segmentation is not None:
        where = existing(Path(segmentation))
        if where.name.lower().endswith((*NIFTI_SUFFIXES, *ITK_SUFFIXES)):
            mask = load_mask(where, segment=segment)
            given = [Outline(mask, frozenset(), None)]
        else:
            datasets = read_folder(where) if where.is_dir() else [read_dicom(where)]
            given = [_outline(d, segment) for d in datasets if _is_seg(d)]
        if not given:
            raise InputError(
                "There is no segmentation at the path given.",
                "No object there is a DICOM Segmentation.",
                "Pass a SEG file, a folder with SEG files, or a NIfTI or NRRD mask.",
            )
        for outline in given:
            refuse_other_frame(outline.mask, like)
        return given
    folders = {path if path.is_dir() else path.parent for path in map(Path, beside)}
    found: dict[str, Dataset] = {}
    for folder in sorted(folders):
        for dataset in _segs_in(folder):
            if _belongs(dataset, like):
                found[str(dataset.get("SOPInstanceUID"))] = dataset
    return [_outline(dataset, segment) for dataset in found.values()]


def _outline(dataset: Dataset, segment: int | str | None) -> Outline:
    from pydicom.dataset import Dataset as NewDataset

    mask = load_mask(dataset, segment=segment)
    with foreign("DICOM Segmentation"):
        drawn_on = frozenset(
            str(instance.get("ReferencedSOPInstanceUID"))
            for series in dataset.get("ReferencedSeriesSequence") or ()
            for instance in series.get("ReferencedInstanceSequence") or ()
        )
        study = NewDataset()
        for keyword in ("StudyDate", "StudyTime", "TimezoneOffsetFromUTC"):
            if keyword in dataset:
                setattr(study, keyword, dataset.get(keyword))
        return Outline(mask, drawn_on, acquired_utc(study) or mask.acquired)


def _segs_in(folder: Path) -> list[Dataset]:
    """Read the SEG objects of a folder itself (not below it), by a look at the head of each DICOM file."""
    import pydicom

    segs = []
    for path in sorted(p for p in folder.iterdir() if p.is_file())[:_MOST_BESIDE]:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                continue
            stream.seek(0)
            try:
                with foreign("DICOM file"):
                    head = pydicom.dcmread(stream, specific_tags=["Modality"], stop_before_pixels=True)
            except InputError:
                continue  # a damaged neighbour is not this patient's business; images given are checked
        if str(head.get("Modality")) == "SEG":
            segs.append(read_dicom(path))
    return segs


def _is_seg(dataset: Dataset) -> bool:
    with foreign("DICOM object"):
        return str(dataset.get("Modality")) == "SEG"


def _belongs(dataset: Dataset, like: Volume) -> bool:
    """Whether a SEG found beside images is of their patient and frame of reference."""
    with foreign("DICOM Segmentation"):
        frame = str(dataset.get("FrameOfReferenceUID") or "")
        patient = str(dataset.get("PatientID") or "")
    return frame == (like.frame_of_reference_uid or "") and patient == (like.patient_id or "")
