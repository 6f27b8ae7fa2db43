"""C-FIND beyond the plain keys: sequences, character sets, fuzzy names, combined times."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as StudyFind

from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.dicom._identifier import read_dataset, write_dataset
from digital_twins.dicom._text import name_key, soundex, sounds_like


def _ask(port: int, identifier: Dataset, *, negotiated: bytes = b"") -> list[Any]:
    """Query with pynetdicom and return (status, identifier) as they come; the context is explicit."""
    ae = AE()
    ae.add_requested_context(StudyFind, "1.2.840.10008.1.2.1")
    extended = []
    if negotiated:
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = StudyFind, negotiated
        extended.append(item)
    association = ae.associate("127.0.0.1", port, ext_neg=extended)
    answers = list(association.send_c_find(identifier, StudyFind))
    association.release()
    return answers


def _identifier(level: str = "STUDY", **keys: Any) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def test_what_the_index_does_not_hold_comes_from_the_object(tmp_path: Path) -> None:
    ds = ct_slice(1, size=8)
    request, code = Dataset(), Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99L", "chest"
    ds.RequestAttributesSequence, ds.ProcedureCodeSequence = [request], [code]
    ds.OperatorsName, ds.PatientAge = "Op^Erator", "063Y"
    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest(file_bytes(ds))
        asked = _identifier(
            "SERIES",
            StudyInstanceUID="1.2.3.1",
            RequestAttributesSequence=[Dataset()],
            ProcedureCodeSequence=[],
            OperatorsName=None,
            PatientAge=None,
            InstanceAvailability=None,
            NumberOfStudyRelatedSeries=None,
            NumberOfStudyRelatedInstances=None,
            ModalitiesInStudy=None,
            InstitutionAddress=None,
        )
        (status, answer), (final, _) = _ask(node.port, asked)
        unmatched = _ask(node.port, _identifier(PatientAge="001Y", StudyInstanceUID=None))
    assert (status.Status, final.Status) == (0xFF00, 0)
    assert answer.RequestAttributesSequence[0].RequestedProcedureID == "RP1"
    assert answer.ProcedureCodeSequence[0].CodeMeaning == "chest"
    assert (answer.OperatorsName, answer.PatientAge) == ("Op^Erator", "063Y")
    assert (answer.InstanceAvailability, answer.ModalitiesInStudy) == ("ONLINE", "CT")
    assert (answer.NumberOfStudyRelatedSeries, answer.NumberOfStudyRelatedInstances) == (1, 1)
    assert "InstitutionAddress" in answer
    assert not answer.InstitutionAddress
    # A key that is not matched upon says so (PS3.4 C.4.1.1.4), and does not narrow the answer.
    assert unmatched[0][0].Status == 0xFF01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "terms", "query"),
    [
        ("chrH31.dcm", ["", "ISO 2022 IR 87"], "=山田*"),
        ("chrH32.dcm", ["ISO 2022 IR 13", "ISO 2022 IR 87"], "*山田*"),
        ("chrI2.dcm", ["", "ISO 2022 IR 149"], "=洪^*"),
        ("chrX1.dcm", ["ISO_IR 192"], "王^小東"),
        ("chrX2.dcm", ["GB18030"], "王^小东"),
        ("chrGreek.dcm", ["ISO_IR 126"], "διον*"),
        ("chrRuss.dcm", ["ISO_IR 144"], "люк*"),
        ("chrKoreanMulti.dcm", ["", "ISO 2022 IR 149"], "*"),
    ],
)
def test_answers_come_in_the_character_set_of_the_question(
    tmp_path: Path, name: str, terms: list[str], query: str
) -> None:
    (path,) = get_charset_files(name)
    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest(Path(path).read_bytes())
        store.ingest(file_bytes(ct_slice(1, study="9", series="9.1")))
        plain = dicom.find(dicom.Remote("127.0.0.1", node.port), {"PatientName": query})
        asked = _identifier(PatientName=query, StudyInstanceUID=None)
        asked.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
        answers = _ask(node.port, asked)
    names = {str(a.StudyInstanceUID): str(a.PatientName) for a in plain}
    assert len(answers) == len(plain) + 1
    for _status, answer in answers[:-1]:
        declared = answer.SpecificCharacterSet
        assert ([declared] if isinstance(declared, str) else list(declared)) == terms
        answer.decode()
        assert str(answer.PatientName) == names[str(answer.StudyInstanceUID)]


@pytest.mark.filterwarnings("ignore")
def test_text_that_the_character_set_lacks_comes_in_utf_8(tmp_path: Path) -> None:
    (path,) = get_charset_files("chrX2.dcm")
    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest(Path(path).read_bytes())
        for terms in ("ISO_IR 100", ""):
            asked = _identifier(PatientName="*", StudyInstanceUID=None)
            if terms:
                asked.SpecificCharacterSet = terms
            answer = _ask(node.port, asked)[0][1]
            assert answer.SpecificCharacterSet == "ISO_IR 192"
            answer.decode()
            assert str(answer.PatientName) == "Wang^XiaoDong=王^小东"


def test_ascii_for_a_peer_that_names_no_character_set() -> None:
    answer = Dataset()
    answer.PatientName = "Doe^Jane"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = write_dataset(answer, implicit=True, character_set=())
    # It shall not be there where the default repertoire is enough (PS3.4 C.4.1.1.3.2).
    assert "SpecificCharacterSet" not in read_dataset(encoded, implicit=True)


@pytest.mark.parametrize("terms", [(), ("",), ("ISO_IR 6",), ("", "ISO 2022 IR 87"), ("ISO 2022 IR 6",)])
def test_letters_with_marks_never_go_undeclared(terms: tuple[str, ...]) -> None:
    item = Dataset()
    item.CodeMeaning = "Schädel"
    for answer_text in ({"PatientName": "Müller^Jörg"}, {"ProcedureCodeSequence": [item]}):
        answer = Dataset()
        answer.update(answer_text)
        encoded = write_dataset(answer, implicit=True, character_set=terms)
        read = read_dataset(encoded, implicit=True)
        assert read.SpecificCharacterSet == "ISO_IR 192"
        assert "ü".encode() in encoded or "ä".encode() in encoded


def test_fuzzy_names_by_negotiation(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        for number, name in enumerate(
            ["Meier^Hans", "Mayer^Hanna", "Müller^Jörg", "Smith^John", "山田^太郎"], 1
        ):
            ds = ct_slice(1, patient=f"P{number}", study=str(number), series=f"{number}.1", size=8)
            ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", name
            store.ingest(file_bytes(ds))
        remote = dicom.Remote("127.0.0.1", node.port)

        def names(query: str, *, fuzzy: bool) -> list[str]:
            found = dicom.find(remote, {"PatientName": query}, fuzzy_names=fuzzy)
            return sorted(str(a.PatientName).split("^")[0] for a in found)

        assert names("meyer", fuzzy=False) == []
        assert names("meyer", fuzzy=True) == ["Mayer", "Meier"]
        assert names("hans meyer", fuzzy=True) == ["Meier"]
        assert names("mueller^jorg", fuzzy=True) == ["Müller"]
        assert names("smiht", fuzzy=True) == ["Smith"]
        assert names("smyth^jon", fuzzy=True) == ["Smith"]
        assert names("山田", fuzzy=True) == ["山田"]
        assert names("garcia", fuzzy=True) == []


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("robert", "r163"),
        ("rupert", "r163"),
        ("rubin", "r150"),
        ("ashcraft", "a261"),
        ("tymczak", "t522"),
        ("pfister", "p236"),
        ("honeyman", "h555"),
        ("jackson", "j250"),
        ("lee", "l000"),
    ],
)
def test_soundex_as_the_national_archives_write_it(word: str, code: str) -> None:
    assert soundex(word) == code


def test_sounds_like_wants_every_word() -> None:
    assert sounds_like(name_key("Jane Doe"), name_key("Doe^Jane^Mary"))
    assert not sounds_like(name_key("Jane Miller"), name_key("Doe^Jane^Mary"))


@pytest.mark.parametrize(
    ("date", "time", "separate", "combined"),
    [
        # Apart, the time range cuts each day; combined, it is one span of moments (PS3.4 C.2.2.2.5.4).
        ("20240110-20240112", "1000-1200", ["1", "3"], ["1", "2", "3"]),
        ("20240110-20240112", "1630-1200", [], ["2", "3"]),
        ("20240111-", "1830-", [], ["3"]),
        ("-20240111", "-1800", ["1", "2"], ["1", "2"]),
    ],
)
def test_combined_date_and_time_ranges(
    tmp_path: Path, date: str, time: str, separate: list[str], combined: list[str]
) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        for number, moment in enumerate(["20240110 1015", "20240111 180000", "20240112 110000.5"], 1):
            ds = ct_slice(1, patient=f"P{number}", study=str(number), series=f"{number}.1", size=8)
            ds.StudyDate, ds.StudyTime = moment.split()
            store.ingest(file_bytes(ds))
        asked = _identifier(StudyDate=date, StudyTime=time, StudyInstanceUID=None)

        def found(negotiated: bytes) -> list[str]:
            answers = _ask(node.port, asked, negotiated=negotiated)
            return [str(a.StudyInstanceUID)[-1] for s, a in answers if s.Status in {0xFF00, 0xFF01}]

        assert found(b"") == separate
        assert found(b"\0\1\0\0\0") == combined


def test_a_time_to_the_minute_is_its_first_second(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        ds = ct_slice(1, size=8)
        ds.StudyTime = "0930"
        store.ingest(file_bytes(ds))
        for asked, hit in (
            ("093000-", True),
            ("093000.00-094000", True),
            ("093001-", False),
            ("09-10", True),
        ):
            found = list(store.search(dicom.Query(dicom.Level.STUDY, {"StudyTime": asked})))
            assert bool(found) == hit, asked
