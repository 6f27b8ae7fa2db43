"""kill -9 of a node that is forwarding: everything arrives, each object always with the same bytes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import digital_twins
from dicom_support import ct_slice, file_bytes, open_store
from digital_twins import dicom
from digital_twins.dicom._part10 import split_file
from pacs_recorder import Pacs, pacs

pytestmark = pytest.mark.timeout(1800)  # fifty starts of a node on a busy machine
_SOURCE = Path(digital_twins.__file__).parents[1]
_OBJECTS = 25


def _start(folder: Path, port: int) -> tuple[subprocess.Popen[str], int]:
    env = {**os.environ, "PYTHONPATH": f"{_SOURCE}{os.pathsep}{Path(__file__).parents[1]}"}
    script = Path(__file__).with_name("dicom_forward_node.py")
    node = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(port)], stdout=subprocess.PIPE, text=True, env=env
    )
    assert node.stdout is not None
    return node, int(node.stdout.readline())


def _wait(archive: Pacs, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(archive.received) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def _kill(node: subprocess.Popen[str]) -> None:
    node.kill()
    node.wait(10)
    assert node.stdout is not None
    node.stdout.close()


def test_everything_acknowledged_arrives_with_the_same_bytes(tmp_path: Path, *, full: bool) -> None:
    rng = random.Random(11)
    sent: dict[str, bytes] = {}
    with pacs([(CTImageStorage, [ExplicitVRLittleEndian])]) as archive:
        for turn in range(50 if full else 5):
            node, port = _start(tmp_path, archive.port)
            known = len(archive.received)
            slices = [ct_slice(number, series=f"1.{turn}") for number in range(1, _OBJECTS + 1)]
            dicom.send(dicom.Remote("127.0.0.1", port), slices)
            for each in slices:
                raw = file_bytes(each)
                sent[each.SOPInstanceUID] = raw[split_file(raw).dataset_offset :]
            _wait(archive, known + 1 + rng.randrange(_OBJECTS))
            _kill(node)
        node, _port = _start(tmp_path, archive.port)
        _wait(archive, len(sent))
        with open_store(tmp_path) as store:
            queues = dicom.SendQueues(store.database)
            deadline = time.monotonic() + 120
            while queues.state("PACS").waiting and time.monotonic() < deadline:
                time.sleep(0.02)
            state = queues.state("PACS")
        _kill(node)
    assert (state.waiting, state.dead) == (0, 0)
    assert set(archive.received) == set(sent)
    for uid, copies in archive.received.items():
        assert set(copies) == {sent[uid]}
    assert state.sent == len(sent)
