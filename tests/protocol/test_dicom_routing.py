"""Routing rules and the queues of outgoing objects against an archive that pynetdicom makes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicom_forwarding import FAST, forwarding, wait_for
from dicom_peers import free_port
from dicom_support import audited, ct_slice, file_bytes, http_serving, open_store
from digital_twins import InputError, NotFoundError, dicom
from digital_twins.dicom import _queues, _routes
from digital_twins.dicom._part10 import split_file
from pacs_recorder import pacs

CT = [(CTImageStorage, [ExplicitVRLittleEndian])]


def dimse(port: int) -> dicom.Destination:
    return dicom.Destination(dicom.Remote("127.0.0.1", port, called_ae="PACS", timeout_s=5.0))


def put(store: dicom.DicomStore, ds: Dataset, source: str = "CT1") -> bytes:
    raw = file_bytes(ds)
    store.ingest(raw, source=source)
    return raw[split_file(raw).dataset_offset :]


def test_objects_go_in_their_order_and_byte_for_byte(tmp_path: Path) -> None:
    with pacs(CT) as archive, forwarding(tmp_path, [dicom.Route("PACS")]) as (store, queues, start):
        slices = [ct_slice(number) for number in (5, 3, 9, 1)]
        raw = [put(store, each) for each in slices]
        put(store, slices[0])  # the same again is not sent again
        assert queues.state("PACS").waiting == 4
        start(PACS=dimse(archive.port))
        wait_for(lambda: queues.state("PACS").sent == 4)
        assert archive.order == [each.SOPInstanceUID for each in slices]
        assert [archive.received[uid] for uid in archive.order] == [[each] for each in raw]
        events = [event for event in audited(store) if event["kind"] == "dicom.forward"]
        assert [event["entity"] for event in events] == archive.order
        state = queues.state("PACS")
        assert (state.waiting, state.dead, state.failed, state.oldest_s) == (0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (dicom.Route("PACS", calling=("CT1",)), {1, 2}),
        (dicom.Route("PACS", calling=("MR1", "CT2")), {3}),
        (dicom.Route("PACS", modalities=("MR",)), {2}),
        (dicom.Route("PACS", sop_classes=(MRImageStorage,)), {3}),
        (dicom.Route("PACS", calling=("CT1",), modalities=("CT",), sop_classes=(CTImageStorage,)), {1}),
        (dicom.Route("PACS"), {1, 2, 3}),  # and not what came from PACS itself
    ],
)
def test_rules_choose_by_caller_modality_and_class(
    tmp_path: Path, route: dicom.Route, expected: set[int]
) -> None:
    with forwarding(tmp_path, [route]) as (store, queues, _start):
        second, third = ct_slice(2, series="1.2"), ct_slice(3, series="1.3")
        second.Modality = "MR"
        third.SOPClassUID = third.file_meta.MediaStorageSOPClassUID = MRImageStorage
        put(store, ct_slice(1))
        put(store, second, "user@CT1")
        put(store, third, "CT2")
        put(store, ct_slice(4), "PACS")
        assert {int(entry.sop_uid.rpartition(".")[2]) for entry in queues.due("PACS")} == expected


def test_a_study_waits_until_it_is_stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_795_600_000.0]
    for module in (_routes, _queues):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now[0]))
    routes = [dicom.Route("PACS", when="study_stable")]
    with forwarding(tmp_path, routes, stable_s=60.0) as (store, queues, _start):
        put(store, ct_slice(1))
        now[0] += 40.0
        put(store, ct_slice(2))
        now[0] += 30.0  # 70 s after the first, 30 s after the second
        assert queues.due("PACS") == []
        now[0] += 30.5
        assert len(queues.due("PACS")) == 2
        assert queues.state("PACS").oldest_s == pytest.approx(100.5, abs=1e-3)


def test_a_refused_object_steps_aside_dies_and_is_replayed(tmp_path: Path) -> None:
    with pacs(CT) as archive, forwarding(tmp_path, [dicom.Route("PACS")]) as (store, queues, start):
        slices = [ct_slice(number) for number in (1, 2, 3)]
        bad = slices[0].SOPInstanceUID
        archive.refuse[bad] = 0xA700
        raw = [put(store, each) for each in slices]
        start(PACS=dimse(archive.port))
        wait_for(lambda: queues.state("PACS").dead == 1)
        assert archive.tries[bad] == FAST.attempts
        assert set(archive.received) == {each.SOPInstanceUID for each in slices[1:]}
        (letter,) = queues.dead_letters("PACS")
        assert (letter.sop_uid, letter.error) == (bad, "Status A700.")
        archive.refuse.clear()
        assert queues.replay("PACS") == 1
        wait_for(lambda: queues.state("PACS").sent == 3)
        assert archive.received[bad] == [raw[0]]
        assert queues.state("PACS").failed == FAST.attempts
        kinds = [event["kind"] for event in audited(store)]
        assert "dicom.queue.replay" in kinds


def test_an_object_that_breaks_the_association_does_not_stop_the_queue(tmp_path: Path) -> None:
    with pacs(CT) as archive, forwarding(tmp_path, [dicom.Route("PACS")]) as (store, queues, start):
        slices = [ct_slice(number) for number in (1, 2, 3)]
        archive.abort.add(slices[0].SOPInstanceUID)
        for each in slices:
            put(store, each)
        start(PACS=dimse(archive.port))
        wait_for(lambda: queues.state("PACS").sent == 2 and queues.state("PACS").dead == 1)
        assert queues.dead_letters("PACS")[0].sop_uid == slices[0].SOPInstanceUID


def test_a_class_that_the_peer_does_not_take_is_a_dead_letter_not_an_outage(tmp_path: Path) -> None:
    with pacs([]) as archive, forwarding(tmp_path, [dicom.Route("PACS")]) as (store, queues, start):
        put(store, ct_slice(1))
        start(PACS=dimse(archive.port))
        wait_for(lambda: queues.state("PACS").dead == 1)
        assert queues.dead_letters("PACS")[0].error == "Status 0122."


def test_an_unreachable_peer_costs_no_object_an_attempt(tmp_path: Path) -> None:
    port = free_port()
    with forwarding(tmp_path, [dicom.Route("PACS")]) as (store, queues, start):
        raw = put(store, ct_slice(1))
        start(PACS=dimse(port))
        wait_for(lambda: queues.state("PACS").error != "")
        time.sleep(0.5)  # more failures than an object has attempts
        state = queues.state("PACS")
        assert (state.waiting, state.dead, state.failed) == (1, 0, 0)
        with pacs(CT, port=port) as archive:
            wait_for(lambda: queues.state("PACS").sent == 1)
            assert archive.received[ct_slice(1).SOPInstanceUID] == [raw]
        assert queues.state("PACS").error == ""


def test_backoff_doubles_up_to_its_longest() -> None:
    pauses = [dicom.Backoff(2.0, 300.0).pause_s(n) for n in (1, 2, 3, 8, 9, 1000)]
    assert pauses == [2.0, 4.0, 8.0, 256.0, 300.0, 300.0]


def test_pause_and_resume(tmp_path: Path) -> None:
    with pacs(CT) as archive, forwarding(tmp_path, [dicom.Route("PACS")]) as (store, queues, start):
        put(store, ct_slice(1))
        queues.pause("PACS")
        start(PACS=dimse(archive.port))
        time.sleep(0.8)
        assert (archive.order, queues.state("PACS").paused) == ([], True)
        queues.resume("PACS")
        wait_for(lambda: queues.state("PACS").sent == 1)
        with pytest.raises(NotFoundError):
            queues.pause("NOBODY")


def test_what_is_deidentified_is_fixed_before_it_is_sent(tmp_path: Path) -> None:
    made: list[str] = []

    def shuffle(ds: Dataset) -> Dataset:
        """Gives another UID each time that it is called: a repeated sending must not call it again."""
        ds.PatientName, ds.PatientID = "ANON", "A"
        ds.SOPInstanceUID = f"1.2.3.99.{len(made) + 1}"
        made.append(ds.SOPInstanceUID)
        return ds

    def broken(ds: Dataset) -> Dataset:
        raise ValueError(str(ds.PatientName))

    routes = [
        dicom.Route("PACS", modalities=("CT",), deidentify="shuffle"),
        dicom.Route("PACS", modalities=("MR",), deidentify="broken"),
        dicom.Route("PACS"),
    ]
    options = {"deidentifiers": {"shuffle": shuffle, "broken": broken}}
    with pacs(CT) as archive, forwarding(tmp_path, routes, **options) as (store, queues, start):
        archive.refuse["1.2.3.99.1"] = 0xA700
        put(store, ct_slice(1))
        second = ct_slice(2, series="1.2")
        second.Modality = "MR"
        put(store, second)
        start(PACS=dimse(archive.port))
        wait_for(lambda: archive.tries["1.2.3.99.1"] >= 2)
        archive.refuse.clear()
        wait_for(lambda: queues.state("PACS").sent == 1 and queues.state("PACS").dead == 1)
        assert made == ["1.2.3.99.1"]
        assert list(archive.received) == made
        assert b"Doe" not in archive.received[made[0]][0]
        assert queues.dead_letters("PACS")[0].error == "De-identification failed (ValueError)."


def test_rules_that_cannot_be_followed_are_refused() -> None:
    for route in (
        dicom.Route("NOBODY"),
        dicom.Route("PACS", when="sometimes"),
        dicom.Route("PACS", deidentify="basic"),
    ):
        with pytest.raises(InputError):
            dicom.check_routes([route], known={"PACS"}, deidentifiers=())
    dicom.check_routes([dicom.Route("PACS", deidentify="basic")], known={"PACS"}, deidentifiers={"basic"})


def test_stow_to_another_node(tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "far") as far,
        http_serving(dicom.dicomweb_routes(far)) as url,
        forwarding(tmp_path, [dicom.Route("WEB")]) as (store, queues, start),
    ):
        raw = put(store, ct_slice(1))
        far.ingest(file_bytes(ct_slice(9, study="1", series="1.9", patient="P1")))
        put(store, ct_slice(2, study="1", series="1.2", patient="P1"))
        other = ct_slice(3, study="7", series="7.1", patient="OTHER")
        far.ingest(file_bytes(ct_slice(4, study="7", series="7.1", patient="SOMEBODY ELSE")))
        put(store, other)  # the far node refuses it: patient ID conflict
        start(WEB=dicom.Destination(web_url=url))
        wait_for(lambda: queues.state("WEB").sent == 2 and queues.state("WEB").dead == 1)
        stored = far.instance(ct_slice(1).SOPInstanceUID)
        assert far.read(stored.sop_uid)[stored.dataset_offset :] == raw
        assert queues.dead_letters("WEB")[0].sop_uid == other.SOPInstanceUID


def test_a_web_server_that_is_down_costs_no_attempt(tmp_path: Path) -> None:
    with forwarding(tmp_path, [dicom.Route("WEB")]) as (store, queues, start):
        put(store, ct_slice(1))
        start(WEB=dicom.Destination(web_url=f"http://127.0.0.1:{free_port()}/dicom-web"))
        wait_for(lambda: "ConnectError" in queues.state("WEB").error)
        assert queues.state("WEB").failed == 0
