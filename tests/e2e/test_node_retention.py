"""The node's timer: old studies go once the archive has committed to keeping them, and not before."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

from dicom_peers import free_port
from dicom_support import ct_slice, file_bytes, listening
from digital_twins import audit, dicom, storage
from digital_twins.config import DicomPeerSettings, DicomRetentionSettings, Settings
from digital_twins.server import Node

TABLES = (*audit.OUTBOX_MIGRATIONS, *storage.MIGRATIONS, *dicom.MIGRATIONS)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def asked(node: Node) -> list[str]:
    with node.services.database.read() as connection:
        rows = connection.execute("SELECT state FROM dicom_commitment ORDER BY rowid").fetchall()
    return [str(row[0]) for row in rows]


def test_old_studies_go_when_the_archive_has_committed(tmp_path: Path) -> None:
    port = free_port()
    settings = Settings(
        data_dir=tmp_path / "node",
        dicom_port=0,
        http_port=0,
        workers=1,
        dicom_peers={"PACS": DicomPeerSettings(host="127.0.0.1", port=port)},
        dicom_retention=(DicomRetentionSettings(older_than_days=1e-9, committed_by="PACS"),),
        dicom_retention_hours=0.0002,
    )
    with (
        storage.Database(tmp_path / "pacs.db", migrations=TABLES) as database,
        ExitStack() as later,  # the archive outlives the node, which may be asking it at the end
        Node(settings) as node,
        httpx.Client(base_url=node.base_url, timeout=60) as http,
    ):
        pacs = dicom.DicomStore(database, storage.BlobStore(tmp_path / "pacs"))
        kept = ct_slice(1, study="2", series="2.1")  # the archive never got this one
        sent = [ct_slice(1), ct_slice(2), kept]
        dicom.send(dicom.Remote("127.0.0.1", node.dicom_port), sent)
        paths = {
            ds.SOPInstanceUID: node.services.dicom.path(node.services.dicom.instance(ds.SOPInstanceUID))
            for ds in sent
        }
        wait_for(lambda: "failed" in asked(node))  # the archive is down
        assert all(path.exists() for path in paths.values())
        pacs.ingest_many(map(file_bytes, sent[:2]))
        us = dicom.DicomPeer("TWIN", "127.0.0.1", node.dicom_port)
        access = dicom.Access(peers=dicom.PeerTable.of([us]))
        events = dicom.Events(jobs=storage.JobQueue(database))
        later.enter_context(listening(pacs, on_port=port, ae_title="PACS", access=access, events=events))
        wait_for(lambda: not any(paths[ds.SOPInstanceUID].exists() for ds in sent[:2]))
        assert asked(node).count("committed") == 1
        (left,) = http.get("/api/retention").json()["items"]
        assert (left["study_uid"], left["kept_because"]) == ("1.2.3.2", "not committed")
        assert paths[kept.SOPInstanceUID].exists()
        assert http.get("/dicom-web/studies", params={"StudyInstanceUID": "1.2.3.1"}).status_code == 204
