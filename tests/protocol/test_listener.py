"""Our listener against pynetdicom as SCU, and against peers that send nonsense."""

from __future__ import annotations

import contextlib
import socket
import time
import zlib
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files, get_testdata_files
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from dicom_support import LoopThread, RawPeer, audited, ct_slice, file_bytes, listening, open_store
from digital_twins import StorageError, dicom
from digital_twins.dicom import _pdu
from digital_twins.dicom._dimse import Tag
from digital_twins.dicom._identifier import write_dataset
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._transcode import can_transcode
from digital_twins.storage import Spool

ONLY_CT1 = dicom.Access(peers=dicom.PeerTable.only("CT1"))


def test_echo(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        ae = AE()
        ae.add_requested_context(Verification)
        association = ae.associate("127.0.0.1", node.port)
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()
        assert association.is_released


def test_store_keeps_the_bytes(tmp_path: Path) -> None:
    sent = [ct_slice(n) for n in range(1, 4)]
    seen = []
    with open_store(tmp_path) as store, listening(store, on_stored=seen.append) as node:
        ae = AE()
        ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", node.port)
        for ds in sent:
            assert association.send_c_store(ds).Status == 0
        association.release()
        kept = store.series_datasets("1.2.3.1.1")
    assert [ds.SOPInstanceUID for ds in kept] == [ds.SOPInstanceUID for ds in sent]
    assert [ds.PixelData for ds in kept] == [ds.PixelData for ds in sent]
    assert [s.outcome for s in seen] == ["new"] * 3


def _sendable() -> list[str]:
    """pydicom's test files that are composite objects with study and series."""
    found = []
    for path in sorted(get_testdata_files("*.dcm")):
        if Path(path).read_bytes()[128:132] != b"DICM" or "DICOMDIR" in path or "truncated" in path:
            continue
        ds = dcmread(path, stop_before_pixels=True)
        needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
        if all(ds.get(k) for k in needed) and ds.file_meta.get("TransferSyntaxUID"):
            found.append(path)
    return found


@pytest.mark.filterwarnings("ignore")
def test_every_transfer_syntax_is_stored_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pynetdicom import _config

    # Otherwise pynetdicom encodes anew: this sends the file's own bytes.
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    syntaxes, sent = set(), {}
    with open_store(tmp_path) as store, listening(store) as node:
        for path in _sendable():
            raw = Path(path).read_bytes()
            part = split_file(raw)
            if (
                part.sop_instance_uid in sent or Path(path).name == "SC_rgb_jpeg.dcm"
            ):  # implicit, says explicit
                continue
            ae = AE()
            ae.requested_contexts = [build_context(part.sop_class_uid, part.transfer_syntax)]
            association = ae.associate("127.0.0.1", node.port)
            assert association.is_established, path
            if not association.accepted_contexts:
                association.release()
                continue
            status = association.send_c_store(path)
            association.release()
            if status.Status == 0:
                sent[part.sop_instance_uid] = raw[part.dataset_offset :]
                syntaxes.add(part.transfer_syntax)
            else:
                assert "patient ID conflict" in status.ErrorComment or "UID" in status.ErrorComment, path
        for uid, dataset in sent.items():
            kept = store.read(uid)
            assert kept[split_file(kept).dataset_offset :] == dataset
    assert len(sent) >= 30
    assert len(syntaxes) >= 10


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"])
def test_a_deflated_object_whose_pixels_lie_elsewhere(tmp_path: Path, syntax: str) -> None:
    ds = ct_slice(1)
    del ds.PixelData
    ds.PixelDataProviderURL = "http://127.0.0.1/jpip"
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    plain = write_dataset(ds, implicit=False)
    packed = packer.compress(plain) + packer.flush()
    packed += bytes(len(packed) % 2)
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, ds.SOPClassUID, syntax)
        assert peer.store(packed, ds.SOPInstanceUID)[Tag.STATUS] == 0
        peer.close()
        kept = store.read(ds.SOPInstanceUID)
        assert kept[split_file(kept).dataset_offset :] == packed
    # Written anew in a syntax that refers to nobody, its pixels would be lost.
    assert not can_transcode(syntax, ExplicitVRLittleEndian)


