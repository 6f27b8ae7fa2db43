"""The matcher of C-FIND and QIDO-RS against a small index."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dicom_support import ct_slice, file_bytes, open_store
from digital_twins import InputError
from digital_twins.dicom import DicomStore, Level, Query
from digital_twins.dicom._query import _name, find


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, database_backend: str) -> Iterator[DicomStore]:
    with open_store(tmp_path_factory.mktemp("query")) as store:
        for study, (name, date, time) in enumerate(
            [("Doe^Jane", "20240110", "101500"), ("Doe^John", "20240220", "0930"), ("O[x]_%^A", "", "")], 1
        ):
            for series, modality in ((1, "CT"), (2, "SEG")):
                ds = ct_slice(
                    series, patient=f"P{study}", study=str(study), series=f"{study}.{series}", size=8
                )
                ds.PatientName, ds.StudyDate, ds.StudyTime, ds.Modality = name, date, time, modality
                ds.AccessionNumber = f"ACC_{study}"
                store.ingest(file_bytes(ds))
        yield store


def _studies(store: DicomStore, **conditions: str) -> list[str]:
    matches = find(store.database, Query(Level.STUDY, conditions), limit=100)
    return [str(m["StudyInstanceUID"])[-1] for m in matches]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, "123"),
        ({"PatientID": "P2"}, "2"),
        ({"PatientID": "p2"}, ""),
        ({"PatientID": "P?"}, "123"),
        ({"PatientName": "DOE^*"}, "12"),
        ({"PatientName": "doe^jane"}, "1"),
        ({"PatientName": "doe^jane^^"}, "1"),
        ({"PatientName": "o[x]_%*"}, "3"),
        ({"PatientName": "[a-z]*"}, ""),
        ({"PatientName": "%"}, ""),
        ({"AccessionNumber": "ACC_*"}, "123"),
        ({"AccessionNumber": "ACC?1"}, "1"),
        ({"StudyDate": "20240110"}, "1"),
        ({"StudyDate": "20240101-20240131"}, "1"),
        ({"StudyDate": "20240111-"}, "2"),
        ({"StudyDate": "-20240201"}, "1"),
        ({"StudyTime": "0900-1000"}, "2"),
        ({"StudyTime": "10"}, "1"),
        ({"StudyInstanceUID": "1.2.3.1\\1.2.3.3"}, "13"),
        ({"StudyInstanceUID": "1.2.3.*"}, ""),
        ({"ModalitiesInStudy": "SEG"}, "123"),
        ({"ModalitiesInStudy": "MR\\PT"}, ""),
        ({"PatientID": "*", "StudyDate": ""}, "123"),
        ({"PatientID": "x' OR '1'='1"}, ""),
    ],
)
def test_matching(store: DicomStore, conditions: dict[str, str], expected: str) -> None:
    assert "".join(_studies(store, **conditions)) == expected


@pytest.mark.parametrize(
    "conditions", [{"Modality": "CT"}, {"StudyDate": "2024"}, {"StudyDate": "x-y"}, {"Nonsense": "1"}]
)
def test_refused_queries(store: DicomStore, conditions: dict[str, str]) -> None:
    with pytest.raises(InputError):
        _studies(store, **conditions)


def test_computed_attributes_and_paging(store: DicomStore) -> None:
    wanted = frozenset({"ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"})
    (match,) = find(store.database, Query(Level.STUDY, {"PatientID": "P1"}, wanted), limit=9)
    assert (match["ModalitiesInStudy"], match["NumberOfStudyRelatedSeries"]) == ("CT\\SEG", 2)
    assert "SOPClassesInStudy" not in match
    assert len(find(store.database, Query(Level.SERIES), limit=4, offset=4)) == 2
    assert len(list(store.search(Query(Level.INSTANCE)))) == 6
    (patient,) = find(
        store.database,
        Query(Level.PATIENT, {"PatientID": "P1"}, frozenset({"NumberOfPatientRelatedInstances"})),
        limit=9,
    )
    assert patient["NumberOfPatientRelatedInstances"] == 2


def test_indexes_serve_the_beginning_of_a_pattern(store: DicomStore) -> None:
    clause, values = _name("name", "DOE^J*")
    with store.database.read() as connection:
        sql = f"EXPLAIN QUERY PLAN SELECT id FROM dicom_patient WHERE {clause}"
        plan = [row[3] for row in connection.execute(sql, values)]
    for kind in ("alphabetic", "ideographic", "phonetic"):
        searched = f"SEARCH dicom_patient USING INDEX dicom_patient_{kind} (name_{kind}>? AND name_{kind}<?)"
        assert searched in plan
