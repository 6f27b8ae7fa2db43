"""Content-addressed files: whole or absent, whatever fails."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from digital_twins import InputError, NotFoundError, StorageError
from digital_twins.storage import BlobStore

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
    from digital_twins.storage import BlobStore
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