def test_refusals_carry_status_and_comment(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest(file_bytes(ct_slice(1)))
        ae = AE()
        ae.add_requested_context(CTImageStorage, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", node.port)
        conflict = association.send_c_store(ct_slice(2, patient="P2"))
        assert (conflict.Status, conflict.ErrorComment[:19]) == (0xA900, "patient ID conflict")
        moved = association.send_c_store(ct_slice(3, study="7"))
        assert moved.Status == 0xA900
        assert association.send_c_store(ct_slice(1)).Status == 0
        changed = ct_slice(1)
        changed.SeriesDescription = "other"
        assert association.send_c_store(changed).Status == 0
        association.release()
        assert store.dataset("1.2.3.1.1.1").SeriesDescription == "chest"
        assert len(store.instances("1.2.3.1")) == 1
        outcomes = [e["detail"].get("outcome", e["outcome"]) for e in audited(store)]
    assert outcomes == ["new", "refused", "refused", "identical", "different"]


def test_truncated_and_oversized_objects(tmp_path: Path) -> None:
    whole = file_bytes(ct_slice(1))
    part = split_file(whole)
    data = whole[part.dataset_offset :]
    limits = dicom.Limits(max_object_bytes=20_000)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        peer = RawPeer(node.port, part.sop_class_uid, part.transfer_syntax)
        uid = part.sop_instance_uid
        assert peer.store(data, uid)[Tag.STATUS] == 0
        cut = peer.store(data[:-100], uid + ".1")
        assert cut[Tag.STATUS] == 0xC000
        assert "cut off" in str(cut[Tag.ERROR_COMMENT])
        four_gb = data[:-8204] + b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xff" + data[-8192:]
        assert peer.store(four_gb, uid + ".2")[Tag.STATUS] == 0xC000
        assert peer.store(b"random bytes, no DICOM", uid + ".3")[Tag.STATUS] == 0xC000
        assert peer.store(data, uid + ".4")[Tag.STATUS] == 0xA900
        assert peer.store(data + bytes(20_000), uid + ".5")[Tag.STATUS] == 0xA700
        assert peer.store(data, uid)[Tag.STATUS] == 0
        peer.close()
        assert node.buffered_bytes == 0
        assert len(store.instances("1.2.3.1")) == 1
        assert len([p for p in (tmp_path / "blobs").rglob("*") if p.is_file() and len(p.name) == 62]) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x04\x00\xff\xff\xff\xff" + bytes(100),
        b"\x01\x00\xff\xff\xff\xff" + bytes(100),
        b"\x01\x00\x00\x00\x00\x44" + bytes(68),
        b"\x05\x00\x00\x00\x00\x04" + bytes(4),
        bytes(64),
    ],
)
def test_nonsense_is_aborted_at_once(tmp_path: Path, garbage: bytes) -> None:
    # ARTIM matters for one of them: a rejected association is closed by its requestor (PS3.8 AE-8).
    limits = dicom.Limits(artim_s=1.0)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
            connection.sendall(garbage)
            answer = b""
            with contextlib.suppress(ConnectionError):
                while chunk := connection.recv(4096):
                    answer += chunk
        assert answer[:1] in {b"\x07", b"\x03", b""}
        dicom.echo(dicom.Remote("127.0.0.1", node.port))


def test_length_bomb_inside_an_association(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        peer = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")
        peer.socket.sendall(b"\x04\x00\xff\xff\xff\xff" + bytes(1000))
        assert peer.read_pdu()[0] == 7
        peer.socket.close()
        dicom.echo(dicom.Remote("127.0.0.1", node.port))


def test_idle_and_half_open_connections_are_bounded(tmp_path: Path) -> None:
    limits = dicom.Limits(max_half_open=20, artim_s=4.0, idle_s=3.0, max_associations=2)
    with open_store(tmp_path) as store, listening(store, limits=limits) as node:
        idle = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(200)]
        assert node.half_open <= 20
        first = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")
        second = RawPeer(node.port, CTImageStorage, "1.2.840.10008.1.2.1")
        with pytest.raises(dicom.DimseFailedError, match="The peer rejected the association"):
            dicom.echo(dicom.Remote("127.0.0.1", node.port))
        assert first.read_pdu()[0] == 7
        for connection in (*idle, first.socket, second.socket):
            connection.close()
        deadline = time.monotonic() + 120
        while (node.half_open or node.associations) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (node.half_open, node.associations) == (0, 0)
        dicom.echo(dicom.Remote("127.0.0.1", node.port))


def test_find_levels_and_keys(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store, ae_title="NODE") as node:
        store.ingest_many(file_bytes(ct_slice(n)) for n in (1, 2))
        store.ingest(file_bytes(ct_slice(1, patient="P2", study="2", series="2.1")))
        remote = dicom.Remote("127.0.0.1", node.port)
        keys = {"PatientName": "doe*", "StudyInstanceUID": "", "NumberOfStudyRelatedInstances": ""}
        found = dicom.find(remote, {**keys, "ModalitiesInStudy": "", "StudyDate": "20240101-"})
        assert [a.NumberOfStudyRelatedInstances for a in found] == [2, 1]
        assert found[0].SpecificCharacterSet == "ISO_IR 192"
        assert (found[0].PatientName, found[0].ModalitiesInStudy) == ("Doe^Jane", "CT")
        assert found[0].RetrieveAETitle == "NODE"
        assert dicom.find(remote, {"StudyDate": "-20231231"}) == []
        assert len(dicom.find(remote, {"StudyInstanceUID": "1.2.3.1\\1.2.3.2"})) == 2
        (series,) = dicom.find(remote, {"StudyInstanceUID": "1.2.3.1", "Modality": ""}, level="SERIES")
        assert (series.Modality, series.SeriesInstanceUID) == ("CT", "1.2.3.1.1")
        images = dicom.find(remote, {"SeriesInstanceUID": "1.2.3.1.1", "Rows": ""}, level="IMAGE")
        assert [a.Rows for a in images] == [64, 64]
        with pytest.raises(dicom.DimseFailedError, match="A900"):
            dicom.find(remote, {}, level="PATIENT")


