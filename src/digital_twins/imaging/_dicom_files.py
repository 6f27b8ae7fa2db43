"""DICOM files into pydicom data sets, never trusting a length that the file announces."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError
from digital_twins.imaging._checks import foreign

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

NOT_IMAGES = frozenset(
    {"SEG", "SR", "PR", "KO", "DOC", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "AU", "ECG", "PLAN"}
)
"""Modalities that a series of images is not."""


def read_dicom(path: Path) -> Dataset:
    """Read one DICOM file.

    The file is read as a whole and parsed from memory: an element that announces 4 GB costs no more than
    the file has.

    Raises
    ------
    InputError
        It is not DICOM, or it is damaged.
    """
    import pydicom

    data = path.read_bytes()
    if data[128:132] != b"DICM":
        raise InputError(
            what=f"'{path.suffix or 'the file'}' content is not DICOM.",
            why="The letters DICM are missing at byte 128 (PS3.10 section 7.1).",
            fix="Pass a DICOM file, a folder of one series, or a NIfTI or NRRD file.",
        )
    with foreign("DICOM file"):
        dataset = pydicom.dcmread(BytesIO(data))
    if "SOPClassUID" not in dataset:
        raise InputError(
            what="The DICOM file has no SOP Class UID.",
            why="It is truncated, or it is a directory (DICOMDIR) and not an object.",
            fix="Transfer the file again; for a DICOMDIR pass the folder of the series.",
        )
    return dataset


def read_folder(folder: Path) -> list[Dataset]:
    """Read every DICOM file below a folder, in order of their names; other files are passed over."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "DICOMDIR" and _is_dicom(p))
    if not paths:
        raise InputError(
            what="The folder holds no DICOM file.",
            why="No file in it has the letters DICM at byte 128 (PS3.10 section 7.1).",
            fix="Pass the folder that holds the files of the series.",
        )
    return [read_dicom(path) for path in paths]


def is_image(dataset: Dataset) -> bool:
    """Whether a data set belongs to a series of images rather than to objects derived from it."""
    return "Rows" in dataset and str(dataset.get("Modality", "")) not in NOT_IMAGES


def required(dataset: Dataset, keyword: str) -> Any:
    """Return an attribute that the object cannot do without, or refuse naming its keyword."""
    value = dataset.get(keyword)
    if value is None or (isinstance(value, str) and not value):
        raise InputError(
            what=f"The DICOM object lacks {keyword}.",
            why="The file is truncated, or its kind has no position in the patient.",
            fix="Transfer the file again, or use a CT, MR or PET image with plane position and orientation.",
        )
    return value


def existing(path: Path) -> Path:
    """Return the path, or raise :class:`NotFoundError`."""
    if not path.exists():
        raise NotFoundError(
            what="The image file or folder does not exist.",
            why=f"Nothing is at a path ending in '{path.suffix or path.name[-4:]}'.",
            fix="Check the path.",
        )
    return path


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"
