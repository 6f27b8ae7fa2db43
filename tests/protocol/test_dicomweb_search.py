"""QIDO-RS: every kind of matching, paging, warnings, and who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom.data import get_charset_files

from dicom_support import audited, ct_slice, file_bytes, http_serving, open_store
from digital_twins import dicom
from digital_twins.dicom import DicomStore, SignInRequiredError
from web_client import web_client

Served = tuple[DicomStore, httpx.Client]
STUDIES = (
    ("P1", "Müller-Lüdenscheidt^Anna Maria", "20240110", "093000", "CT", "A1", "chest"),
    ("P2", "O'Neil^John", "20240215", "120000", "MR", "A2", "brain"),
    ("P3", "Yamada^Tarou=山田^太郎=やまだ^たろう", "20240320", "150000", "CT", "A3", ""),
    ("P4", "Mueller^Bernd", "20250101", "080000", "PT", "A3", "chest"),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, database_backend: str) -> Iterator[Served]:
    with web_client(tmp_path_factory.mktemp("node")) as (store, client):
        for number, (patient, name, day, time, modality, accession, words) in enumerate(STUDIES, 1):
            for slice_number in (1, 2):
                ds = ct_slice(slice_number, patient=patient, study=f"{number}", series=f"{number}.1")
                ds.SpecificCharacterSet = "ISO_IR 192"
                ds.PatientName, ds.StudyDate, ds.StudyTime, ds.Modality = name, day, time, modality
                ds.AccessionNumber, ds.StudyDescription = accession, words
                store.ingest(file_bytes(ds))
        yield store, client


def found(client: httpx.Client, level: str = "studies", **query: str) -> list[str]:
    answer = client.get(level, params=query)
    assert answer.status_code in {200, 204}, answer.text
    if answer.status_code == 204:
        assert answer.content == b""
        return []
    return [item["00100020"]["Value"][0] for item in answer.json()]


def tags_of(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"PatientID": "P2"}, ["P2"]),
        ({"00100020": "P2"}, ["P2"]),
        ({"PatientID": "P?"}, ["P1", "P2", "P3", "P4"]),
        ({"PatientID": r"P1\P4"}, ["P1", "P4"]),
        ({"multiplevaluematching": "true", "AccessionNumber": r"A1\A2"}, ["P1", "P2"]),
        ({"PatientName": "yamada*"}, ["P3"]),
        ({"PatientName": "山田^太郎"}, ["P3"]),
        ({"PatientName": "=山田*"}, ["P3"]),
        ({"StudyDate": "20240101-20240228"}, ["P1", "P2"]),
        ({"StudyDate": "20240320-"}, ["P3", "P4"]),
        ({"StudyDate": "-20240110"}, ["P1"]),
        ({"StudyDate": "20240215", "StudyTime": "11-13"}, ["P2"]),
        ({"StudyTime": "0930"}, ["P1"]),
        ({"ModalitiesInStudy": "CT"}, ["P1", "P3"]),
        ({"ModalitiesInStudy": r"MR\PT"}, ["P2", "P4"]),
        ({"StudyInstanceUID": "1.2.3.1,1.2.3.4"}, ["P1", "P4"]),
        ({"StudyInstanceUID": r"1.2.3.1\1.2.3.2"}, ["P1", "P2"]),
        ({"StudyDescription": ""}, ["P1", "P2", "P3", "P4"]),
        ({"StudyDescription": '""', "emptyvaluematching": "true"}, ["P3"]),
        ({"StudyDescription": "ch*t"}, ["P1", "P4"]),
        ({"AccessionNumber": "A3", "PatientID": "P4"}, ["P4"]),
        ({"PatientID": "nobody"}, []),
        ({"fuzzymatching": "true", "PatientName": "mul"}, ["P1"]),
        ({"fuzzymatching": "true", "PatientName": "muller maria"}, ["P1"]),
        ({"fuzzymatching": "true", "PatientName": "LUDEN^ann"}, ["P1"]),
        ({"fuzzymatching": "true", "PatientName": "mue"}, ["P4"]),
        ({"fuzzymatching": "true", "PatientName": "ller"}, []),
        ({"fuzzymatching": "true", "PatientName": "太"}, ["P3"]),
        ({"fuzzymatching": "false", "PatientName": "muller"}, []),
    ],
)
def test_matching_of_studies(served: Served, query: dict[str, str], expected: list[str]) -> None:
    assert found(served[1], **query) == expected


def test_matching_below_studies(served: Served) -> None:
    client = served[1]
    assert found(client, "series", Modality="CT") == ["P1", "P3"]
    assert found(client, "series", Modality="CT", PatientName="Yamada*") == ["P3"]
    assert found(client, "instances", PatientID="P1", InstanceNumber="2") == ["P1"]
    assert len(found(client, "instances")) == 8
    assert found(client, "studies/1.2.3.1/instances") == ["P1", "P1"]
    uids = "1.2.3.1.1.1,1.2.3.2.1.2"
    assert found(client, "instances", SOPInstanceUID=uids) == ["P1", "P2"]
    assert found(client, "instances", SOPClassUID="1.2.840.10008.5.1.4.1.1.2", limit="3") == [
        "P1",
        "P1",
        "P2",
    ]


def test_answers_hold_what_the_standard_asks_for(served: Served) -> None:
    client = served[1]
    study = client.get("studies", params={"PatientID": "P1"}).json()[0]
    assert tags_of(
        "00080005 00080020 00080030 00080050 00080056 00080061 00080090 00081190 00100010 00100020"
        " 00100030 00100040 0020000D 00200010 00201206 00201208"
    ) <= set(study)
    assert study["00201208"]["Value"] == [2]
    assert study["00080061"]["Value"] == ["CT"]
    series = client.get("series", params={"PatientID": "P1"}).json()[0]
    assert tags_of("00080060 0008103E 0020000E 00200011 00201209 00400244 00400245 00081190") <= set(series)
    instance = client.get("instances", params={"PatientID": "P1", "limit": "1"}).json()[0]
    assert tags_of("00080016 00080018 00080056 00200013 00280010 00280011 00280100 00081190") <= set(instance)
    every = client.get("instances", params={"PatientID": "P1", "limit": "1", "includefield": "all"}).json()[0]
    assert {"00180050", "00280030"} <= set(every)
    assert "7FE00010" not in every
    named = client.get(
        "studies", params=[("includefield", "00201206,StudyDescription"), ("includefield", "PatientWeight")]
    )
    assert named.status_code == 200


def test_paging_does_not_move_when_something_arrives(served: Served) -> None:
    store, client = served
    first = client.get("instances", params={"limit": "5"})
    assert "additional results" in first.headers["Warning"]
    store.ingest(file_bytes(ct_slice(3, patient="P1", study="1", series="1.1")))
    second = client.get("instances", params={"limit": "5", "offset": "5"})
    assert "Warning" not in second.headers
    uids = [item["00080018"]["Value"][0] for item in first.json() + second.json()]
    assert len(uids) == len(set(uids)) == 9
    assert client.get("instances", params={"offset": "100"}).status_code == 204


def test_what_is_not_understood_is_refused_or_named(served: Served) -> None:
    client = served[1]
    for query in (
        {"Nonsense": "1"},
        {"limit": "x"},
        {"fuzzymatching": "maybe"},
        {"StudyDate": "2024"},
        {"PatientID": "\\".join(["x"] * 1001)},
    ):
        assert client.get("studies", params=query).status_code == 400, query
    ignored = client.get("studies", params={"PatientWeight": "80"})
    assert "parameter PatientWeight was ignored" in ignored.headers["Warning"]
    assert client.get("studies", headers={"Accept": "text/html"}).status_code == 406


def test_every_search_is_audited_once(served: Served) -> None:
    store, client = served
    before = len(audited(store))
    client.get("series", params={"Modality": "CT"})
    client.get("series", params={"Modality": "NONE"})
    events = audited(store)[before:]
    assert [(e["kind"], e["detail"]["matches"]) for e in events] == [("dicom.find", 2), ("dicom.find", 0)]


def test_sign_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    asked: list[str] = []

    async def authorize(connection: Any, operation: str) -> str:
        asked.append(operation)
        if connection.headers.get("authorization") != "Bearer good":
            raise SignInRequiredError("Sign in first.", "The token is missing or not valid.", "Get a token.")
        return "dr-who"

    with web_client(tmp_path_factory.mktemp("guarded"), authorize=authorize) as (store, client):
        store.ingest(file_bytes(ct_slice(1)))
        refused = client.get("studies")
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert client.post("studies", content=b"x").status_code == 401
        assert client.get("workitems", headers={"Authorization": "Bearer bad"}).status_code == 401
        allowed = client.get("studies/1.2.3.1/metadata", headers={"Authorization": "Bearer good"})
        assert allowed.status_code == 200
        assert audited(store)[-1]["agent"] == "dr-who"
    assert asked == ["search", "store", "read-workitem", "retrieve"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "query", "group", "text"),
    [
        ("chrH31.dcm", "山田*", "Ideographic", "山田^太郎"),
        ("chrI2.dcm", "=洪^吉洞", "Phonetic", "홍^길동"),
        ("chrX1.dcm", "王^小東", "Ideographic", "王^小東"),
        ("chrX2.dcm", "wang*", "Ideographic", "王^小东"),
    ],
)
def test_japanese_korean_and_chinese_names(
    tmp_path: Path, name: str, query: str, group: str, text: str
) -> None:
    (path,) = get_charset_files(name)
    with open_store(tmp_path) as store:
        store.ingest(Path(path).read_bytes())
        with http_serving(dicom.dicomweb_routes(store)) as web:
            (answer,) = httpx.get(f"{web}/studies", params={"PatientName": query}).json()
    assert answer["00100010"]["Value"][0][group] == text
