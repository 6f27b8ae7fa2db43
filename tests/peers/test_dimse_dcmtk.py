"""Every DIMSE verb against Debian's dcmtk, in both roles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from certificates import Authority
from dicom_peers import dcmqrscp, free_port, recorder, run, serving
from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.dicom._part10 import split_file
from foreign import program

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module", autouse=True)
def dcmtk() -> None:
    program("storescu")


def _files(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for number in range(1, count + 1):
        (folder / f"{number}.dcm").write_bytes(file_bytes(ct_slice(number, size=16)))
    return folder


def _study(*keys: str) -> list[str]:
    return [
        word
        for key in ("QueryRetrieveLevel=STUDY", "StudyInstanceUID=1.2.3.1", *keys)
        for word in ("-k", key)
    ]


def test_movescu_to_a_third_entity_and_getscu(tmp_path: Path) -> None:
    third, fetched, port = tmp_path / "third", tmp_path / "fetched", free_port()
    third.mkdir()
    fetched.mkdir()
    peers = dicom.PeerTable.of([dicom.DicomPeer("THIRD", "127.0.0.1", port)])
    with (
        open_store(tmp_path) as store,
        listening(store, access=dicom.Access(peers=peers)) as node,
        serving(port, "storescp", "-aet", "THIRD", "-od", str(third), str(port)),
    ):
        store.ingest_many(file_bytes(ct_slice(n, size=16)) for n in range(1, 5))
        address = ("127.0.0.1", str(node.port))
        for model in ("-S", "-P"):
            run("movescu", model, "-aec", "TWIN", "-aem", "THIRD", *_study("PatientID=P1"), *address)
        wrong = run("movescu", "-v", "-S", "-aec", "TWIN", "-aem", "NOBODY", *_study(), *address, ok=False)
        assert "MoveDestinationUnknown" in wrong.replace(" ", "")
        run("getscu", "-S", "-aec", "TWIN", "-od", str(fetched), *_study(), *address)
    for folder in (third, fetched):
        found = sorted((dcmread(path) for path in folder.iterdir()), key=lambda ds: int(ds.InstanceNumber))
        assert [ds.PixelData for ds in found] == [ct_slice(n, size=16).PixelData for n in range(1, 5)]


def test_dcmsend_and_storescu_over_tls_with_users(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = (str(path) for path in authority.issue("ct1"))
    sent = _files(tmp_path / "sent", 2)
    table = dicom.PeerTable.of([dicom.DicomPeer("CT1", tls=True, require_user=True)], strict=True)
    users = dicom.UserTable({"radiographer": dicom.hash_passcode("s3cret")})
    access = dicom.Access(peers=table, tls=authority.tls("node"), users=users)
    secure = ("+tls", key, certificate, "+cf", str(authority.file))
    title = ("-aet", "CT1", "-aec", "TWIN")
    with open_store(tmp_path) as store, listening(store, access=access) as node:
        address = ("127.0.0.1", str(node.port))
        good, bad = ("-usr", "radiographer", "-pwd", "s3cret"), ("-usr", "radiographer", "-pwd", "wrong")
        run("storescu", *title, *secure, *good, "+sd", *address, str(sent))
        assert len(store.instances("1.2.3.1")) == 2
        run("storescu", *title, *secure, *bad, "+sd", *address, str(sent), ok=False)
        run("storescu", *title, *secure, "+sd", *address, str(sent), ok=False)
        run("storescu", *title, *good, "+sd", *address, str(sent), ok=False)  # no TLS
        anonymous = ("+tla", "-ic")  # TLS without a certificate of its own
        run("echoscu", *title, *anonymous, *good, *address, ok=False)
    with open_store(tmp_path / "plain") as store, listening(store) as node:
        run("dcmsend", "+sd", "127.0.0.1", str(node.port), str(sent))
        assert len(store.instances("1.2.3.1")) == 2


def test_the_stored_data_set_is_what_came_over_the_wire(tmp_path: Path) -> None:
    sent = _files(tmp_path / "sent", 3)
    with open_store(tmp_path) as store, listening(store) as node, recorder(node.port) as proxy:
        for options in (("-xe",), ("-xi",), ("-xb",)):
            run("storescu", *options, "+sd", "127.0.0.1", str(proxy.port), str(sent))
            kept = {
                (whole := store.read(instance.sop_uid))[split_file(whole).dataset_offset :]
                for instance in store.instances("1.2.3.1")
            }
            if options == ("-xe",):
                assert kept == set(proxy.datasets())
    assert len(proxy.datasets()) == 9


def test_findscu_finds_names_in_every_script(tmp_path: Path) -> None:
    names = {"chrH31.dcm": "Yamada*", "chrI2.dcm": "Hong*", "chrX2.dcm": "Wang*"}
    texts = {"chrH31.dcm": "山田^太郎", "chrI2.dcm": "洪^吉洞", "chrX2.dcm": "王^小东"}
    with open_store(tmp_path) as store, listening(store) as node:
        for name in names:
            (path,) = get_charset_files(name)
            store.ingest(Path(path).read_bytes())
        for name, query in names.items():
            found = tmp_path / name
            found.mkdir()
            keys = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientName={query}", "-k", "StudyInstanceUID"]
            keys += ["-k", "SpecificCharacterSet=ISO_IR 192"]
            run("findscu", "-S", "-X", "-od", str(found), *keys, "127.0.0.1", str(node.port))
            answers = [dcmread(path, force=True) for path in found.iterdir()]
            assert any(texts[name] in str(answer.PatientName) for answer in answers), name


@pytest.mark.parametrize("verb", ["find", "move"])
def test_cancel(tmp_path: Path, verb: str) -> None:
    third, port = tmp_path / "third", free_port()
    third.mkdir()
    peers = dicom.PeerTable.of([dicom.DicomPeer("THIRD", "127.0.0.1", port)])
    with (
        open_store(tmp_path) as store,
        listening(store, access=dicom.Access(peers=peers)) as node,
        serving(port, "storescp", "-aet", "THIRD", "-od", str(third), str(port)),
    ):
        store.ingest_many(file_bytes(ct_slice(n, size=8)) for n in range(1, 151))
        address = ("127.0.0.1", str(node.port))
        if verb == "find":
            keys = ("-k", "QueryRetrieveLevel=IMAGE", "-k", "SOPInstanceUID")
            output = run("findscu", "-v", "-S", "--cancel", "2", *keys, *address)
            assert "Cancel" in output
        else:
            command = ("movescu", "-v", "-S", "--cancel", "2", "-aem", "THIRD", *_study(), *address)
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            assert "Cancel" in done.stdout + done.stderr
            assert 0 < len(list(third.iterdir())) < 150
        dicom.echo(dicom.Remote("127.0.0.1", node.port))


def test_our_five_verbs_against_dcmqrscp(tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "ours") as store,
        listening(store, ae_title="TWIN") as node,
        dcmqrscp(tmp_path, destination=("TWIN", node.port)) as port,
    ):
        archive = dicom.Remote("127.0.0.1", port, called_ae="ARCHIVE")
        dicom.echo(archive)
        assert dicom.send(archive, [ct_slice(n, size=16) for n in range(1, 5)]) == 4
        (found,) = dicom.find(archive, {"PatientName": "Doe*", "StudyInstanceUID": ""})
        assert found.StudyInstanceUID == "1.2.3.1"
        assert dicom.find(archive, {"PatientName": "Nobody", "StudyInstanceUID": ""}) == []
        study = {"StudyInstanceUID": "1.2.3.1"}
        assert dicom.move(archive, "TWIN", study).completed == 4
        assert len(store.instances("1.2.3.1")) == 4
        done = dicom.get(archive, study, into=tmp_path / "fetched")
        assert done.completed == 4
        for number in range(1, 5):
            fetched = dcmread(tmp_path / "fetched" / f"1.2.3.1.1.{number}.dcm")
            assert fetched.PixelData == ct_slice(number, size=16).PixelData
        with pytest.raises(dicom.DimseFailedError, match="A801"):
            dicom.move(archive, "NOWHERE", study)


def _step(number: int, modality: str, date: str) -> dicom.WorklistItem:
    return dicom.WorklistItem(
        study_uid=f"1.2.3.{number}",
        step_id=f"SPS{number}",
        patient_id=f"P{number}",
        patient_name=["Doe^Jane", "Dole^John", "Smith^Ann"][number - 1],
        modality=modality,
        station_ae_title="AE1",
        start_date=date,
        start_time=f"{8 + number:02}0000",
        accession_number=f"A{number}",
    )


STEPS = [_step(1, "CT", "20260301"), _step(2, "MR", "20260302"), _step(3, "CT", "20260303")]
QUERIES = [
    [],
    ["ScheduledProcedureStepSequence[0].Modality=CT"],
    ["ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20260302-"],
    ["ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate=20260301-20260302"],
    ["ScheduledProcedureStepSequence[0].ScheduledStationAETitle=AE1"],
    ["PatientName=Do*"],
    ["PatientName=Do*", "ScheduledProcedureStepSequence[0].Modality=MR"],
    ["AccessionNumber=A3"],
    ["PatientID=nobody"],
]


def _found(folder: Path, address: tuple[str, str]) -> list[list[str]]:
    """Accession numbers that findscu -W gets for each query."""
    answers = []
    for index, keys in enumerate(QUERIES):
        out = folder / str(index)
        out.mkdir(parents=True)
        asked = "PatientID" if "AccessionNumber=A3" in keys else "AccessionNumber"
        words = [word for key in (*keys, asked) for word in ("-k", key)]
        run("findscu", "-W", "-X", "-aec", "WL", "-od", str(out), *words, *address)
        found = [dcmread(path, force=True) for path in sorted(out.iterdir())]
        answers.append(sorted(str(answer.AccessionNumber) for answer in found))
    return answers


def test_worklist_both_ways_with_wlmscpfs_as_oracle(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "wl" / "WL"
    folder.mkdir(parents=True)
    (folder / "lockfile").touch()
    with open_store(tmp_path) as store, listening(store, ae_title="WL") as node:
        worklist = dicom.Worklist(store)
        for item in STEPS:
            worklist.put(item)
            meta = FileMetaDataset()
            meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.31"
            meta.MediaStorageSOPInstanceUID = item.study_uid
            dataset: Dataset = item.dataset()
            FileDataset("", dataset, file_meta=meta, preamble=bytes(128)).save_as(
                folder / f"{item.step_id}.wl", enforce_file_format=True
            )
        ours = _found(tmp_path / "ours", ("127.0.0.1", str(node.port)))
        with serving(port, "wlmscpfs", "-dfp", str(tmp_path / "wl"), "-dfr", str(port)):
            theirs = _found(tmp_path / "theirs", ("127.0.0.1", str(port)))
            remote = dicom.Remote("127.0.0.1", port, called_ae="WL")
            found = dicom.worklist(remote)
    assert ours == theirs
    assert ours[0] == ["A1", "A2", "A3"]
    assert ours[1] == ["A1", "A3"]
    assert sorted(str(a.AccessionNumber) for a in found) == ["A1", "A2", "A3"]
