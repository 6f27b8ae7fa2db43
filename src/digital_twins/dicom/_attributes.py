"""The attributes that this node indexes: one table drives ingest, matching, C-FIND and QIDO answers.

Keys and their levels follow PS3.4 tables C.6-1 to C.6-5 and PS3.18 section 10.6.3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(IntEnum):
    """Levels of the query model, top down."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    INSTANCE = 3


TABLES: Mapping[Level, str] = {
    Level.PATIENT: "dicom_patient",
    Level.STUDY: "dicom_study",
    Level.SERIES: "dicom_series",
    Level.INSTANCE: "dicom_instance",
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One indexed attribute.

    Attributes
    ----------
    sql
        Column of the level's table, or a sub-select over the aliases p, s, e, i for a computed attribute.
    computed
        True when `sql` is not a column: it is worked out only when asked for.
    default
        Whether QIDO-RS returns it unasked.
    """

    keyword: str
    tag: int
    vr: str
    level: Level
    sql: str
    computed: bool = False
    default: bool = True


_P, _S, _E, _I = Level
_MODALITIES = (
    "(SELECT group_concat(modality, '\\') FROM"
    " (SELECT DISTINCT modality FROM dicom_series x WHERE x.study = s.id AND modality <> '' ORDER BY 1))"
)
_SOP_CLASSES = (
    "(SELECT group_concat(sop_class_uid, '\\') FROM (SELECT DISTINCT y.sop_class_uid FROM dicom_series x"
    " JOIN dicom_instance y ON y.series = x.id WHERE x.study = s.id ORDER BY 1))"
)
_PATIENT_COUNTS = (
    "(SELECT {} FROM dicom_study y LEFT JOIN dicom_series x ON x.study = y.id WHERE y.patient = p.id)"
)

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("PatientID", 0x00100020, "LO", _P, "patient_id"),
    Attribute("IssuerOfPatientID", 0x00100021, "LO", _P, "issuer", default=False),
    Attribute("PatientName", 0x00100010, "PN", _P, "name"),
    Attribute("PatientBirthDate", 0x00100030, "DA", _P, "birth_date"),
    Attribute("PatientSex", 0x00100040, "CS", _P, "sex"),
    Attribute(
        "NumberOfPatientRelatedStudies",
        0x00201200,
        "IS",
        _P,
        _PATIENT_COUNTS.format("count(DISTINCT y.id)"),
        computed=True,
        default=False,
    ),
    Attribute(
        "NumberOfPatientRelatedSeries",
        0x00201202,
        "IS",
        _P,
        _PATIENT_COUNTS.format("count(x.id)"),
        computed=True,
        default=False,
    ),
    Attribute(
        "NumberOfPatientRelatedInstances",
        0x00201204,
        "IS",
        _P,
        _PATIENT_COUNTS.format("coalesce(sum(x.instances), 0)"),
        computed=True,
        default=False,
    ),
    Attribute("StudyInstanceUID", 0x0020000D, "UI", _S, "study_uid"),
    Attribute("StudyDate", 0x00080020, "DA", _S, "study_date"),
    Attribute("StudyTime", 0x00080030, "TM", _S, "study_time"),
    Attribute("AccessionNumber", 0x00080050, "SH", _S, "accession_number"),
    Attribute("StudyID", 0x00200010, "SH", _S, "study_id"),
    Attribute("StudyDescription", 0x00081030, "LO", _S, "description"),
    Attribute("ReferringPhysicianName", 0x00080090, "PN", _S, "referring"),
    Attribute("ModalitiesInStudy", 0x00080061, "CS", _S, _MODALITIES, computed=True),
    Attribute("SOPClassesInStudy", 0x00080062, "UI", _S, _SOP_CLASSES, computed=True, default=False),
    Attribute(
        "NumberOfStudyRelatedSeries",
        0x00201206,
        "IS",
        _S,
        "(SELECT count(*) FROM dicom_series x WHERE x.study = s.id)",
        computed=True,
    ),
    Attribute(
        "NumberOfStudyRelatedInstances",
        0x00201208,
        "IS",
        _S,
        "(SELECT coalesce(sum(x.instances), 0) FROM dicom_series x WHERE x.study = s.id)",
        computed=True,
    ),
    Attribute("SeriesInstanceUID", 0x0020000E, "UI", _E, "series_uid"),
    Attribute("Modality", 0x00080060, "CS", _E, "modality"),
    Attribute("SeriesNumber", 0x00200011, "IS", _E, "series_number"),
    Attribute("SeriesDescription", 0x0008103E, "LO", _E, "description"),
    Attribute("SeriesDate", 0x00080021, "DA", _E, "series_date", default=False),
    Attribute("SeriesTime", 0x00080031, "TM", _E, "series_time", default=False),
    Attribute("BodyPartExamined", 0x00180015, "CS", _E, "body_part", default=False),
    Attribute("Laterality", 0x00200060, "CS", _E, "laterality", default=False),
    Attribute("ProtocolName", 0x00181030, "LO", _E, "protocol", default=False),
    Attribute("Manufacturer", 0x00080070, "LO", _E, "manufacturer", default=False),
    Attribute("InstitutionName", 0x00080080, "LO", _E, "institution", default=False),
    Attribute("StationName", 0x00081010, "SH", _E, "station", default=False),
    Attribute("FrameOfReferenceUID", 0x00200052, "UI", _E, "frame_of_reference_uid", default=False),
    Attribute("PerformedProcedureStepStartDate", 0x00400244, "DA", _E, "performed_date"),
    Attribute("PerformedProcedureStepStartTime", 0x00400245, "TM", _E, "performed_time"),
    Attribute("NumberOfSeriesRelatedInstances", 0x00201209, "IS", _E, "instances"),
    Attribute("SOPInstanceUID", 0x00080018, "UI", _I, "sop_uid"),
    Attribute("SOPClassUID", 0x00080016, "UI", _I, "sop_class_uid"),
    Attribute("InstanceNumber", 0x00200013, "IS", _I, "instance_number"),
    Attribute("ContentDate", 0x00080023, "DA", _I, "content_date", default=False),
    Attribute("ContentTime", 0x00080033, "TM", _I, "content_time", default=False),
    Attribute("AcquisitionDate", 0x00080022, "DA", _I, "acquisition_date", default=False),
    Attribute("AcquisitionTime", 0x00080032, "TM", _I, "acquisition_time", default=False),
    Attribute("AcquisitionNumber", 0x00200012, "IS", _I, "acquisition_number", default=False),
    Attribute("Rows", 0x00280010, "US", _I, "rows"),
    Attribute("Columns", 0x00280011, "US", _I, "columns"),
    Attribute("BitsAllocated", 0x00280100, "US", _I, "bits_allocated"),
    Attribute("NumberOfFrames", 0x00280008, "IS", _I, "frames"),
    Attribute("AvailableTransferSyntaxUID", 0x00083002, "UI", _I, "transfer_syntax"),
)
NUMBERS = frozenset({"IS", "US"})
SPECIFIC_CHARACTER_SET = 0x00080005
_NOT_IN_OBJECT = frozenset({"NumberOfSeriesRelatedInstances", "AvailableTransferSyntaxUID"})


@cache
def by_keyword() -> Mapping[str, Attribute]:
    """Return the table by keyword."""
    return {attribute.keyword: attribute for attribute in ATTRIBUTES}


@cache
def ingested(level: Level) -> tuple[Attribute, ...]:
    """Return the attributes of one level that are read from an arriving object."""
    return tuple(
        a for a in ATTRIBUTES if a.level is level and not a.computed and a.keyword not in _NOT_IN_OBJECT
    )


@cache
def wanted_tags() -> frozenset[int]:
    """Return the tags that ingest reads."""
    return frozenset(a.tag for level in Level for a in ingested(level)) | {SPECIFIC_CHARACTER_SET}