def test_find_can_be_cancelled(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest_many(file_bytes(ct_slice(n, size=8)) for n in range(1, 200))
        remote = dicom.Remote("127.0.0.1", node.port)
        found = dicom.find(remote, {"SOPInstanceUID": ""}, level="IMAGE", limit=3)
        assert len(found) == 3
        dicom.echo(remote)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "query", "text"),
    [
        ("chrH31.dcm", "山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("chrH32.dcm", "*やまだ*", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("chrI2.dcm", "=洪^吉洞", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chrX1.dcm", "王^小東", "Wang^XiaoDong=王^小東"),
        ("chrX2.dcm", "wang*", "Wang^XiaoDong=王^小东"),
        ("chrGreek.dcm", "διον*", "Διονυσιος"),
        ("chrRuss.dcm", "люк*", "Люкceмбypг"),
        ("chrArab.dcm", "*لنزار", "قباني^لنزار"),
        ("chrGerm.dcm", "äneas^r?diger", "Äneas^Rüdiger"),
    ],
)
def test_names_in_any_script(tmp_path: Path, name: str, query: str, text: str) -> None:
    (path,) = get_charset_files(name)
    with open_store(tmp_path) as store, listening(store) as node:
        store.ingest(file_bytes(ct_slice(1, study="9", series="9.1")))
        store.ingest(Path(path).read_bytes())
        (answer,) = dicom.find(dicom.Remote("127.0.0.1", node.port), {"PatientName": query})
    assert str(answer.PatientName).rstrip("=") == text


def test_calling_and_called_titles_can_be_restricted(tmp_path: Path) -> None:
    with (
        open_store(tmp_path) as store,
        listening(store, access=ONLY_CT1) as node,
    ):
        dicom.echo(dicom.Remote("127.0.0.1", node.port, called_ae="TWIN", calling_ae="CT1"))
        for called, calling in (("OTHER", "CT1"), ("TWIN", "CT2")):
            with pytest.raises(dicom.DimseFailedError, match="The peer rejected the association"):
                dicom.echo(dicom.Remote("127.0.0.1", node.port, called_ae=called, calling_ae=calling))


def test_a_rejected_peer_is_the_one_to_close_until_artim_ends(tmp_path: Path) -> None:
    request = bytearray(_pdu.encode_associate(_pdu.AssociateRequest("OTHER", "RAW", (), 16384, "1.2.3")))
    limits = dicom.Limits(artim_s=1.0)
    with open_store(tmp_path) as store:
        for granted, closes in ((dicom.Limits(), False), (limits, True)):
            with listening(store, limits=granted, access=ONLY_CT1) as node:
                with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
                    connection.sendall(request)
                    assert connection.recv(100)[:1] == b"\x03"
                    # State 13: whatever else comes is ignored, and the connection stays until ARTIM ends.
                    connection.settimeout(10 if closes else 0.3)
                    if closes:
                        with contextlib.suppress(ConnectionError):
                            assert connection.recv(1) == b""
                    else:
                        connection.sendall(b"\x06\x00\x00\x00\x00\x04" + bytes(4))
                        with pytest.raises(TimeoutError):
                            connection.recv(1)
                        assert node.half_open == 1
                deadline = time.monotonic() + 120
                while node.half_open and time.monotonic() < deadline:
                    time.sleep(0.02)
                assert node.half_open == 0


def test_occupied_port(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, listening(store) as node:
        thread = LoopThread()
        with pytest.raises(StorageError, match="could not be opened"):
            thread.run(dicom.start_listener(store, port=node.port))
        thread.close()


def test_send_in_many_associations(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with open_store(tmp_path) as store, listening(store) as node:
        remote = dicom.Remote("127.0.0.1", node.port)
        groups = [[ct_slice(n, series=f"1.{g}") for n in range(1, 9)] for g in range(1, 5)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda group: dicom.send(remote, group), groups)) == [8] * 4
        assert len(store.instances("1.2.3.1")) == 32
        assert store.database.counts.units >= 32


def test_full_disk_refuses_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_spool: Spool, **_owner: str) -> str:
        raise StorageError("The bytes could not be stored.", "No space left on device.", "Free space.")

    with open_store(tmp_path) as store, listening(store) as node:
        remote = dicom.Remote("127.0.0.1", node.port)
        with monkeypatch.context() as patch:
            patch.setattr(store.blobs, "land", full)
            with pytest.raises(dicom.DimseFailedError, match=r"A700.*No space"):
                dicom.send(remote, [ct_slice(1)])
        assert dicom.send(remote, [ct_slice(1)]) == 1
