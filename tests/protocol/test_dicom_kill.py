"""kill -9 of a node that is receiving: what it acknowledged is there after the restart, whole."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage

import digital_twins
from dicom_support import RawPeer, audited, ct_slice, file_bytes, open_store
from digital_twins.dicom._dimse import Tag
from digital_twins.dicom._part10 import split_file

pytestmark = pytest.mark.timeout(1800)  # fifty starts of a node on a busy machine
_SOURCE = Path(digital_twins.__file__).parents[1]


def _start(folder: Path, *, encrypted: bool) -> tuple[subprocess.Popen[str], int]:
    env = {**os.environ, "PYTHONPATH": f"{_SOURCE}{os.pathsep}{Path(__file__).parents[1]}"}
    script = Path(__file__).with_name("dicom_kill_node.py")
    words = ["encrypted"] if encrypted else []
    node = subprocess.Popen(
        [sys.executable, str(script), str(folder), *words], stdout=subprocess.PIPE, text=True, env=env
    )
    assert node.stdout is not None
    return node, int(node.stdout.readline())


def _send_until_dead(port: int, series: str, acknowledged: list[str]) -> None:
    peer = RawPeer(port, CTImageStorage, "1.2.840.10008.1.2.1")
    number = 0
    with peer.socket, contextlib.suppress(ConnectionError):
        while True:
            number += 1
            raw = file_bytes(ct_slice(number, series=series))
            part = split_file(raw)
            if peer.store(raw[part.dataset_offset :], part.sop_instance_uid)[Tag.STATUS] == 0:
                acknowledged.append(part.sop_instance_uid)


@pytest.mark.parametrize("encrypted", [False, True])
def test_nothing_acknowledged_is_lost(tmp_path: Path, *, full: bool, encrypted: bool) -> None:
    rng = random.Random(7)
    acknowledged: list[str] = []
    for turn in range(50 if full else 2 if encrypted else 5):
        node, port = _start(tmp_path, encrypted=encrypted)
        before = len(acknowledged)
        senders = [
            threading.Thread(target=_send_until_dead, args=(port, f"1.{turn}.{s}", acknowledged))
            for s in (1, 2)
        ]
        for sender in senders:
            sender.start()
        deadline = time.monotonic() + 120
        while len(acknowledged) < before + 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        node.kill()
        node.wait(10)
        assert node.stdout is not None
        node.stdout.close()
        for sender in senders:
            sender.join(60)
    assert len(acknowledged) >= (10 if encrypted else 15)
    with open_store(tmp_path, encrypted=encrypted) as store:
        for uid in acknowledged:
            assert store.dataset(uid).SOPInstanceUID == uid
        stored = store.instances("1.2.3.1")
        assert {i.sop_uid for i in stored} >= set(acknowledged)
        for instance in stored:
            store.blobs.verify(instance.digest)
        assert len([e for e in audited(store) if e["kind"] == "dicom.store"]) == len(stored)
        again = store.ingest(file_bytes(ct_slice(1, series="1.0.1")))
        assert again.outcome == "identical"
