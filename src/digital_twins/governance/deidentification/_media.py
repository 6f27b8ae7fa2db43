"""A new DICOMDIR over de-identified objects: nothing of the old one is read but that it was there.

Files get names that PS3.10 section 8 allows on media (components of eight letters or digits). They come from
the new UIDs, so that a second run writes the same ones. Records come from the new objects (PS3.3 Annex F).
"""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
from typing import TYPE_CHECKING, Any

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MediaStorageDirectoryStorage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FILE = "DICOMDIR"
_COMPONENT = 8
_IN_USE = 0xFFFF
_CONTENT = ("ContentDate", "ContentTime", "InstanceNumber")
_LABELLED = (*_CONTENT, "ContentLabel", "ContentDescription", "ContentCreatorName")
_FLAGS = ("CompletionFlag", "VerificationFlag", "VerificationDateTime", "ConceptNameCodeSequence")
_DOCUMENT = (*_CONTENT, *_FLAGS)
_LABEL = ("InstanceNumber", "ContentLabel", "ContentDescription", "ContentCreatorName")
_DRAWN_AT = ("PresentationCreationDate", "PresentationCreationTime")
_DRAWN = (*_DRAWN_AT, *_LABEL, "ReferencedSeriesSequence", "BlendingSequence")
_ENCAPSULATED = (*_CONTENT, "DocumentTitle", "ConceptNameCodeSequence", "MIMETypeOfEncapsulatedDocument")
_SPECTRUM = ("ImageType", *_CONTENT, "NumberOfFrames", "Rows", "Columns", "DataPointRows", "DataPointColumns")
_PATIENT = ("PatientName", "PatientID")
_STUDY = ("StudyDate", "StudyTime", "StudyDescription", "StudyInstanceUID", "StudyID", "AccessionNumber")
_SERIES = ("Modality", "SeriesInstanceUID", "SeriesNumber")
_RT_PLAN = ("InstanceNumber", "RTPlanLabel", "RTPlanDate", "RTPlanTime")
_TREATED = ("InstanceNumber", "TreatmentDate", "TreatmentTime")
# Part of the name of the SOP class, record type (PS3.3 F.4), keys of the record (F.5); the first that fits.
_LEAVES = (
    ("RT Dose", "RT DOSE", ("InstanceNumber", "DoseSummationType")),
    ("RT Structure Set", "RT STRUCTURE SET",
     ("InstanceNumber", "StructureSetLabel", "StructureSetDate", "StructureSetTime")),
    ("RT Plan", "RT PLAN", _RT_PLAN),
    ("RT Ion Plan", "RT PLAN", _RT_PLAN),
    ("Treatment Record", "RT TREAT RECORD", _TREATED),
    ("Treatment Summary Record", "RT TREAT RECORD", _TREATED),
    ("Presentation State", "PRESENTATION", _DRAWN),
    ("Waveform", "WAVEFORM", _CONTENT),
    ("Key Object Selection", "KEY OBJECT DOC", (*_CONTENT, "ConceptNameCodeSequence")),
    ("Spectroscopy", "SPECTROSCOPY", _SPECTRUM),
    ("Raw Data", "RAW DATA", _CONTENT),
    ("Registration", "REGISTRATION", _LABELLED),
    ("Fiducials", "FIDUCIAL", _LABELLED),
    ("Encapsulated", "ENCAP DOC", _ENCAPSULATED),
    ("Real World Value Mapping", "VALUE MAP", _LABELLED),
    ("Stereometric", "STEREOMETRIC", _LABELLED),
    ("Surface Segmentation", "SURFACE", _LABELLED),
    ("Tractography", "TRACT", _LABELLED),
    (" SR ", "SR DOCUMENT", _DOCUMENT),
    ("Report", "SR DOCUMENT", _DOCUMENT),
    ("Procedure Log", "SR DOCUMENT", _DOCUMENT),
)  # fmt: skip
_IMAGE = ("IMAGE", ("InstanceNumber",))
_DATES_MAY_BE_EMPTY = frozenset({"RT STRUCTURE SET", "RT PLAN", "RT TREAT RECORD", "ENCAP DOC"})
_ONLY_WHERE_KNOWN = frozenset({"VerificationDateTime", "ReferencedSeriesSequence", "BlendingSequence"})
# Type 1 in a record, but gone from the object, or empty there by the profile (StudyID).
_INVENTED = {"DA": "19000101", "TM": "000000"}
_ABOVE = (
    ("PATIENT", "PatientID", _PATIENT, ()),
    ("STUDY", "StudyInstanceUID", _STUDY, ("StudyDate", "StudyTime", "StudyID")),
    ("SERIES", "SeriesInstanceUID", _SERIES, ("SeriesNumber",)),
)


def write_media(root: Path, files: Iterable[Path], uid: str) -> int:
    """Rename objects as media want them, write ``DICOMDIR`` over them, and return how many it lists.

    Not listed is what PS3.3 has no type of record for, e.g. an object of an unknown SOP class without pixels.
    Type 1 values that the objects lost are invented: dates 1900-01-01, times 00:00, numbers in order.

    Parameters
    ----------
    root
        Folder of the file-set.
    files
        De-identified objects in it.
    uid
        Of the new file-set.
    """
    objects = [(path, dcmread(path, stop_before_pixels=True)) for path in dict.fromkeys(files)]
    objects.sort(key=lambda each: _order(each[1]))
    names: dict[tuple[str, ...], Path] = {}
    for path, dataset in objects:
        names[_file_id(dataset, names)] = path
    records = _records([dataset for _, dataset in objects], list(names))
    for name, path in names.items():
        final = root.joinpath(*name)
        final.parent.mkdir(parents=True, exist_ok=True)
        path.replace(final)
        _remove_empty(path.parent, root)
    _write(root / _FILE, _directory(records, uid))
    return sum(not level for level in _flat(records))


