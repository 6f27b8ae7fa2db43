"""Radiotherapy objects from paths, bytes and data sets, with a bound on what is read."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.imaging._checks import foreign
from digital_twins.imaging._dicom_files import existing, read_dicom, read_folder

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_OBJECT_BYTES = 2**31
"""Largest object that is read: a dose of 512 x 512 x 1,024 voxels of 32 bits is half of it."""


def objects_of(source: Any, modality: str) -> list[Dataset]:
    """Return the objects of one modality in a source.

    Parameters
    ----------
    source
        Path of a file or folder, the bytes of a DICOM file, a pydicom data set, or a sequence of these.
        Objects of other modalities in a folder are passed over.
    modality
        DICOM Modality, such as ``"RTDOSE"``.

    Raises
    ------
    InputError
        Too large, damaged, or without an object of the modality.
    NotFoundError
        The path does not exist.
    """
    datasets = _datasets(source)
    with foreign("DICOM object"):
        found = [d for d in datasets if str(d.get("Modality") or "") == modality]
    if not found:
        raise InputError(
            what=f"There is no {modality} object in the source.",
            why=f"None of its {len(datasets)} DICOM objects has that Modality.",
            fix=f"Pass the {modality} file that the planning system exported.",
        )
    return found


def single(source: Any, modality: str) -> Dataset:
    """Return the one object of a modality in a source, or refuse to choose among several."""
    found = objects_of(source, modality)
    if len(found) > 1:
        raise InputError(
            what=f"There are {len(found)} {modality} objects to choose from.",
            why="Each may belong to another plan or state of the patient.",
            fix="Pass the file of the one that is meant.",
        )
    return found[0]


def _datasets(source: Any) -> list[Dataset]:
    if hasattr(source, "to_json_dict"):
        return [source]
    if isinstance(source, bytes | bytearray | memoryview):
        return [_from_bytes(bytes(source))]
    if isinstance(source, str | Path):
        path = existing(Path(source))
        for file in path.rglob("*") if path.is_dir() else [path]:
            _refuse_long(file.stat().st_size)
        return read_folder(path) if path.is_dir() else [read_dicom(path)]
    if isinstance(source, Sequence) and source:
        return [dataset for item in source for dataset in _datasets(item)]
    raise InputError(
        what=f"A {type(source).__name__} is no radiotherapy object.",
        why="Only paths, bytes, pydicom data sets and lists of them are read.",
        fix="Pass the path of the DICOM file.",
    )


def _from_bytes(data: bytes) -> Dataset:
    import pydicom

    _refuse_long(len(data))
    if data[128:132] != b"DICM":
        raise InputError(
            what="The bytes are not a DICOM file.",
            why="The letters DICM are missing at byte 128 (PS3.10 section 7.1).",
            fix="Pass the whole content of a DICOM file.",
        )
    with foreign("DICOM file"):
        dataset: Dataset = pydicom.dcmread(BytesIO(data))
    return dataset


def _refuse_long(count: int) -> None:
    if count > MAX_OBJECT_BYTES:
        raise InputError(
            what=f"The object has {count} bytes.",
            why=f"At most {MAX_OBJECT_BYTES} bytes are read.",
            fix="Check that the file is intact; export a coarser dose grid or fewer structures.",
        )
