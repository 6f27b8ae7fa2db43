"""Performed procedure steps and storage commitment with npm's dcmjs-dimse, in both roles."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_peers import free_port
from dicom_support import ct_slice, file_bytes, listening
from digital_twins import audit, dicom, storage
from foreign import node_package, program

pytestmark = pytest.mark.peers


class Lines:
    """JSON lines of a program, as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, name: str) -> dict[str, Any]:
        """The next line, which must be of that name."""
        line = self._lines.get(timeout=60)
        assert line["name"] == name, line
        return line

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._lines.put(json.loads(line))


@contextmanager
def dcmjs(our_port: int, its_port: int) -> Iterator[Lines]:
    env = {**os.environ, "PEER_MODULES": str(node_package("dcmjs-dimse").parent)}
    script = str(Path(__file__).with_name("dimse_peer.js"))
    with subprocess.Popen(
        [program("node"), script, str(our_port), str(its_port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        try:
            yield Lines(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


def test_steps_and_commitment_in_both_roles(tmp_path: Path) -> None:
    migrations = (*storage.MIGRATIONS, *audit.OUTBOX_MIGRATIONS, *dicom.MIGRATIONS)
    its_port = free_port()
    peers = dicom.PeerTable.of([dicom.DicomPeer("JS", "127.0.0.1", its_port)])
    with storage.Database(tmp_path / "index.db", migrations=migrations) as database:
        store = dicom.DicomStore(database, storage.BlobStore(tmp_path / "blobs"))
        store.ingest(file_bytes(ct_slice(1, size=8)))
        events = dicom.Events(jobs=storage.JobQueue(database))
        with (
            listening(store, access=dicom.Access(peers=peers), events=events) as node,
            dcmjs(node.port, its_port) as lines,
        ):
            expected = [
                ("set before create", 0x0112),
                ("create completed", 0x0106),
                ("create", 0),
                ("create again", 0x0111),
                ("set unknown", 0x0106),
                ("set completed", 0),
                ("set late", 0x0110),
                ("commit", 0),
            ]
            assert [lines.next(name)["status"] for name, _ in expected] == [status for _, status in expected]
            assert dicom.performed_step(store, "1.2.3.4.99").PerformedProcedureStepStatus == "COMPLETED"
            lines.next("done")
            report = lines.next("reported")  # our report on an association of its own
            assert (report["event"], report["held"], report["failed"]) == (2, ["1.2.3.1.1.1"], ["1.2.3.404"])
            _we_are_the_modality(store, dicom.Remote("127.0.0.1", its_port, called_ae="JS"), lines)


def _we_are_the_modality(store: dicom.DicomStore, remote: dicom.Remote, lines: Lines) -> None:
    step = Dataset()
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    dicom.create_performed_step(remote, "1.2.3.4.100", step)
    assert lines.next("create")["status"] == "IN PROGRESS"
    step.PerformedProcedureStepStatus = "DISCONTINUED"
    with pytest.raises(dicom.DimseFailedError, match="0110"):
        dicom.set_performed_step(remote, "1.2.3.4.100", step)
    assert lines.next("set")["status"] == "DISCONTINUED"
    step.PerformedProcedureStepStatus = "COMPLETED"
    dicom.set_performed_step(remote, "1.2.3.4.100", step)
    assert lines.next("set")["status"] == "COMPLETED"
    transaction = dicom.request_commitment(store, remote, [("1.2.840.10008.5.1.4.1.1.2", "1.2.3.1.1.1")])
    result = dicom.commitment_result(store, transaction, wait_s=30)
    assert (result.state, result.peer) == ("committed", "JS")
    assert lines.next("report sent")["status"] == 0