def _order(dataset: Dataset) -> tuple[Any, ...]:
    def number(keyword: str) -> int:
        return int(dataset.get(keyword) or 0)

    return (
        str(dataset.PatientID),
        str(dataset.StudyInstanceUID),
        number("SeriesNumber"),
        str(dataset.SeriesInstanceUID),
        number("InstanceNumber"),
        str(dataset.SOPInstanceUID),
    )


def _file_id(dataset: Dataset, taken: dict[tuple[str, ...], Path]) -> tuple[str, ...]:
    folders = [
        _name(str(dataset[each].value)) for each in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
    ]
    leaf = _name(str(dataset.SOPInstanceUID))
    while (*folders, leaf) in taken:
        leaf = _name(leaf)
    return (*folders, leaf)


def _name(value: str) -> str:
    return base64.b32encode(hashlib.sha256(value.encode()).digest()).decode()[:_COMPONENT]


def _remove_empty(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


class _Level(list["_Level"]):
    """A record and those below it."""

    def __init__(self, record: Dataset) -> None:
        super().__init__()
        self.record = record


def _records(datasets: list[FileDataset], names: list[tuple[str, ...]]) -> list[_Level]:
    """Return the records of the patients; objects come in the order of the records."""
    patients: list[_Level] = []
    known: dict[str, _Level] = {}
    for dataset, name in zip(datasets, names, strict=True):
        leaf = _leaf(dataset, name)
        if leaf is None:
            continue
        above, uid = patients, ""
        for kind, which, keys, needs in _ABOVE:
            uid += f"\\{dataset[which].value}"  # not the UID alone: some files give one to two studies
            if uid not in known:
                known[uid] = _Level(_record(dataset, kind, keys, needs, len(above) + 1))
                above.append(known[uid])
            above = known[uid]
        _fill(leaf, ("InstanceNumber",), len(above) + 1)
        above.append(_Level(leaf))
    return patients


def _leaf(dataset: FileDataset, name: tuple[str, ...]) -> Dataset | None:
    """Return the record of an object; None: PS3.3 has no type of record that we know for it."""
    sop_class = UID(dataset.SOPClassUID)
    found = [each[1:] for each in _LEAVES if each[0] in f" {sop_class.name} "]
    if not found and "Rows" not in dataset:
        return None
    kind, keys = found[0] if found else _IMAGE
    needs = () if kind in _DATES_MAY_BE_EMPTY else [each for each in keys if dictionary_VR(each) in _INVENTED]
    record = _record(dataset, kind, keys, needs, 0)
    verified = [
        str(each.get("VerificationDateTime") or "") for each in dataset.get("VerifyingObserverSequence") or ()
    ]
    if kind == "SR DOCUMENT" and any(verified):
        record.VerificationDateTime = max(verified)
    record.ReferencedFileID = list(name)
    record.ReferencedSOPClassUIDInFile = sop_class
    record.ReferencedSOPInstanceUIDInFile = dataset.SOPInstanceUID
    record.ReferencedTransferSyntaxUIDInFile = dataset.file_meta.TransferSyntaxUID
    return record


def _record(dataset: Dataset, kind: str, keys: Iterable[str], needs: Iterable[str], number: int) -> Dataset:
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = 0
    record.RecordInUseFlag = _IN_USE
    record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.DirectoryRecordType = kind
    if "SpecificCharacterSet" in dataset:
        record.SpecificCharacterSet = dataset.SpecificCharacterSet
    for keyword in keys:
        if keyword in dataset:
            record.add(dataset[keyword])
        elif keyword not in _ONLY_WHERE_KNOWN:
            setattr(record, keyword, [] if dictionary_VR(keyword) == "SQ" else None)
    _fill(record, needs, number)
    return record


def _fill(record: Dataset, needs: Iterable[str], number: int) -> None:
    for keyword in needs:
        if record.get(keyword) in (None, ""):
            # a new element: the old one is the object's
            record.add_new(
                keyword, dictionary_VR(keyword), _INVENTED.get(dictionary_VR(keyword), str(number))
            )


def _directory(patients: list[_Level], uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MediaStorageDirectoryStorage, UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    directory.FileSetID = ""
    directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    directory.FileSetConsistencyFlag = 0
    directory.DirectoryRecordSequence = [each.record for each in _flat(patients)]
    # Offsets have a fixed length, so where the records lie does not depend on them: written once to see.
    places = _places(directory)
    at = {id(each.record): place for each, place in zip(_flat(patients), places, strict=True)}
    _link(patients, at)
    if patients:
        first, last = at[id(patients[0].record)], at[id(patients[-1].record)]
        directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = first
        directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = last
    return directory


def _flat(levels: list[_Level]) -> list[_Level]:
    return [each for level in levels for each in (level, *_flat(level))]


def _link(levels: list[_Level], at: dict[int, int]) -> None:
    for number, level in enumerate(levels):
        if number + 1 < len(levels):
            level.record.OffsetOfTheNextDirectoryRecord = at[id(levels[number + 1].record)]
        if level:
            level.record.OffsetOfReferencedLowerLevelDirectoryEntity = at[id(level[0].record)]
            _link(level, at)


def _places(directory: FileDataset) -> list[int]:
    """Return where each record begins in the file."""
    out = io.BytesIO()
    directory.save_as(out, enforce_file_format=True)
    out.seek(0)
    return [int(each.seq_item_tell) for each in dcmread(out).DirectoryRecordSequence]


def _write(path: Path, directory: FileDataset) -> None:
    temporary = path.with_name(f"{_FILE}.{secrets.token_hex(4)}.part")
    try:
        directory.save_as(temporary, enforce_file_format=True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
