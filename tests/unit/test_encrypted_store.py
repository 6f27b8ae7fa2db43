"""Encrypted blobs and the register of their keys: owners, rotation that is killed, erasure, damage."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digital_twins import StorageError
from digital_twins.crypto import DecryptionError, LocalKeyFile, SealedReader, StreamSealer, decrypt_stream
from digital_twins.storage import BlobStore, Database, ErasedError, KeyRegister, Migration

SEGMENT = 1 << 20
KEY = bytes(range(32))


def register(folder: Path) -> KeyRegister:
    return KeyRegister(folder / "keys.sqlite", LocalKeyFile(folder / "wrapping.json"))


@pytest.mark.parametrize("size", [0, 1, SEGMENT - 57, SEGMENT - 56, SEGMENT - 55, 2 * SEGMENT + 5])
def test_what_is_sealed_piece_by_piece_is_read_from_any_place(tmp_path, size):
    chance = random.Random(size)
    data, out = chance.randbytes(size), io.BytesIO()
    sealer = StreamSealer(lambda piece: out.write(bytes(piece)), key=KEY, associated_data=b"x")
    place = 0
    while place < size:
        step = chance.choice([1000, 70_000, 2 * SEGMENT])
        sealer.feed(data[place : place + step])
        place += step
    sealer.finish()
    whole = io.BytesIO()
    decrypt_stream(io.BytesIO(out.getvalue()), whole, key=KEY, associated_data=b"x")
    assert whole.getvalue() == data
    (tmp_path / "sealed").write_bytes(b"head" + out.getvalue())
    descriptor = os.open(tmp_path / "sealed", os.O_RDONLY)
    with SealedReader(descriptor, start=4, key=KEY, associated_data=b"x") as reader:
        assert reader.size_bytes == size
        for _ in range(10):
            start, room = chance.randrange(size + 1), memoryview(bytearray(chance.randrange(SEGMENT)))
            assert bytes(room[: reader.read_at(start, room)]) == data[start : start + len(room)]


def test_a_blob_goes_with_the_key_of_its_owner_and_stays_for_others(tmp_path):
    keys = register(tmp_path)
    store = BlobStore(tmp_path / "blobs", keys=keys)
    shared, own = store.put(b"planted shared", owner="A"), store.put(b"planted own", owner="A")
    assert store.put(b"planted shared", owner="B") == shared
    spool = store.spool()
    spool.write(b"planted spooled")
    assert bytes(spool.content()) == b"planted spooled"
    spooled = store.put_spooled(spool, owner="A")
    many = store.put_many([b"planted one", b"planted two"], owner="B")
    assert [store.get(each) for each in (own, spooled, *many)] == [
        b"planted own",
        b"planted spooled",
        b"planted one",
        b"planted two",
    ]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"planted" in path.read_bytes()]
    assert keys.destroy([keys.tag("A")]) == 1
    for gone in (own, spooled):
        with pytest.raises(ErasedError):
            store.get(gone)
    assert store.get(shared) == b"planted shared"
    assert store.put(b"planted own", owner="A") == own  # the patient came back: a new key
    assert store.get(own) == b"planted own"
    keys.close()


def test_a_changed_or_exchanged_blob_is_refused(tmp_path):
    keys = register(tmp_path)
    store = BlobStore(tmp_path / "blobs", keys=keys)
    first, second = store.put(b"a" * 1000, owner="A"), store.put(b"b" * 1000, owner="A")
    content = store.path(first).read_bytes()
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in (0, 30, 60, 520, 700)]
    store.path(first).chmod(0o640)
    for damaged in (*flipped, store.path(second).read_bytes(), b"a" * 1000, content[:-1], content + b"x"):
        store.path(first).write_bytes(damaged)
        with pytest.raises(DecryptionError):
            store.get(first)
    keys.close()


def test_older_copies_of_the_register_open_nothing_after_the_old_keys_are_destroyed(tmp_path):
    keys = register(tmp_path)
    BlobStore(tmp_path / "blobs", keys=keys).put(b"x", owner="A")
    keys.close()
    copy = (tmp_path / "keys.sqlite").read_bytes()
    keys = register(tmp_path)
    assert len(keys.rotate(destroy_old=True).destroyed) == 1
    keys.close()
    (tmp_path / "old.sqlite").write_bytes(copy)
    with pytest.raises(StorageError, match="does not hold its key"):
        KeyRegister(tmp_path / "old.sqlite", LocalKeyFile(tmp_path / "wrapping.json"))
    register(tmp_path).close()


KILLED = """
import os, signal, sys
from pathlib import Path
from digital_twins.crypto import LocalKeyFile
from digital_twins.storage import KeyRegister
folder = Path(sys.argv[1])
keys = KeyRegister(folder / "keys.sqlite", LocalKeyFile(folder / "wrapping.json"))
keys.rotate(destroy_old=True, progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_rotation_that_is_killed_goes_on(tmp_path):
    keys = register(tmp_path)
    before = {f"owner {n}": keys.for_owner(f"owner {n}").key for n in range(600)}
    keys.close()
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    keys = register(tmp_path)
    assert 0 < keys.status().rotating < 600  # some are wrapped anew, some are not; all can be opened
    assert {owner: keys.for_owner(owner).key for owner in before} == before
    assert len(keys.rotate().destroyed) == 1  # the plan of the killed one, with its destruction
    assert keys.status().rotating == 0
    keys.close()
    keys = register(tmp_path)
    assert {owner: keys.for_owner(owner).key for owner in before} == before
    keys.close()


def test_a_database_opens_with_its_own_key_alone(tmp_path):
    keys = register(tmp_path)
    table = (Migration("test.0001", "CREATE TABLE planted(name TEXT)"),)
    key = keys.database_key("a.sqlite")
    with Database(tmp_path / "a.sqlite", migrations=table, key=key) as database:
        database.write(lambda cursor: cursor.execute("INSERT INTO planted VALUES ('planted')") and None)
        assert not [path for path in tmp_path.glob("a.sqlite*") if b"planted" in path.read_bytes()]
    with pytest.raises(StorageError, match="not encrypted with the key"):
        Database(tmp_path / "a.sqlite", migrations=table, key=bytes(32))
    with Database(tmp_path / "a.sqlite", migrations=table, key=key) as database, database.read() as reading:
        assert reading.execute("SELECT name FROM planted").fetchall() == [("planted",)]
    keys.close()
