"""Objects on their way to the disk: acknowledged when file and rows are there; after a power failure."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset

from dicom_support import audited, ct_slice, file_bytes, listening, open_store
from digital_twins import StorageError, dicom
from digital_twins.crypto import LocalKeyFile
from digital_twins.dicom._arrivals import settle_arrivals
from digital_twins.dicom._part10 import split_file
from digital_twins.dicom._spooling import SpoolWriter
from digital_twins.dicom._stored import Policy, Prepared
from digital_twins.storage import BlobStore, KeyRegister

Work = Callable[[], None]


def arriving(store: dicom.DicomStore, ds: FileDataset, sync: Callable[[Work], None]) -> Prepared:
    """An object as the listener has it when its last byte came."""
    raw = file_bytes(ds)
    part = split_file(raw)
    writer = SpoolWriter(store.blobs.spool(), lambda: None)
    writer.feed(raw)
    return store.prepare_spooled(
        writer,
        part.dataset_offset,
        part.transfer_syntax,
        expected=(part.sop_class_uid, part.sop_instance_uid),
        source="CT1",
        sync=sync,
    )


def now(work: Work) -> None:
    work()


class GatedSyncs:
    """Syncs that are started in a pool and wait there, each until it is told to finish."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = os.fsync
        self._mine = threading.local()
        self._gates: list[threading.Event] = []
        self._running: list[Future[None]] = []
        monkeypatch.setattr(os, "fsync", self._fsync)

    def start(self, pool: ThreadPoolExecutor, work: Work) -> None:
        gate = threading.Event()
        self._gates.append(gate)
        self._running.append(pool.submit(self._work, work, gate))

    def finish(self, number: int) -> None:
        self._gates[number].set()
        self._running[number].result(60)

    def _work(self, work: Work, gate: threading.Event) -> None:
        self._mine.gate = gate
        work()

    def _fsync(self, descriptor: int) -> None:
        gate = getattr(self._mine, "gate", None)
        assert gate is None or gate.wait(60)
        self._real(descriptor)


def notes(store: dicom.DicomStore) -> list[str]:
    with store.database.read() as connection:
        return [str(row[0]) for row in connection.execute("SELECT blob FROM dicom_arrival ORDER BY blob")]


def left(store: dicom.DicomStore) -> list[int]:
    """Rows of patient, study, series, instance and queue tables."""
    tables = ("dicom_patient", "dicom_study", "dicom_series", "dicom_instance", "dicom_queue_entry")
    with store.database.read() as connection:
        found: list[Any] = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables
        ]
    return [int(row[0]) for row in found]


def tear(store: dicom.DicomStore, digest: str, *, keep_bytes: int) -> None:
    """What a power failure leaves of a file that was not synced: a name, some of the bytes, no mark."""
    path = store.blobs.path(digest)
    path.chmod(0o640)
    os.truncate(path, keep_bytes)


