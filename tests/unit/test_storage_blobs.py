"""Content-addressed files: whole or absent, whatever fails."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digital_twins import InputError, NotFoundError, StorageError
from digital_twins.storage import STAGE_BYTES, BlobStore
from digital_twins.storage._spool import direct_works

_FCNTL = fcntl.fcntl
SRC = Path(__file__).parents[2] / "src"


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]


def test_bytes_come_back_under_their_sha256(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    data = b"any bytes"
    digest = store.put(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert store.path(digest) == tmp_path / "blobs" / digest[:2] / digest[2:]
    assert store.exists(digest)
    assert store.get(digest) == data
    assert BlobStore(tmp_path / "blobs").get(digest) == data
    assert store.put(b"") == hashlib.sha256(b"").hexdigest()


def test_the_same_bytes_are_written_once(tmp_path):
    store = BlobStore(tmp_path)
    first = store.put(b"same")
    inode = store.path(first).stat().st_ino
    assert store.put_many([b"same", b"same"]) == [first, first]
    assert store.path(first).stat().st_ino == inode
    assert len(files(tmp_path)) == 1


def test_many_blobs_in_order_with_each_folder_synced_once(tmp_path, monkeypatch):
    store = BlobStore(tmp_path)
    synced_folders = []
    real = os.fsync

    def fsync(descriptor):
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced_folders.extend([target] if target.is_dir() and target != tmp_path else [])
        real(descriptor)

    blobs = [str(number).encode() for number in range(700)]
    store.put_many(blobs[:1])
    monkeypatch.setattr(os, "fsync", fsync)
    digests = store.put_many(iter(blobs))
    assert digests == [hashlib.sha256(blob).hexdigest() for blob in blobs]
    assert [store.get(digest) for digest in digests] == blobs
    assert len(synced_folders) == len(set(synced_folders)) <= 256


def test_the_mark_comes_after_both_syncs(tmp_path, monkeypatch):
    store = BlobStore(tmp_path)
    calls = []
    for name in ("fsync", "fchmod", "link"):
        real = getattr(os, name)

        def recorded(*arguments, name=name, real=real, **options):
            real(*arguments, **options)
            calls.append(name)

        monkeypatch.setattr(os, name, recorded)
    digest = store.put(b"marked")
    assert calls == ["link", "fsync", "fsync", "fchmod"]
    assert not store.path(digest).stat().st_mode & 0o222
    calls.clear()
    assert store.put(b"marked") == digest
    assert calls == []


@pytest.mark.parametrize("left", [b"", b"XXXX", b"torn", b"longer than it was"])
@pytest.mark.parametrize("how", ["put", "put_many"])
def test_a_name_left_torn_by_a_power_failure_is_replaced(tmp_path, left, how):
    store = BlobStore(tmp_path)
    path = store.path(hashlib.sha256(b"torn").hexdigest())
    path.write_bytes(left)  # the name reached the disk, bytes and mark did not
    path.chmod(0o640)
    digest = store.put(b"torn") if how == "put" else store.put_many([b"torn"])[0]
    store.verify(digest)
    assert files(tmp_path) == [path]
    assert not path.stat().st_mode & 0o222


def test_a_failed_sync_takes_back_its_own_name_only(tmp_path, monkeypatch):
    store, other = BlobStore(tmp_path), BlobStore(tmp_path)
    path = store.path(hashlib.sha256(b"bytes").hexdigest())
    for meanwhile in (False, True):

        def failing(_descriptor, meanwhile=meanwhile):
            if meanwhile:
                patch.undo()
                other.put(b"bytes")
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            with pytest.raises(StorageError):
                store.put(b"bytes")
        assert files(tmp_path) == ([path] if meanwhile else [])
    assert other.get(store.put(b"bytes")) == b"bytes"


@pytest.mark.parametrize("failing_call", [1, 2])
def test_either_of_the_two_syncs_can_fail(tmp_path, monkeypatch, failing_call):
    store = BlobStore(tmp_path)
    numbers = itertools.count(1)
    real = os.fsync

    def fsync(descriptor):
        if next(numbers) == failing_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match="full"):
            store.put(b"bytes")
    assert files(tmp_path) == []
    store.verify(store.put(b"bytes"))


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def link(*_arguments, **_options):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    store = BlobStore(tmp_path)
    digest = store.put(b"bytes")
    store.verify(digest)
    assert files(tmp_path) == [store.path(digest)]


def test_a_file_system_without_nameless_files(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE")
    store = BlobStore(tmp_path)
    digest = store.put(b"bytes")
    spool = store.spool()
    spool.write(b"more ")
    spool.write(b"bytes")
    other = store.put_spooled(spool)
    spool = store.spool()
    spool.write(b"given up")
    spool.discard()
    store.verify(digest)
    store.verify(other)
    assert sorted(files(tmp_path)) == sorted([store.path(digest), store.path(other)])


def test_spooled_bytes_of_every_length(tmp_path):
    """None, odd ones, and more than may wait in memory; two that wait at one time."""
    store, rng = BlobStore(tmp_path), random.Random(1)
    for size in (0, 1, 4095, 4096, 4097, 200_001, STAGE_BYTES - 1, STAGE_BYTES, STAGE_BYTES + 1, 3 * 10**6):
        spools, pieces = [store.spool(), store.spool()], [rng.randbytes(size), rng.randbytes(size)]
        begin = 0
        while begin < size:
            end = begin + rng.randint(1, 300_000)
            for spool, data in zip(spools, pieces, strict=True):
                spool.write(data[begin:end])
            begin = end
        for spool, data in zip(spools, pieces, strict=True):
            assert (spool.staged is None) == (size > STAGE_BYTES)
            digest = store.put_spooled(spool)
            assert digest == hashlib.sha256(data).hexdigest()
            assert store.get(digest) == data


@pytest.mark.parametrize("direct", [True, False])
def test_a_staged_blob_is_written_past_the_page_cache_where_that_works(tmp_path, direct, monkeypatch):
    if not direct:
        monkeypatch.setattr(fcntl, "fcntl", _no_direct_writes)
    elif not direct_works(tmp_path):
        pytest.skip("this file system has no direct writes")
    assert direct_works(tmp_path) is direct
    store, rng, real, past_cache = BlobStore(tmp_path), random.Random(2), os.write, []

    def write(descriptor, data):
        count = real(descriptor, data)
        past_cache.append(count if _FCNTL(descriptor, fcntl.F_GETFL) & os.O_DIRECT else 0)
        return count

    for size in (2**16 - 1, 2**16, 2**16 + 1, 527_000, STAGE_BYTES - 1, STAGE_BYTES):
        data = rng.randbytes(size)
        spool = store.spool()
        spool.write(data)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", write)
            digest = store.put_spooled(spool)
        assert sum(past_cache) == (size // 4096 * 4096 if direct and size >= 2**16 else 0)
        assert store.path(digest).read_bytes() == data
        past_cache.clear()
    assert files(tmp_path / "tmp") == []


def _no_direct_writes(descriptor: int, command: int, argument: int = 0) -> int:
    if argument & os.O_DIRECT:
        raise OSError(errno.EINVAL, "not here")
    return _FCNTL(descriptor, command, argument)


def test_a_disk_that_fills_up_in_the_middle_of_a_direct_write(tmp_path, monkeypatch):
    store = BlobStore(tmp_path)
    spool = store.spool()
    spool.write(random.Random(3).randbytes(527_000))
    landing = store.land(spool)
    real, calls = os.write, []

    def write(descriptor, data):
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[:8192])
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match="could not be stored"):
        landing.wait()
    monkeypatch.undo()
    assert calls[0] > calls[1] > 0
    assert files(tmp_path) == []


def test_a_staged_blob_that_replaces_a_torn_one(tmp_path):
    store = BlobStore(tmp_path)
    digest = store.put(b"bytes" * 2000)
    store.path(digest).chmod(0o640)
    os.truncate(store.path(digest), 10)
    spool = store.spool()
    spool.write(b"bytes" * 2000)
    landing = store.land(spool)
    assert store.get(digest) == b"bytes" * 2000  # before any sync
    landing.wait()
    assert store.is_proven(digest)
    assert files(tmp_path) == [store.path(digest)]


def test_threads_that_put_the_same_bytes(tmp_path):
    store = BlobStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            data = str(number).encode() * 1000
            assert len(set(pool.map(store.put, [data] * 8))) == 1
    for path in files(tmp_path):
        store.verify(path.parent.name + path.name)
    assert len(files(tmp_path)) == 20


def test_a_missing_blob_and_a_bad_name(tmp_path):
    store = BlobStore(tmp_path)
    with pytest.raises(NotFoundError):
        store.get("0" * 64)
    assert not store.exists("0" * 64)
    for name in ("../../etc/passwd", "0" * 63, "G" * 64, "0" * 64 + "\n"):
        with pytest.raises(InputError, match="64"):
            store.get(name)


def test_damage_is_found(tmp_path):
    store = BlobStore(tmp_path)
    digest = store.put(b"four")
    store.verify(digest)
    store.path(digest).chmod(0o640)
    store.path(digest).write_bytes(b"fous")
    assert store.get(digest) == b"fous"
    with pytest.raises(StorageError, match="damaged"):
        store.verify(digest)
    with pytest.raises(StorageError, match="damaged"):
        BlobStore(tmp_path, verify_on_read=True).get(digest)


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENODEV]
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failing_system_call_leaves_nothing_half_written(tmp_path, monkeypatch, code, call):
    store = BlobStore(tmp_path)
    kept = store.put(b"kept")
    calls = 0
    real = getattr(os, call)

    def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(code, os.strerror(code))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        with pytest.raises(StorageError) as error:
            store.put_many([b"one", b"two", b"three"])
    assert error.value.fix
    assert files(tmp_path) == [store.path(kept)]
    assert store.get(store.put(b"two")) == b"two"


def test_a_full_disk_leaves_nothing_and_stays_usable(small_volume):
    folder = small_volume("size=1m")
    store = BlobStore(folder)
    store.put(b"kept")
    with pytest.raises(StorageError, match="full"):
        store.put_many([b"a" * 600_000, b"b" * 600_000])
    assert len(files(folder)) == 1
    assert store.get(store.put(b"after")) == b"after"


def test_a_read_only_volume(small_volume):
    folder = small_volume("size=1m")
    store = BlobStore(folder)
    digest = store.put(b"kept")
    small_volume.remount("ro")
    with pytest.raises(StorageError, match="read-only"):
        store.put(b"more")
    with pytest.raises(StorageError, match="read-only"):
        BlobStore(folder)
    assert store.get(digest) == b"kept"


WRITE_FOREVER = """
    import sys
    from digital_twins.storage import BlobStore, _blobs
    store = BlobStore(sys.argv[1])
    number = 0
    while True:
        store.put_many([str((number, offset)).encode() * 5000 for offset in range(5)])
        number += 1
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_kill_9_leaves_whole_blobs_and_the_next_start_cleans_up(tmp_path, full):
    said = {}
    for round_number in range(50 if full else 3):
        root = tmp_path / "blobs"
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITE_FOREVER), str(root)],
            env={**os.environ, "PYTHONPATH": str(SRC)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3 + round_number):
            assert process.stdout is not None
            said[int(process.stdout.readline())] = True
        other = BlobStore(root)  # must not remove the temporary files of the process that lives
        assert len([path for path in (root / "tmp").iterdir() if path.is_dir()]) == 2
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        store = BlobStore(root, verify_on_read=True)
        assert len(list((root / "tmp").iterdir())) == 2  # the folders of `other` and `store`
        for path in files(root):
            store.verify(path.parent.name + path.name)
        for number in said:
            for offset in range(5):
                assert store.exists(hashlib.sha256(str((number - 1, offset)).encode() * 5000).hexdigest())
        del other, store
