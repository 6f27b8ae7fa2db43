"""A DICOM node in a thread, and objects to send to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from digital_twins import audit, dicom, storage
from digital_twins.crypto import LocalKeyFile
from digital_twins.dicom import _dimse, _pdu

ENCRYPTED = os.environ.get("TWIN_TEST_ENCRYPTED") == "1"
"""Whether the stores of the protocol tests are encrypted: any of these suites can be run like that."""


@contextmanager
def open_store(
    folder: Path, *, encrypted: bool = ENCRYPTED, log_bytes: int = 0, **options: Any
) -> Iterator[dicom.DicomStore]:
    migrations = (*audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
    with ExitStack() as stack:
        keys = None
        if encrypted:
            folder.mkdir(parents=True, exist_ok=True)
            provider = LocalKeyFile(folder / "wrapping.json")
            keys = stack.enter_context(closing(storage.KeyRegister(folder / "keys.sqlite", provider)))
        key = None if keys is None else keys.database_key("index.db")
        database = stack.enter_context(
            storage.Database(
                folder / "index.db", migrations=migrations, key=key, log_bytes=log_bytes, keys=keys
            )
        )
        yield dicom.DicomStore(database, storage.BlobStore(folder / "blobs", keys=keys), **options)


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@contextmanager
def listening(store: dicom.DicomStore, *, on_port: int = 0, **options: Any) -> Iterator[dicom.Listener]:
    thread = LoopThread()
    listener = thread.run(dicom.start_listener(store, port=on_port, **options))
    try:
        yield listener
    finally:
        thread.run(listener.close(grace_s=5))
        thread.close()


def audited(store: dicom.DicomStore) -> list[dict[str, Any]]:
    """The audit events that wait in the outbox, after every write that was queued before this call."""
    store.database.write(lambda _cursor: None)
    with store.database.read() as connection:
        return [
            json.loads(row[0]) for row in connection.execute("SELECT body FROM audit_outbox ORDER BY seq")
        ]


class RawPeer:
    """A peer that sends exactly the bytes that it is told to."""

    def __init__(self, port: int, sop_class: str, syntax: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sop_class = sop_class
        context = _pdu.ProposedContext(1, sop_class, (syntax,))
        request = _pdu.AssociateRequest("TWIN", "RAW", (context,), 16384, "1.2.3")
        self.socket.sendall(_pdu.encode_associate(request))
        assert self.read_pdu()[0] == 2

    def read_pdu(self) -> tuple[int, bytes]:
        head = self._exactly(6)
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def store(self, data: bytes, uid: str) -> _dimse.Command:
        command = {
            _dimse.Tag.AFFECTED_SOP_CLASS: self._sop_class,
            _dimse.Tag.COMMAND_FIELD: 1,
            _dimse.Tag.MESSAGE_ID: 7,
            _dimse.Tag.DATASET_TYPE: 1,
            _dimse.Tag.AFFECTED_SOP_INSTANCE: uid,
        }
        for part, is_command in ((_dimse.encode_command(command), True), (data, False)):
            for pdu in _pdu.encode_data(1, part, command=is_command, max_pdu_bytes=16384):
                self.socket.sendall(pdu)
        kind, body = self.read_pdu()
        assert kind == 4
        return _dimse.decode_command(body[6:])

    def close(self) -> None:
        self.socket.sendall(b"\x05\x00\x00\x00\x00\x04" + bytes(4))
        assert self.read_pdu()[0] == 6
        self.socket.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError
            data += chunk
        return data


def ct_slice(
    number: int, *, patient: str = "P1", study: str = "1", series: str = "1.1", size: int = 64
) -> FileDataset:
    """A synthetic CT slice under the example root 1.2.3."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{series}.{number}"
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{series}"
    ds.PatientID, ds.PatientName = patient, "Doe^Jane"
    ds.PatientBirthDate, ds.PatientSex = "19600102", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240110", "101500", "A1", "S1"
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 1, number
    ds.SeriesDescription = "chest"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [1, 1], 1
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = bytes([number % 251, 1]) * (size * size)
    return ds


def file_bytes(ds: Dataset) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def http_serving(routes: list[Any], root: str = "/dicom-web") -> Iterator[str]:
    """Serve routes under ``root`` on a free port; yields its URL."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    app = Starlette(routes=[Mount(root, routes=routes)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = LoopThread()
    task = asyncio.run_coroutine_threadsafe(server.serve(), thread.loop)

    async def port() -> int:
        while not server.started:
            await asyncio.sleep(0.01)
        return int(server.servers[0].sockets[0].getsockname()[1])

    try:
        yield f"http://127.0.0.1:{thread.run(port())}{root}"
    finally:
        server.should_exit = True
        task.result(10)
        thread.close()