@pytest.mark.parametrize("last", [0, 1])
def test_the_answer_comes_when_rows_file_and_folder_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Whichever of the two syncs comes last."""
    gated = GatedSyncs(monkeypatch)
    with open_store(tmp_path) as store, ThreadPoolExecutor(3) as pool:
        prepared = arriving(store, ct_slice(1), lambda work: gated.start(pool, work))
        answer = pool.submit(store.keep, prepared)
        while not notes(store):
            assert not answer.done()
        assert left(store)[3] == 1  # the rows are committed, beside the syncs
        store.blobs.verify(prepared.digest)  # and who reads them finds the whole file
        path = store.blobs.path(prepared.digest)
        for number in (1 - last, last):
            assert not answer.done()
            assert path.stat().st_mode & 0o222
            gated.finish(number)
        assert answer.result(60).outcome == "new"
        assert not path.stat().st_mode & 0o222


def test_rows_wait_until_the_file_is_written(tmp_path: Path) -> None:
    with open_store(tmp_path) as store, ThreadPoolExecutor(1) as pool:
        waiting: list[Work] = []
        prepared = arriving(store, ct_slice(1), waiting.append)
        answer = pool.submit(store.keep, prepared)
        with store.database.read() as connection:  # the unit is at work, and has not committed
            assert connection.execute("SELECT count(*) FROM dicom_instance").fetchall() == [(0,)]
        assert not answer.done()
        for work in waiting:
            work()
        assert answer.result(60).outcome == "new"
        store.blobs.verify(prepared.digest)


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_store(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            prepared = arriving(store, ct_slice(1), now)
            with pytest.raises(StorageError, match="full"):
                store.keep(prepared)
        assert left(store) == [0] * 5
        assert audited(store) == notes(store) == []
        assert not store.blobs.exists(prepared.digest)
        assert store.keep(arriving(store, ct_slice(1), now)).outcome == "new"


@pytest.mark.parametrize("failing", [1, 2])
def test_a_sync_that_fails_takes_the_object_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    calls = iter(range(1, 100))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with open_store(tmp_path) as store:
        store.on_new = queue_for_pacs
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            prepared = arriving(store, ct_slice(1), now)
            with pytest.raises(StorageError, match="full"):
                store.keep(prepared)
        assert left(store) == [0] * 5
        assert notes(store) == []
        assert not store.blobs.exists(prepared.digest)
        assert [event["outcome"] for event in audited(store)] == ["success", "failure"]
        assert store.keep(arriving(store, ct_slice(1), now)).outcome == "new"
        assert left(store) == [1] * 5


def queue_for_pacs(cursor: Any, prepared: Prepared) -> None:
    header = prepared.header
    cursor.execute(
        "INSERT INTO dicom_queue_entry (destination, study_uid, sop_uid, sop_class_uid, transfer_syntax,"
        " blob, dataset_offset, size_bytes, hold, deidentify, state, queued)"
        " VALUES ('PACS', ?, ?, ?, ?, ?, ?, ?, 0, '', 'waiting', 0)",
        (
            header.study_uid,
            header.sop_uid,
            header.sop_class_uid,
            header.transfer_syntax,
            prepared.digest,
            prepared.dataset_offset,
            prepared.size_bytes,
        ),
    )


def test_after_a_power_failure_whole_objects_stay_and_torn_ones_go(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        check_recovery(store)


def test_the_same_in_an_encrypted_store(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        register = KeyRegister(tmp_path / "keys.sqlite", LocalKeyFile(tmp_path / "wrapping.json"))
        store.blobs = BlobStore(tmp_path / "sealed", keys=register)
        check_recovery(store)
        register.close()


def check_recovery(store: dicom.DicomStore) -> None:
    kept = [arriving(store, ct_slice(number), now) for number in range(1, 5)]
    for prepared in kept:
        store.keep(prepared)
    tear(store, kept[1].digest, keep_bytes=kept[1].size_bytes // 2)
    tear(store, kept[2].digest, keep_bytes=0)
    store.blobs.path(kept[0].digest).chmod(0o640)  # whole, but the mark was not on disk
    store.blobs.path(kept[3].digest).unlink()
    alone = arriving(store, ct_slice(1, patient="P2", study="2", series="2.1"), now)
    store.keep(alone)
    tear(store, alone.digest, keep_bytes=100)
    before = len(audited(store))
    assert settle_arrivals(store) == 4
    assert [each.sop_uid for each in store.instances("1.2.3.1")] == [kept[0].header.sop_uid]
    assert left(store) == [1, 1, 1, 1, 0]
    assert store.blobs.is_proven(kept[0].digest)
    assert notes(store) == []
    told = audited(store)[before:]
    assert sorted(event["entity"] for event in told) == sorted(
        prepared.header.sop_uid for prepared in (kept[1], kept[2], kept[3], alone)
    )
    assert {(event["outcome"], event["agent"]) for event in told} == {("failure", "CT1")}
    assert settle_arrivals(store) == 0
    assert [store.keep(arriving(store, ct_slice(n), now)).outcome for n in (1, 2)] == ["identical", "new"]


def test_a_proven_file_that_rots_later_is_not_taken_for_a_torn_one(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        prepared = arriving(store, ct_slice(1), now)
        store.keep(prepared)
        path = store.blobs.path(prepared.digest)
        path.chmod(0o640)
        with path.open("r+b") as file:
            file.write(b"X")
        path.chmod(0o440)
        assert notes(store) == [prepared.digest]
        assert settle_arrivals(store) == 0
        assert left(store)[3] == 1
        with pytest.raises(StorageError, match="damaged"):
            store.blobs.verify(prepared.digest)


def test_a_failing_device_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_store(tmp_path) as store:
        prepared = arriving(store, ct_slice(1), now)
        store.keep(prepared)
        store.blobs.path(prepared.digest).chmod(0o640)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(StorageError, match="input/output"):
                settle_arrivals(store)
        assert left(store)[3] == 1
        assert settle_arrivals(store) == 0


def test_a_replacement_waits_for_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_store(tmp_path, policy=Policy(duplicates="replace")) as store:
        first = store.keep(arriving(store, ct_slice(1), now))
        other = ct_slice(1)
        other.SeriesDescription = "abdomen"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(StorageError, match="input/output"):
                store.keep(arriving(store, other, now))
        assert store.instance(first.sop_uid).digest == first.digest
        assert store.keep(arriving(store, other, now)).outcome == "replaced"
        assert store.instance(first.sop_uid).digest != first.digest


def test_the_same_object_on_two_associations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one must be on disk whatever becomes of the first."""
    gated = GatedSyncs(monkeypatch)
    with open_store(tmp_path) as store, ThreadPoolExecutor(3) as pool:
        first = arriving(store, ct_slice(1), lambda work: gated.start(pool, work))
        answer = pool.submit(store.keep, first)
        while not notes(store):
            assert not answer.done()
        assert store.keep(arriving(store, ct_slice(1), now)).outcome == "identical"
        assert store.blobs.is_proven(first.digest)
        gated.finish(0)
        gated.finish(1)
        assert answer.result(60).outcome == "new"
        assert left(store)[3] == 1
        store.blobs.verify(first.digest)


