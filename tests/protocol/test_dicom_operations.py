"""What operators do to stored objects: rejection notes, merges, coercion, retention."""

from __future__ import annotations

import shutil
import zlib
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_forwarding import forwarding, wait_for
from dicom_support import audited, ct_slice, file_bytes, http_serving, listening, open_store
from digital_twins import ConflictError, InputError, NotFoundError, StorageError, dicom

QUALITY, SAFETY, WRONG_ENTRY, EXPIRED = "113001", "113037", "113038", "113039"


def rejecting(store: dicom.DicomStore, **options: object) -> dicom.Rejections:
    rejections = dicom.Rejections(store, **options)  # type: ignore[arg-type]
    store.on_new = rejections.follow
    return rejections


def found(port: int, study: str = "1.2.3.1") -> list[str]:
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": "", "SOPInstanceUID": ""}
    answers = dicom.find(dicom.Remote("127.0.0.1", port), keys, level="IMAGE")
    return sorted(str(each.SOPInstanceUID) for each in answers)


@pytest.mark.parametrize("reason", [SAFETY, WRONG_ENTRY, EXPIRED, QUALITY])
def test_a_received_note_hides_objects_from_every_door(tmp_path: Path, reason: str) -> None:
    with open_store(tmp_path / "sender") as sender, open_store(tmp_path / "node") as store:
        for number in (1, 2):
            sender.ingest(file_bytes(ct_slice(number)))
        rejecting(store)
        note = dicom.Rejections(sender).reject(("1.2.3.1.1.1",), reason, description="wrong side")
        with listening(store) as listener, http_serving(dicom.dicomweb_routes(store)) as web:
            remote = dicom.Remote("127.0.0.1", listener.port)
            dicom.send(remote, [ct_slice(1), ct_slice(2)])
            dicom.send(remote, [sender.dataset(note.sop_uid)])
            assert found(listener.port) == ["1.2.3.1.1.2"]
            (study,) = dicom.find(remote, {"StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""})
            assert study.NumberOfStudyRelatedInstances == 1
            got: list[bytes] = []
            keys = {"StudyInstanceUID": "1.2.3.1"}
            assert dicom.get(remote, keys, into=got.append).completed == 1
            instances = httpx.get(f"{web}/studies/1.2.3.1/instances").json()
            assert [each["00080018"]["Value"] for each in instances] == [["1.2.3.1.1.2"]]
            for part in ("", "/metadata", "/frames/1"):
                place = f"{web}/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1{part}"
                assert httpx.get(place).status_code == 404
            assert httpx.get(f"{web}/studies/1.2.3.1/series/{note.series_uid}/metadata").status_code == 404
            dicom.send(remote, [sender.dataset(note.sop_uid)])  # sent again it changes nothing
            if reason == EXPIRED:
                dicom.send(remote, [ct_slice(1)])
                assert len(found(listener.port)) == 2
            else:
                with pytest.raises(dicom.DimseFailedError, match="0x0124"):
                    dicom.send(remote, [ct_slice(1)])
        (event,) = (each for each in audited(store) if each["kind"] == "dicom.reject")
        assert event["detail"] == {"reason": reason, "objects": 1, "hidden": 1, "absent": 0, "ignored": 0}


def test_what_quality_rejects_stays_visible_where_the_site_wants_it(tmp_path: Path) -> None:
    seen: list[dicom.Rejection] = []
    with open_store(tmp_path) as store:
        rejections = rejecting(store, show_quality=True, on_rejected=lambda _cursor, each: seen.append(each))
        store.ingest(file_bytes(ct_slice(1)))
        rejections.reject(("1.2.3.1.1.1",), QUALITY)
        assert len(store.instances("1.2.3.1")) == 2  # the object and its note
        assert (seen[0].sop_uids, seen[0].hidden) == (("1.2.3.1.1.1",), False)
        rejections.reject(("1.2.3.1.1.1",), SAFETY)
        assert [each.sop_class_uid[-5:] for each in store.instances("1.2.3.1")] == ["88.59"]
        with pytest.raises(InputError, match="cannot be rejected"):
            rejections.reject(("1.2.3.1.1.1",), "113000")
        with pytest.raises(NotFoundError):
            rejections.reject(("1.2.3.1.1.1",), SAFETY)


def test_a_note_cannot_reach_another_patient_and_may_come_first(tmp_path: Path) -> None:
    with open_store(tmp_path / "other") as other, open_store(tmp_path / "node") as store:
        other.ingest(file_bytes(ct_slice(1, patient="P2", study="2", series="2.1")))
        note = dicom.Rejections(other).reject(("1.2.3.2.1.1",), SAFETY)
        document = other.dataset(note.sop_uid)
        rejections = rejecting(store)
        store.ingest(file_bytes(ct_slice(1)))
        evidence = document.CurrentRequestedProcedureEvidenceSequence[0]
        evidence.StudyInstanceUID = "1.2.3.1"
        evidence.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.1.1"
        evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.1.1.1"
        store.ingest(file_bytes(document))
        assert len(store.instances("1.2.3.1")) == 1
        assert [e["detail"]["ignored"] for e in audited(store) if e["kind"] == "dicom.reject"] == [1]
        first = other.dataset(note.sop_uid)
        first.SOPInstanceUID = first.file_meta.MediaStorageSOPInstanceUID = "1.2.3.77"
        store.ingest(file_bytes(first))
        assert [each.stored for each in rejections.withdrawn("1.2.3.2")] == [
            True,
            False,
            True,
        ]  # both notes and the object that never came
        with pytest.raises(dicom.ObjectRefusedError, match="withdrawn"):
            store.ingest(file_bytes(ct_slice(1, patient="P2", study="2", series="2.1")))


def test_every_column_is_put_back(tmp_path: Path) -> None:
    from digital_twins.dicom._removal import COLUMNS

    with open_store(tmp_path) as store, store.database.read() as connection:
        for table, names in COLUMNS.items():
            there = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            assert there == names


def test_a_withdrawal_of_a_whole_study_can_be_undone(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        rejections = rejecting(store)
        store.ingest_many([file_bytes(ct_slice(number)) for number in (1, 2)])
        before = store.read("1.2.3.1.1.1")
        note = rejections.reject(rejections.objects_of("1.2.3.1"), WRONG_ENTRY)
        assert list(store.search(dicom.Query(dicom.Level.PATIENT))) == []
        assert rejections.restore(note.sop_uid) == 3
        assert store.read("1.2.3.1.1.1") == before
        (study,) = store.search(
            dicom.Query(dicom.Level.STUDY, returning=frozenset({"NumberOfStudyRelatedInstances"}))
        )
        assert study["NumberOfStudyRelatedInstances"] == 3
        with pytest.raises(NotFoundError):
            rejections.restore(note.sop_uid)


def test_merge_and_unmerge(tmp_path: Path) -> None:
    old, new = ("P1", ""), ("P9", "")
    with open_store(tmp_path) as store:
        store.ingest(file_bytes(ct_slice(1)))
        kept = ct_slice(1, patient="P9", study="9", series="9.1")
        kept.PatientName = "Muster^Eva"
        store.ingest(file_bytes(kept))
        bytes_before = store.read("1.2.3.1.1.1")
        with http_serving(dicom.dicomweb_routes(store)) as web, listening(store) as listener:
            remote = dicom.Remote("127.0.0.1", listener.port)

            def patients() -> set[str]:
                answers = dicom.find(remote, {"PatientID": ""}, level="PATIENT", model="patient")
                return {str(each.PatientID) for each in answers}

            def metadata() -> str:
                answer = httpx.get(f"{web}/studies/1.2.3.1/metadata").json()[0]
                return answer["00100020"]["Value"][0] + " " + answer["00100010"]["Value"][0]["Alphabetic"]

            assert metadata() == "P1 Doe^Jane"
            merge = dicom.merge_patients(store, old, new, agent="tester")
            assert patients() == {"P9"}
            assert metadata() == "P9 Muster^Eva"
            assert len(dicom.find(remote, {"PatientID": "P9", "StudyInstanceUID": ""})) == 2
            assert len(httpx.get(f"{web}/studies", params={"PatientID": "P9"}).json()) == 2
            assert store.read("1.2.3.1.1.1") == bytes_before
            # what is retrieved is what came, with the number that the sender gave it
            got: list[bytes] = []
            dicom.get(remote, {"StudyInstanceUID": "1.2.3.1"}, into=got.append)
            place = f"{web}/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1"
            got.append(httpx.get(place, headers={"Accept": "application/dicom"}).content)
            assert [dcmread(BytesIO(file)).PatientID for file in got] == ["P1", "P1"]
            # more of the merged study, and a new study under the old number, are filed under the survivor
            more = ct_slice(1, study="3", series="3.1")
            assert dicom.send(remote, [ct_slice(2), more]) == 2
            assert len(dicom.find(remote, {"PatientID": "P9", "StudyInstanceUID": ""})) == 3
            with pytest.raises(dicom.DimseFailedError):  # a third patient is still a conflict
                dicom.send(remote, [ct_slice(3, patient="P3")])
            with pytest.raises(ConflictError):
                dicom.merge_patients(store, new, old)
            undone = dicom.unmerge_patients(store, merge.id)
            assert undone.undone_utc
            assert patients() == {"P1", "P9"}
            assert len(dicom.find(remote, {"PatientID": "P1", "StudyInstanceUID": ""})) == 2
            assert metadata() == "P1 Doe^Jane"
            with pytest.raises(ConflictError):
                dicom.unmerge_patients(store, merge.id)
        kinds = [each["kind"] for each in audited(store)]
        assert kinds.count("dicom.patient.merge") == kinds.count("dicom.patient.unmerge") == 1
        with pytest.raises(NotFoundError):
            dicom.merge_patients(store, ("NOBODY", ""), new)


def coercing(store: dicom.DicomStore, *rules: dicom.Coercion) -> None:
    dicom.check_coercions(rules)
    store.coerce = dicom.coerce_received(rules, store, system="TWIN")


@pytest.mark.parametrize(
    "syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_coercion_on_receipt_keeps_what_was_there(tmp_path: Path, syntax: str | None) -> None:
    ds = ct_slice(1)
    ds.add_new(0x00090010, "LO", "PRIVATE")
    ds.add_new(0x00091001, "OB", b"\x01\x02\x03\x04")
    if syntax is not None:
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = bytes(len(ds.PixelData))
        ds = dcmread(BytesIO(_encoded(ds, syntax)))
    rule = dicom.Coercion(
        calling=("SCANNER",),
        modalities=("CT",),
        set={"InstitutionName": "Zürich", "AccessionNumber": "A1"},
        remove=("StudyID", "PatientComments"),
        prefix={"PatientID": "H-", "StudyDescription": "x"},
    )
    with open_store(tmp_path) as store:
        coercing(store, rule)
        with listening(store) as listener:
            remote = dicom.Remote("127.0.0.1", listener.port, calling_ae="SCANNER")
            dicom.send(remote, [ds])
            dicom.send(remote, [ds])
            stored = store.dataset("1.2.3.1.1.1")
            assert (stored.PatientID, stored.InstitutionName, "StudyID" in stored) == (
                "H-P1",
                "Zürich",
                False,
            )
            assert stored[0x00091001].value == b"\x01\x02\x03\x04"
            assert stored.PixelData == ds.PixelData
            (item,) = stored.OriginalAttributesSequence
            assert (item.ModifyingSystem, item.SourceOfPreviousValues) == ("TWIN", "SCANNER")
            assert item.ReasonForTheAttributeModification == "COERCE"
            (old,) = item.ModifiedAttributesSequence
            assert (old.PatientID, old.StudyID, old.InstitutionName) == ("P1", "S1", "")
            assert "AccessionNumber" not in old  # it had that value already
            assert [e["detail"]["outcome"] for e in audited(store) if e["kind"] == "dicom.store"] == [
                "new",
                "identical",
            ]
            assert len(dicom.find(remote, {"PatientID": "H-P1", "StudyInstanceUID": ""})) == 1
            # another sender: byte for byte
            other = dicom.Remote("127.0.0.1", listener.port, calling_ae="OTHER")
            plain = ct_slice(1, study="2", series="2.1")
            dicom.send(other, [plain])
            file = store.read("1.2.3.2.1.1")
            start = store.instance("1.2.3.2.1.1").dataset_offset
            assert file[start:] in file_bytes(plain)


def _encoded(ds: Dataset, syntax: str) -> bytes:
    from pydicom.filewriter import dcmwrite

    if syntax == DeflatedExplicitVRLittleEndian:
        file = file_bytes_explicit(ds)
        from digital_twins.dicom._part10 import file_header, split_file

        start = split_file(file).dataset_offset
        packer = zlib.compressobj(wbits=-15)
        body = packer.compress(file[start:]) + packer.flush()
        return file_header(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + body + b"\0" * (len(body) % 2)
    buffer = BytesIO()
    big = syntax == ExplicitVRBigEndian
    dcmwrite(buffer, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=not big)
    return buffer.getvalue()


def file_bytes_explicit(ds: Dataset) -> bytes:
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return file_bytes(ds)


def test_coercion_on_forwarding_leaves_the_stored_object_alone(tmp_path: Path) -> None:
    rules = [
        dicom.Coercion(when="forward", destinations=("FAR",), prefix={"PatientID": "X-"}),
        dicom.Coercion(when="forward", calling=("NOBODY",), remove=("StudyDate",)),
    ]
    dicom.check_coercions(rules)
    routes = [dicom.Route("FAR"), dicom.Route("NEAR")]
    options = {"coercions": rules, "system": "TWIN"}
    with (
        forwarding(tmp_path / "a", routes, **options) as (store, queues, start),
        open_store(tmp_path / "b") as far,
        open_store(tmp_path / "c") as near,
        listening(far) as far_port,
        listening(near) as near_port,
    ):
        store.on_new = dicom.route_new(
            routes, queues, stable_s=0.2, pseudonym=store.pseudonym, coercions=rules
        )
        store.ingest(file_bytes(ct_slice(1)), source="SCANNER")
        start(
            FAR=dicom.Destination(dicom.Remote("127.0.0.1", far_port.port)),
            NEAR=dicom.Destination(dicom.Remote("127.0.0.1", near_port.port)),
        )
        wait_for(lambda: sum(state.sent for state in queues.states()) == 2)
        sent = far.dataset("1.2.3.1.1.1")
        assert (sent.PatientID, sent.StudyDate) == ("X-P1", "20240110")
        assert sent.OriginalAttributesSequence[0].SourceOfPreviousValues == "SCANNER"
        assert store.dataset("1.2.3.1.1.1").PatientID == "P1"
        assert near.read("1.2.3.1.1.1") == store.read("1.2.3.1.1.1")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (dicom.Coercion(set={"SOPInstanceUID": "1.2"}), "names the object"),
        (dicom.Coercion(set={"PixelData": "x"}), "neither text"),
        (dicom.Coercion(set={"Nonsense": "x"}), "no attribute"),
        (dicom.Coercion(set={"PatientBirthDate": "yesterday"}), "value representation"),
        (dicom.Coercion(remove=("StudyID",), destinations=("FAR",)), "destinations"),
        (dicom.Coercion(when="later", remove=("StudyID",)), "later"),
        (dicom.Coercion(), "changes nothing"),
    ],
)
def test_coercion_rules_that_cannot_be_followed(rule: dicom.Coercion, why: str) -> None:
    with pytest.raises(InputError, match="rule 1") as caught:
        dicom.check_coercions([rule])
    assert why in caught.value.why


def days_ago(store: dicom.DicomStore, study: str, days: float) -> None:
    at = (datetime.now(tz=UTC) - timedelta(days=days)).isoformat()
    store.database.write(
        lambda cursor: cursor.execute(
            "UPDATE dicom_instance SET received_utc = ? WHERE series IN (SELECT e.id FROM dicom_series e"
            " JOIN dicom_study s ON s.id = e.study WHERE s.study_uid = ?)",
            (at, study),
        ).fetchall()
    )


def three_studies(store: dicom.DicomStore) -> list[int]:
    sizes = []
    for number in (1, 2, 3):
        ds = ct_slice(1, study=str(number), series=f"{number}.1")
        ds.Modality = "US" if number == 2 else "CT"
        sizes.append(store.ingest(file_bytes(ds), source="SCANNER").size_bytes)
        days_ago(store, f"1.2.3.{number}", 10 * (4 - number))
    return sizes


def test_retention_by_age_and_modality_with_holds_and_twins(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        three_studies(store)
        paths = {n: store.path(store.instance(f"1.2.3.{n}.1.1")) for n in (1, 2, 3)}
        rules = [dicom.RetentionRule(modalities=("CT",), older_than_days=5)]
        protected: set[str] = {"1.2.3.1.1.1"}
        retention = dicom.Retention(store, rules, protected=lambda _cursor: protected)
        assert [(each.study_uid, each.kept_because) for each in retention.plan()] == [
            ("1.2.3.1", "twin"),
            ("1.2.3.3", ""),
        ]
        dry = retention.run(dry_run=True)
        assert (dry.dry_run, dry.freed_bytes > 0) == (True, True)
        assert all(path.exists() for path in paths.values())
        dicom.hold_study(store, "1.2.3.3", reason="court order 7", agent="officer")
        assert [each.kept_because for each in retention.run().items] == ["twin", "legal hold"]
        assert [each["reason"] for each in dicom.holds(store)] == ["court order 7"]
        dicom.release_study(store, "1.2.3.3")
        with pytest.raises(NotFoundError):
            dicom.release_study(store, "1.2.3.3")
        done = retention.run(agent="cli")
        assert [path.exists() for path in paths.values()] == [True, True, False]
        assert done.freed_bytes == next(i.size_bytes for i in done.items if not i.kept_because)
        told = dicom.Retention(store, [dicom.RetentionRule(older_than_days=5, including_twins=True)])
        told.run()
        assert not any(path.exists() for path in paths.values())
        assert list(store.search(dicom.Query(dicom.Level.PATIENT))) == []
        events = [each for each in audited(store) if each["kind"] == "dicom.retention"]
        assert [each["entity"] for each in events] == ["1.2.3.3", "1.2.3.1", "1.2.3.2"]
        # what is gone may come again
        assert store.ingest(file_bytes(ct_slice(1))).outcome == "new"
        with pytest.raises(InputError, match="rule 1"):
            dicom.Retention(store, [dicom.RetentionRule()])


def test_retention_by_size_queue_and_commitment(tmp_path: Path) -> None:
    with forwarding(tmp_path, [dicom.Route("FAR", modalities=("US",))]) as (store, queues, _start):
        sizes = three_studies(store)
        keep = dicom.Retention(store, [dicom.RetentionRule(keep_bytes=sizes[2] + 1)])
        assert [(each.study_uid, each.kept_because) for each in keep.plan()] == [
            ("1.2.3.1", ""),
            ("1.2.3.2", "queued"),
        ]
        store.database.write(lambda c: c.execute("DELETE FROM dicom_queue_entry").fetchall())
        rule = dicom.RetentionRule(older_than_days=5, committed_by="PACS", calling=("SCANNER",))
        committed = dicom.Retention(store, [rule])
        assert {each.kept_because for each in committed.plan()} == {"not committed"}
        with open_store(tmp_path / "pacs") as pacs:
            pacs.ingest(store.read("1.2.3.1.1.1"))
            peers = dicom.PeerTable.of([])
            with listening(store) as own, listening(pacs, access=dicom.Access(peers=peers)) as archive:
                del own
                asked = committed.uncommitted()
                assert [(peer, [uid for _, uid in objects]) for peer, objects in asked] == [
                    ("PACS", [f"1.2.3.{number}.1.1"]) for number in (1, 2, 3)
                ]
                remote = dicom.Remote("127.0.0.1", archive.port, called_ae="PACS")
                transaction = dicom.request_commitment(store, remote, asked[0][1])
            assert len(committed.uncommitted()) == 2  # one was asked for
            later = datetime.now(tz=UTC) + timedelta(days=2)
            assert len(committed.uncommitted(now=later)) == 3  # and is asked for again without an answer
            with pytest.raises(dicom.DimseFailedError):  # the archive is down now
                dicom.request_commitment(store, remote, asked[1][1])
            assert len(committed.uncommitted()) == 2  # that one still has to be asked for
        store.database.write(
            lambda c: c.execute(
                "UPDATE dicom_commitment SET state = 'committed' WHERE transaction_uid = ?", (transaction,)
            ).fetchall()
        )
        gone = [each.study_uid for each in committed.run().items if not each.kept_because]
        assert gone == ["1.2.3.1"]
        assert queues.states()[0].destination == "FAR"


def test_equal_files_and_an_object_that_comes_while_its_file_goes(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.on_new = lambda _cursor, prepared: dicom.file_is_there(store, prepared)
        data = file_bytes(ct_slice(1))
        store.ingest(data)
        days_ago(store, "1.2.3.1", 3)
        from digital_twins.dicom._part10 import split_file

        file = split_file(data)
        prepared = store.prepare(data[file.dataset_offset :], file.transfer_syntax)  # not committed yet
        dicom.Retention(store, [dicom.RetentionRule(older_than_days=1)]).run()
        with pytest.raises(StorageError, match="could not be stored"):
            store.commit(prepared).result()
        assert store.ingest(data).outcome == "new"
        assert store.read("1.2.3.1.1.1")


def test_a_quota_refuses_with_a700(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        size = store.ingest(file_bytes(ct_slice(1))).size_bytes
        store.room = dicom.Room(store, quota_bytes=2 * size + 100)
        with listening(store) as listener, http_serving(dicom.dicomweb_routes(store)) as web:
            remote = dicom.Remote("127.0.0.1", listener.port)
            dicom.send(remote, [ct_slice(2)])
            with pytest.raises(dicom.DimseFailedError, match="0xA700"):
                dicom.send(remote, [ct_slice(3)])
            body = file_bytes(ct_slice(3))
            answer = httpx.post(f"{web}/studies", content=body, headers={"Content-Type": "application/dicom"})
            assert answer.status_code in {409, 507}
            assert len(found(listener.port)) == 2
            store.room = dicom.Room(store, min_free_bytes=shutil.disk_usage(tmp_path).free * 2)
            with pytest.raises(dicom.DimseFailedError, match="0xA700"):
                dicom.send(remote, [ct_slice(3)])
            store.room = dicom.Room(store, quota_bytes=10**9, min_free_bytes=1)
            dicom.send(remote, [ct_slice(3)])
        assert dicom.used_bytes(store) >= 3 * size
