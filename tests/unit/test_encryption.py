"""Streams and files under AES-256-GCM: any damage is refused, and rotation re-wraps keys alone."""

from __future__ import annotations

import io
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from digital_twins import InputError, StorageError
from digital_twins.crypto import (
    DecryptionError,
    KeyServiceError,
    LocalKeyFile,
    decrypt_file,
    decrypt_stream,
    encrypt_file,
    encrypt_stream,
    rewrap_file,
)

KEY = bytes(range(32))
SEGMENT = 1 << 20
HEADER = 40
FIRST = SEGMENT - HEADER - 16
PLAIN = SEGMENT - 16


def sealed(data: bytes, associated_data: bytes = b"object", key: bytes = KEY) -> bytes:
    out = io.BytesIO()
    assert encrypt_stream(io.BytesIO(data), out, key=key, associated_data=associated_data) == len(data)
    return out.getvalue()


def opened(data: bytes, associated_data: bytes = b"object", key: bytes = KEY) -> bytes:
    out = io.BytesIO()
    assert decrypt_stream(io.BytesIO(data), out, key=key, associated_data=associated_data) == len(
        out.getvalue()
    )
    return out.getvalue()


def refused(data: bytes) -> bool:
    try:
        opened(data)
    except DecryptionError:
        return True
    return False


@pytest.mark.parametrize("size", [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + PLAIN, FIRST + PLAIN + 1])
def test_streams_come_back_at_every_border_of_segments(size):
    data = random.Random(size).randbytes(size)
    assert opened(sealed(data)) == data


def test_pipes_give_less_than_asked():
    class Drip(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._rest = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            piece = self._rest.read(min(len(buffer), 70_001))
            buffer[: len(piece)] = piece
            return len(piece)

    data = random.Random(5).randbytes(FIRST + 12_345)
    out = io.BytesIO()
    encrypt_stream(Drip(data), out, key=KEY, associated_data=b"")  # type: ignore[arg-type]
    assert opened(out.getvalue(), b"") == data


def test_every_kind_of_damage_is_refused():
    data = random.Random(1).randbytes(FIRST + 2 * PLAIN + 100)
    good = sealed(data)
    other = sealed(data)
    pieces = [
        good[:SEGMENT],
        good[SEGMENT : 2 * SEGMENT],
        good[2 * SEGMENT : 3 * SEGMENT],
        good[3 * SEGMENT :],
    ]
    draw = random.Random(2)
    flips = []
    for _ in range(40):
        place = draw.randrange(len(good))
        flips.append(good[:place] + bytes([good[place] ^ (1 << draw.randrange(8))]) + good[place + 1 :])
    damaged = {
        "swapped": pieces[0] + pieces[2] + pieces[1] + pieces[3],
        "left out": pieces[0] + pieces[2] + pieces[3],
        "doubled": pieces[0] + pieces[1] + pieces[1] + pieces[2] + pieces[3],
        "cut between segments": b"".join(pieces[:3]),
        "cut in a segment": good[:-50],
        "cut in a tag": good[: 3 * SEGMENT + 5],
        "cut in the header": good[:20],
        "lengthened": good + b"\x00",
        "followed by another": good + other,
        "spliced": pieces[0] + other[SEGMENT:],
        "nothing": b"",
        **{f"flip {number}": flip for number, flip in enumerate(flips)},
    }
    assert opened(good) == data
    assert [kind for kind, content in damaged.items() if not refused(content)] == []


def test_key_and_associated_data_must_be_the_same():
    good = sealed(b"dose 60 Gy")
    with pytest.raises(DecryptionError):
        opened(good, b"other object")
    with pytest.raises(DecryptionError):
        opened(good, key=bytes(32))
    with pytest.raises(InputError, match="32 bytes"):
        opened(good, key=b"short")


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path):
    provider = LocalKeyFile(tmp_path / "keys.json")
    plain, locked, back = tmp_path / "plain", tmp_path / "locked", tmp_path / "back"
    plain.write_bytes(random.Random(3).randbytes(FIRST + PLAIN))
    encrypt_file(plain, locked, provider=provider, object_name="twin-17")
    decrypt_file(locked, back, provider=provider, object_name="twin-17")
    assert back.read_bytes() == plain.read_bytes()
    back.unlink()
    good = locked.read_bytes()
    assert b"twin-17" in good.splitlines()[1]
    start = good.index(b"\n", 7) + 1
    header = json.loads(good[7:start])
    header["object"] = "twin-18"
    renamed = good[:7] + json.dumps(header).encode() + b"\n" + good[start:]
    for damaged in (good[:-1], good + b"x", good[:-7] + b"7654321", b"PK" + good[2:], good[:30]):
        locked.write_bytes(damaged)
        with pytest.raises(DecryptionError):
            decrypt_file(locked, back, provider=provider, object_name="twin-17")
    locked.write_bytes(renamed)
    for name in ("twin-17", "twin-18"):
        with pytest.raises(DecryptionError):
            decrypt_file(locked, back, provider=provider, object_name=name)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keys.json", "locked", "plain"]


def test_rotation_wraps_anew_and_keeps_the_data(tmp_path: Path):
    keys = tmp_path / "keys.json"
    provider = LocalKeyFile(keys)
    plain, locked, back = tmp_path / "plain", tmp_path / "locked", tmp_path / "back"
    plain.write_bytes(b"volumes")
    encrypt_file(plain, locked, provider=provider, object_name="twin-17")
    before = locked.read_bytes()
    newest = provider.rotate()
    assert keys.stat().st_mode & 0o777 == 0o600
    decrypt_file(locked, back, provider=provider, object_name="twin-17")
    rewrap_file(locked, provider=provider, object_name="twin-17")
    after = locked.read_bytes()
    assert newest.encode() in after.splitlines()[1]
    assert before.split(b"\n", 2)[2] == after.split(b"\n", 2)[2]
    held = json.loads(keys.read_text())
    del held["keys"][next(each for each in held["keys"] if each != newest)]
    keys.write_text(json.dumps(held))
    decrypt_file(locked, back, provider=LocalKeyFile(keys), object_name="twin-17")
    assert back.read_bytes() == b"volumes"
    locked.write_bytes(before)
    with pytest.raises(DecryptionError, match="is not here"):
        decrypt_file(locked, back, provider=LocalKeyFile(keys), object_name="twin-17")


def test_a_wrapped_key_opens_in_its_context_alone(tmp_path: Path):
    provider = LocalKeyFile(tmp_path / "keys.json")
    wrapped = provider.wrap(KEY, {"object": "a", "kind": "b"})
    assert provider.unwrap(wrapped, {"kind": "b", "object": "a"}) == KEY
    for context in ({"object": "a"}, {"object": "ak", "ind": "b"}, {}):
        with pytest.raises(DecryptionError):
            provider.unwrap(wrapped, context)
    with pytest.raises(DecryptionError):
        provider.unwrap(replace(wrapped, wrapped=b""), {"object": "a", "kind": "b"})


def test_a_key_file_that_others_read_or_that_is_broken_is_refused(tmp_path: Path):
    keys = tmp_path / "keys.json"
    LocalKeyFile(keys).wrap(KEY, {})
    keys.chmod(0o640)
    with pytest.raises(StorageError, match="Other users"):
        LocalKeyFile(keys).wrap(KEY, {})
    keys.chmod(0o600)
    for broken in ('{"newest": "x", "keys": {}}', "[]", "", '{"newest": "x", "keys": {"x": "AAAA"}}'):
        keys.write_text(broken)
        with pytest.raises(KeyServiceError, match="not a set of wrapping keys"):
            LocalKeyFile(keys).wrap(KEY, {})
