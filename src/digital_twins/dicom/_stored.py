"""What the image store says of its objects, and what it does with those that contradict each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from digital_twins.dicom._header import Header
    from digital_twins.storage import Landing

NEW, IDENTICAL, DIFFERENT, REPLACED = "new", "identical", "different", "replaced"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is on disk.

    Attributes
    ----------
    outcome
        ``"new"``; ``"identical"``: the same bytes were stored before; ``"different"``: another object with
        this SOP Instance UID was stored before and is kept, these bytes are not (PS3.4 section B.2.3 leaves
        the choice; first come is kept, counted and audited); ``"replaced"``: it took the place of that one.
    """

    patient_id: str = field(repr=False)
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    digest: str
    size_bytes: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Instance:
    """Where one stored object lies and what it is."""

    id: int
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    instance_number: int | None
    frames: int
    transfer_syntax: str
    digest: str
    dataset_offset: int
    size_bytes: int
    pixel_offset: int | None
    pixel_length: int | None
    rows: int
    columns: int
    bits_allocated: int
    patient_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to objects that contradict stored ones.

    Attributes
    ----------
    duplicates
        For other bytes under a known SOP Instance UID: ``"ignore"`` keeps the first and answers success,
        ``"refuse"`` answers 0111, ``"replace"`` takes the new one (of the same series only) into the index;
        the file of the old one stays.
    patient_conflicts
        For an object whose study is stored under another patient: ``"refuse"`` answers A900, ``"accept"``
        stores it under the patient of the study and says so in the audit trail.
    """

    duplicates: str = "ignore"
    patient_conflicts: str = "refuse"


@dataclass(frozen=True, slots=True)
class Prepared:
    """An object whose file is named and whose index rows are not there yet.

    Attributes
    ----------
    landing
        The file's way to the disk; None when it is there.
    """

    header: Header
    digest: str
    dataset_offset: int
    size_bytes: int
    source: str
    landing: Landing | None = field(default=None, repr=False, compare=False)
