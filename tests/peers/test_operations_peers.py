"""What operators do, before foreign programs: dcmtk, Orthanc and dciodvfy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dicom_peers import dcmqrscp, free_port, orthanc, rest, run
from dicom_support import ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.clinical_integration import ClinicalConnector
from foreign import program

pytestmark = pytest.mark.peers
NOWHERE = "http://127.0.0.1:9/fhir"
CT = "1.2.840.10008.5.1.4.1.1.2"


def errors_of(path: Path) -> set[str]:
    """Error lines of dciodvfy."""
    done = subprocess.run(
        [program("dciodvfy"), str(path)], capture_output=True, text=True, errors="replace", check=False
    )
    return {line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")}


def test_a_note_by_storescu_hides_objects_from_findscu_and_getscu(tmp_path: Path) -> None:
    with open_store(tmp_path / "maker") as maker, open_store(tmp_path / "node") as store:
        for number in (1, 2):
            maker.ingest(file_bytes(ct_slice(number)))
        note = dicom.Rejections(maker).reject(("1.2.3.1.1.1",), "113037")
        file = maker.path(maker.instance(note.sop_uid))
        assert errors_of(file) == set()
        store.on_new = dicom.Rejections(store).follow
        with listening(store) as listener:
            port = str(listener.port)
            for number in (1, 2):
                (tmp_path / f"{number}.dcm").write_bytes(file_bytes(ct_slice(number)))
            here = ("127.0.0.1", port)
            run("storescu", *here, str(tmp_path / "1.dcm"), str(tmp_path / "2.dcm"))
            run("storescu", *here, str(file))
            keys = ("-k", "QueryRetrieveLevel=IMAGE", "-k", "StudyInstanceUID=1.2.3.1")
            shown = run("findscu", "-S", *keys, "-k", "SeriesInstanceUID", "-k", "SOPInstanceUID", *here)
            assert "1.2.3.1.1.2" in shown
            assert "1.2.3.1.1.1" not in shown
            assert note.sop_uid not in shown
            (tmp_path / "got").mkdir()
            study = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3.1")
            run("getscu", "-S", *study, "-od", str(tmp_path / "got"), *here)
            assert len(list((tmp_path / "got").iterdir())) == 1
            again = run("storescu", "-v", *here, str(tmp_path / "1.dcm"), ok=False)
            assert "0x124" in again


def test_a_coerced_object_is_no_worse_than_it_was(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    source = Path(str(get_testdata_file("CT_small.dcm")))
    rule = dicom.Coercion(set={"InstitutionName": "General"}, prefix={"PatientID": "H-"})
    with open_store(tmp_path) as store:
        store.coerce = dicom.coerce_received([rule], store, system="TWIN")
        with listening(store) as listener:
            run("storescu", "-aet", "SCANNER", "127.0.0.1", str(listener.port), str(source))
        (instance,) = store.instances(
            store.search(dicom.Query(dicom.Level.STUDY)).__next__()["StudyInstanceUID"]
        )  # type: ignore[arg-type]
        path = store.path(instance)
        assert errors_of(path) <= errors_of(source)
        dump = run("dcmdump", str(path))
        assert "OriginalAttributesSequence" in dump
        assert "[SCANNER]" in dump


def test_the_connector_at_orthanc_and_dcmqrscp(tmp_path: Path) -> None:
    port = free_port()
    with (
        orthanc(tmp_path / "orthanc", modalities={}) as (theirs, _root),
        dcmqrscp(tmp_path / "qr", destination=("TWIN", port)) as archive,
    ):
        for title, at, options in (
            ("ORTHANC", theirs, ""),
            ("ARCHIVE", archive, ""),
            ("ARCHIVE", archive, f"?receive={port}"),
        ):
            dicom.send(
                dicom.Remote("127.0.0.1", at, called_ae=title), [ct_slice(n, size=16) for n in (1, 2, 3)]
            )
            connector = ClinicalConnector(f"dicom://{title}@127.0.0.1:{at}{options}", NOWHERE)
            assert connector.test_connection()["pacs"].ok
            (study,) = connector.query_imaging("P1", modality="CT", body_part="CHEST")
            assert (study.id, study.body_parts) == ("1.2.3.1", ())
            files = connector.download_study(study.id, folder=tmp_path / f"{title}{bool(options)}")
            assert sorted(ds.InstanceNumber for ds in files) == [1, 2, 3]


def test_priors_from_orthanc_by_get_and_by_move(tmp_path: Path) -> None:
    ours = free_port()
    with (
        orthanc(tmp_path / "orthanc", modalities={"twin": ["TWIN", "127.0.0.1", ours]}) as (port, root),
        open_store(tmp_path / "node") as store,
        listening(store, on_port=ours),
    ):
        remote = dicom.Remote("127.0.0.1", port, called_ae="ORTHANC", calling_ae="TWIN")
        for number, part in ((1, "CHEST"), (2, ""), (3, "FOOT")):
            ds = ct_slice(1, study=str(number), series=f"{number}.1", size=16)
            if part:
                ds.BodyPartExamined = part
            dicom.send(remote, [ds])
        rules = [dicom.PrefetchRule("ORTHANC", modalities=("CT",), body_parts=("CHEST",))]
        queue = dicom.PrefetchQueue(store, rules)
        for profile in ("generic", "ge"):  # by C-GET, and by C-MOVE to our port
            chosen = dicom.vendor_profile(profile)
            source = dicom.dimse_source(remote, store, profile=chosen, destination="TWIN")
            queue.request("P1", order=profile)
            (entry,) = queue.due()
            done = queue.run(entry, source)
            assert (done.state, done.found, done.fetched, done.error) == ("done", 2, 2, ""), chosen.retrieve
            queue.request("P1", order=f"{profile} again")
            assert queue.run(queue.due()[0], source).fetched == 0  # nothing is lacking
            removed = dicom.Retention(store, [dicom.RetentionRule(older_than_days=1e-9)]).run().items
            assert sorted(each.study_uid for each in removed) == ["1.2.3.1", "1.2.3.2"]
        assert rest(f"{root}/statistics")