def test_notes_go_with_later_objects(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for number in range(1, 70):
            store.keep(arriving(store, ct_slice(number, size=8), now))
        assert len(notes(store)) < 64
        assert settle_arrivals(store) == 0
        assert notes(store) == []
        assert left(store)[3] == 69


class Disk:
    """Which files and names of a blob store a power failure would leave: what was synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = os.fsync
        self._mutex = threading.Lock()
        self.files: set[int] = set()  # inode numbers
        self.names: set[Path] = set()
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        here = Path(f"/proc/self/fd/{descriptor}").readlink()
        listed = set(here.iterdir()) if here.is_dir() else set()
        inode = os.fstat(descriptor).st_ino
        self._real(descriptor)
        with self._mutex:
            self.names |= listed
            self.files.add(inode)

    def crash(self, store: dicom.DicomStore, target: Path) -> None:
        """Copy what would be left at this moment; the database is durable at each of its commits."""
        with self._mutex:
            files, names = set(self.files), set(self.names)
        source = store.database.path.parent

        def copy(_cursor: Any) -> None:
            for path in source.glob("index.db*"):
                shutil.copyfile(path, target / path.name)

        store.database.write(copy)
        for path in (source / "blobs").glob("[0-9a-f][0-9a-f]/*"):
            copied = target / path.relative_to(source)
            if path in names:
                copied.parent.mkdir(parents=True, exist_ok=True)
                whole = path.read_bytes()
                copied.write_bytes(whole if path.stat().st_ino in files else whole[: len(whole) // 2])


class Told:
    """What was acknowledged so far, to wait for."""

    def __init__(self) -> None:
        self._uids: list[str] = []
        self._changed = threading.Condition()

    def add(self, stored: dicom.Stored) -> None:
        with self._changed:
            self._uids.append(stored.sop_uid)
            self._changed.notify()

    def at_least(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._uids) >= count, timeout=120)
            return list(self._uids)


def test_the_power_fails_while_two_senders_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, crashes = Told(), []
    with open_store(tmp_path / "live") as store, ThreadPoolExecutor(2) as pool:
        disk = Disk(monkeypatch)
        with listening(store, on_stored=told.add) as node:
            remote = dicom.Remote("127.0.0.1", node.port)
            groups = [[ct_slice(n, series=f"1.{g}", size=16) for n in range(1, 31)] for g in (1, 2)]
            sent = [pool.submit(dicom.send, remote, group) for group in groups]
            for number in range(5):
                acknowledged = told.at_least(10 * (number + 1))
                target = tmp_path / f"crash{number}"
                target.mkdir()
                disk.crash(store, target)
                crashes.append((target, acknowledged))
            assert [each.result(120) for each in sent] == [30, 30]
        monkeypatch.undo()
    for target, acknowledged in crashes:
        check_after_crash(target, acknowledged)


def check_after_crash(folder: Path, acknowledged: list[str]) -> None:
    with open_store(folder) as store:
        with listening(store):
            pass
        stored = {each.sop_uid: each for each in store.instances("1.2.3.1")}
        assert len(acknowledged) >= 10
        assert stored.keys() >= set(acknowledged)
        for each in stored.values():
            store.blobs.verify(each.digest)
        events = [event for event in audited(store) if event["kind"] == "dicom.store"]
        good = [event["entity"] for event in events if event["outcome"] == "success"]
        bad = [event["entity"] for event in events if event["outcome"] == "failure"]
        assert sorted(good) == sorted({*stored, *bad})  # each once
        assert not set(bad) & stored.keys()
        with store.database.read() as connection:
            counts: Any = connection.execute("SELECT sum(instances) FROM dicom_series").fetchone()
        assert counts[0] == len(stored)
