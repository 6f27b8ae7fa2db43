"""C-MOVE and C-GET: our node against pynetdicom and against our own client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, build_role, evt

from dicom_support import audited, ct_slice, file_bytes, listening, open_store
from digital_twins import dicom
from digital_twins.dicom._part10 import split_file

MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"


@contextmanager
def pynetdicom_scp(handler: Any, *, syntaxes: list[str]) -> Iterator[int]:
    """A third AE 'DEST' that stores CT images in the given transfer syntaxes."""
    ae = AE(ae_title="DEST")
    ae.add_supported_context(CTImageStorage, syntaxes)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handler)])
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def _peers(port: int) -> dicom.Access:
    return dicom.Access(peers=dicom.PeerTable.of([dicom.DicomPeer("DEST", "127.0.0.1", port)]))


def _fill(store: dicom.DicomStore) -> None:
    store.ingest_many(file_bytes(ct_slice(n, size=16)) for n in range(1, 5))
    store.ingest_many(file_bytes(ct_slice(n, size=16, series="1.2")) for n in range(1, 3))
    store.ingest(file_bytes(ct_slice(1, size=16, study="2", series="2.1")))


@pytest.mark.parametrize(
    ("level", "model", "keys", "count"),
    [
        ("PATIENT", "patient", {"PatientID": "P1"}, 7),
        ("STUDY", "patient", {"PatientID": "P1", "StudyInstanceUID": "1.2.3.1"}, 6),
        ("STUDY", "study", {"StudyInstanceUID": "1.2.3.1\\1.2.3.2"}, 7),
        ("SERIES", "study", {"StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.1.2"}, 2),
        (
            "IMAGE",
            "study",
            {"SeriesInstanceUID": "1.2.3.1.1", "SOPInstanceUID": "1.2.3.1.1.1\\1.2.3.1.1.3"},
            2,
        ),
        ("STUDY", "study", {"StudyInstanceUID": "1.2.3.77"}, 0),
    ],
)
def test_every_level_moves_and_gets_what_it_names(
    tmp_path: Path, level: str, model: str, keys: dict[str, str], count: int
) -> None:
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        origin = event.request.MoveOriginatorApplicationEntityTitle
        assert origin == "TWIN"
        return 0

    with (
        open_store(tmp_path) as store,
        pynetdicom_scp(keep, syntaxes=[ExplicitVRLittleEndian]) as port,
        listening(store, access=_peers(port)) as node,
    ):
        _fill(store)
        remote = dicom.Remote("127.0.0.1", node.port)
        moved = dicom.move(remote, "DEST", keys, level=level, model=model)
        fetched: list[bytes] = []
        got = dicom.get(remote, keys, into=fetched.append, level=level, model=model)
        stored = {split_file(data).sop_instance_uid: data for data in fetched}
        for uid, data in stored.items():
            kept = store.read(uid)
            assert data[split_file(data).dataset_offset :] == kept[split_file(kept).dataset_offset :]
        events = [e for e in audited(store) if e["kind"] in {"dicom.move", "dicom.get"}]
    assert moved == got == dicom.Transfer(count, 0, 0, status=0)
    assert len(received) == len(stored) == count
    assert [(e["kind"], e["detail"]["completed"]) for e in events] == [
        ("dicom.move", count),
        ("dicom.get", count),
    ]


def test_pending_responses_count_down_and_failures_are_named(tmp_path: Path) -> None:
    def keep(event: Any) -> int:
        number = int(event.dataset.InstanceNumber)
        return {2: 0xA700, 3: 0xB000}.get(number, 0)

    with (
        open_store(tmp_path) as store,
        pynetdicom_scp(keep, syntaxes=[ExplicitVRLittleEndian]) as port,
        listening(store, access=_peers(port)) as node,
    ):
        _fill(store)
        ae = AE(ae_title="MOVER")
        ae.add_requested_context(MOVE)
        association = ae.associate("127.0.0.1", node.port)
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "SERIES", "1.2.3.1"
        keys.SeriesInstanceUID = "1.2.3.1.1"
        answers = list(association.send_c_move(keys, "DEST", MOVE))
        unknown = list(association.send_c_move(keys, "NOWHERE", MOVE))
        keys.SeriesInstanceUID = ""
        unusable = list(association.send_c_move(keys, "DEST", MOVE))
        association.release()
        events = audited(store)
    counts = [
        (s.Status, s.get("NumberOfRemainingSuboperations"), s.NumberOfCompletedSuboperations)
        for s, _ in answers
    ]
    assert counts == [(0xFF00, 3, 1), (0xFF00, 2, 1), (0xFF00, 1, 1), (0xB000, None, 2)]
    final = answers[-1][0]
    assert (final.NumberOfFailedSuboperations, final.NumberOfWarningSuboperations) == (1, 1)
    assert answers[-1][1].FailedSOPInstanceUIDList == "1.2.3.1.1.2"
    assert unknown[0][0].Status == 0xA801
    assert unusable[0][0].Status == 0xA900
    assert [e["outcome"] for e in events if e["kind"] == "dicom.move"] == ["failure", "refused", "refused"]


def test_a_move_can_be_cancelled(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.ingest_many(file_bytes(ct_slice(n, size=8)) for n in range(1, 101))
        mover: list[Any] = []

        def keep(_event: Any) -> int:
            if mover:
                mover.pop().send_c_cancel(1, query_model=MOVE)
            return 0

        with (
            pynetdicom_scp(keep, syntaxes=[ExplicitVRLittleEndian]) as port,
            listening(store, access=_peers(port)) as node,
        ):
            ae = AE(ae_title="MOVER")
            ae.add_requested_context(MOVE)
            association = ae.associate("127.0.0.1", node.port)
            mover.append(association)
            keys = Dataset()
            keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.3.1"
            final = [status for status, _ in association.send_c_move(keys, "DEST", MOVE)][-1]
            association.release()
    assert final.Status == 0xFE00
    assert 0 < final.NumberOfRemainingSuboperations < 100
    assert final.NumberOfRemainingSuboperations + final.NumberOfCompletedSuboperations == 100


def test_a_get_can_be_cancelled(tmp_path: Path) -> None:
    getter: list[Any] = []

    def keep(_event: Any) -> int:
        if getter:
            getter.pop().send_c_cancel(1, query_model=GET)
        return 0

    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest_many(file_bytes(ct_slice(n, size=8)) for n in range(1, 101))
        ae = AE()
        ae.add_requested_context(GET)
        ae.add_requested_context(CTImageStorage)
        association = ae.associate(
            "127.0.0.1",
            node.port,
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep)],
        )
        getter.append(association)
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.3.1"
        final = [status for status, _ in association.send_c_get(keys, GET)][-1]
        association.release()
    assert final.Status == 0xFE00
    assert 0 < final.NumberOfRemainingSuboperations < 100


def test_get_by_pynetdicom_needs_the_role(tmp_path: Path) -> None:
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        return 0

    with open_store(tmp_path) as store, listening(store) as node:
        _fill(store)
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", "1.2.3.1"
        finals = []
        for roles in ([build_role(CTImageStorage, scp_role=True)], []):
            ae = AE()
            ae.add_requested_context(GET)
            ae.add_requested_context(CTImageStorage)
            association = ae.associate(
                "127.0.0.1", node.port, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, keep)]
            )
            finals.append([status for status, _ in association.send_c_get(keys, GET)][-1])
            association.release()
    assert [f.Status for f in finals] == [0, 0xA702]
    assert finals[1].NumberOfFailedSuboperations == 6
    assert [ds.PixelData for ds in received] == [
        ct_slice(n, size=16, series=s).PixelData
        for s, n in [("1.1", n) for n in range(1, 5)] + [("1.2", 1), ("1.2", 2)]
    ]


@pytest.mark.parametrize(
    ("name", "lossless"),
    [
        ("JPEG2000.dcm", False),
        ("MR_small_jp2klossless.dcm", True),
        ("MR_small_RLE.dcm", True),
        ("MR_small_bigendian.dcm", True),
        ("rtdose_expb.dcm", True),
        ("SC_rgb_small_odd_big_endian.dcm", True),
        ("liver_expb_1frame.dcm", True),
        ("SC_rgb_rle_16bit_2frame.dcm", True),
        ("examples_jpeg2k.dcm", True),
        ("MR_small_jpeg_ls_lossless.dcm", True),
        ("image_dfl.dcm", True),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_peer_that_takes_implicit_only_gets_lossless_objects_transcoded(
    tmp_path: Path, name: str, lossless: bool
) -> None:
    path = get_testdata_file(name)
    original = dcmread(path)
    received: list[Dataset] = []

    def keep(event: Any) -> int:
        received.append(event.dataset)
        received[-1].file_meta = event.file_meta
        return 0

    with open_store(tmp_path) as store:
        store.ingest(Path(path).read_bytes())
        ae = AE(ae_title="DEST")
        ae.add_supported_context(original.SOPClassUID, [ImplicitVRLittleEndian])
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
        port = server.socket.getsockname()[1]
        with listening(store, access=_peers(port)) as node:
            remote = dicom.Remote("127.0.0.1", node.port)
            keys = {"StudyInstanceUID": original.StudyInstanceUID}
            if lossless:
                assert dicom.move(remote, "DEST", keys).completed == 1
            else:
                with pytest.raises(dicom.DimseFailedError, match="A702"):
                    dicom.move(remote, "DEST", keys)
        server.shutdown()
    if lossless:
        assert received[0].file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert received[0].SOPInstanceUID == original.SOPInstanceUID
        assert (received[0].pixel_array == original.pixel_array).all()
        assert received[0].get("PatientName") == original.get("PatientName")


def test_a_destination_that_is_gone_fails_every_sub_operation(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store, access=_peers(9)) as node:
        _fill(store)
        with pytest.raises(dicom.DimseFailedError, match="A702"):
            dicom.move(dicom.Remote("127.0.0.1", node.port), "DEST", {"StudyInstanceUID": "1.2.3.1"})


def test_compressed_objects_travel_as_they_are(tmp_path: Path) -> None:
    path = get_testdata_file("MR_small_jp2klossless.dcm")
    with open_store(tmp_path) as store, listening(store) as node:
        stored = store.ingest(Path(path).read_bytes())
        fetched: list[bytes] = []
        remote = dicom.Remote("127.0.0.1", node.port)
        dicom.get(remote, {"StudyInstanceUID": stored.study_uid}, into=fetched.append)
        assert split_file(fetched[0]).transfer_syntax == JPEG2000Lossless
        assert (
            fetched[0][split_file(fetched[0]).dataset_offset :]
            == store.read(stored.sop_uid)[split_file(store.read(stored.sop_uid)).dataset_offset :]
        )
