"""The compiled loops of the monitor's hot path beside the general way: the same readings, bit for bit."""

from __future__ import annotations

import random
import struct
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from digital_twins._errors import InputError
from digital_twins.monitoring import (
    VITALS,
    Arrival,
    AssociationLog,
    Intake,
    Reading,
    decode_reading,
    open_monitor_database,
)
from digital_twins.monitoring.engine._monitor import _rounds
from digital_twins.monitoring.ingest import BatchDecoder, Payloads
from digital_twins.monitoring.ingest._packets import CUT, NO_MQTT, WHOLE, messages, packets
from digital_twins.monitoring.signals import Batch, Named
from digital_twins.monitoring.storage import StateStore
from digital_twins.monitoring.storage._state import line_of

CODES = [each.code for each in VITALS]
# what a sender may write, and what none should
DOCUMENTS = (
    '{"t":1764108000.5,"n":17,"v":{"HR":72,"SPO2":97.5}}',
    ' { "v" : { "TEMP" : 37.10 , "HR" : -0 } , "t" : 12 } ',
    '{"t":1764108000.1234567,"v":{}}',
    '{"t":1764108000.12345678901,"v":{"HR":72}}',
    '{"t":1e3,"v":{"HR":7.2E1}}',
    '{"t":1,"n":9007199254740993}',
    '{"t":1,"n":123456789012345678901234567890}',
    '{"t":1,"n":1.0}',
    '{"t":1,"n":1.5}',
    '{"t":1,"e":["asystole"],"v":{"HR":0}}',
    '{"t":1,"e":[]}',
    '{"t":1,"v":{"HR":1,"HR":2}}',
    '{"t":1,"t":2}',
    '{"t":1,"unit":"x","v":{"FOO":3,"HR":60}}',
    '{"t":1,"v":{"H\\u0052":61}}',
    '{"t":1,"v":{"\u00e9":61,"HR":4}}',
    '{"t":1,"v":{"HR":null}}',
    '{"t":1,"v":{"HR":01}}',
    '{"t":1,"v":{"HR":1.}}',
    '{"t":1,"v":{"HR":.5}}',
    '{"t":1,"v":{"HR":+5}}',
    '{"t":1,"v":{"HR":5}},{"t":2}',
    '{"t":1,"v":{"HR":5',
    '{"t":1,"v":{"HR":5}',
    '{"t":1,"v":{"HR":5},}',
    '{"t":1,"v":{"HR":5,}}',
    '{"t":NaN}',
    '{"t":1e999}',
    '{"t":"1"}',
    '{"v":{"HR":5}}',
    "{}",
    "[]",
    "",
    "null",
    '{"t":1}x',
    '{"t":99999999999999999999.5}',
    '{"t":-1764108000.1234567}',
)


def decoded(texts: list[bytes]) -> tuple[Batch, int]:
    """Texts through the compiled loops, as one read of the broker's bytes."""
    ends = np.cumsum([len(each) for each in texts])
    topics = [b"vitals/D%d" % n for n in range(len(texts))]
    return BatchDecoder().decode(Payloads(b"".join(texts), topics, ends - [len(e) for e in texts], ends))


def expected(texts: list[bytes]) -> list[Reading]:
    """The same through the general decoder, one by one; those that it refuses are left out."""
    found = []
    for number, each in enumerate(texts):
        try:
            found.append(decode_reading(f"D{number}", each))
        except InputError:
            continue
    return found


def assert_same(batch: Batch, readings: list[Reading]) -> None:
    whole = Batch.of(readings)
    assert batch.devices == whole.devices
    assert batch.device_time_s.tobytes() == whole.device_time_s.tobytes()
    assert (batch.sequence == whole.sequence).all()
    assert np.array_equal(batch.values, whole.values, equal_nan=True)
    assert dict(batch.events) == dict(whole.events)


def test_documents_of_every_kind_are_read_as_the_general_decoder_reads_them() -> None:
    texts = [each.encode() for each in DOCUMENTS]
    batch, unreadable = decoded(texts)
    assert_same(batch, expected(texts))
    assert unreadable == len(texts) - len(batch)
    assert 0 < unreadable < len(texts)


def test_damaged_documents_are_read_as_the_general_decoder_reads_them() -> None:
    rng = random.Random(0)
    texts = []
    for _ in range(4000):
        text = bytearray(rng.choice(DOCUMENTS).encode())
        for _ in range(rng.randrange(3)):
            if text:
                place = rng.randrange(len(text))
                text[place : place + rng.randrange(2)] = rng.choice(
                    [
                        b'"',
                        b"{",
                        b"}",
                        b",",
                        b":",
                        b"0",
                        b"9",
                        b".",
                        b"-",
                        b"e",
                        b" ",
                        b"\\",
                        b"\x00",
                        b"\xff",
                    ]
                )
        texts.append(bytes(text))
    batch, unreadable = decoded(texts)
    assert_same(batch, expected(texts))
    assert unreadable == len(texts) - len(batch)


def test_numbers_are_rounded_as_python_rounds_them_and_the_common_ones_need_no_help() -> None:
    rng = random.Random(1)
    numbers = [f"{rng.uniform(1.5e9, 2e9):.{rng.randrange(10)}f}" for _ in range(4000)]
    numbers += [repr(rng.uniform(0, 300)) for _ in range(2000)]
    numbers += [f"{rng.uniform(-50, 50):.{rng.randrange(1, 4)}f}" for _ in range(2000)]
    # halfway between two doubles of that size, and just beside: 2^-23 is an odd multiple of half the step
    numbers += [f"{2**30 + n}.{each}" for n in range(50) for each in ("00000011920", "000000119", "5")]
    texts = [b'{"t":%s}' % each.encode() for each in numbers]
    data, ends = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([len(each) for each in texts])
    count = len(texts)
    time_s, sequence = np.empty(count), np.empty(count, dtype=np.int64)
    values, taken = np.full((count, len(VITALS)), np.nan), np.empty(count, dtype=np.bool_)
    messages(data, ends - [len(e) for e in texts], ends, time_s, sequence, values, taken)
    assert taken.mean() > 0.7
    wanted = np.array([float(each) for each in numbers])
    assert (time_s[taken] == wanted[taken]).all()


def packet(head: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, low = divmod(left, 128)
        length.append(low | (0x80 if left else 0))
        if not left:
            return bytes((head,)) + bytes(length) + body


@pytest.mark.parametrize("version", [4, 5])
def test_packets_are_found_however_the_bytes_come(version: int) -> None:
    rng = random.Random(version)
    wanted, stream = [], b""
    for number in range(300):
        topic, body = b"vitals/D%d" % number, rng.randbytes(rng.choice([0, 3, 90, 200, 20_000]))
        identifier = rng.choice([0, number + 1])
        start = struct.pack(">H", len(topic)) + topic
        start += struct.pack(">H", identifier) if identifier else b""
        start += (b"\x03\x01\x00\x00" if number % 2 else b"\x00") if version == 5 else b""
        stream += packet(0x32 if identifier else 0x30, start + body)
        wanted.append((topic, identifier, body))
        if number % 10 == 0:
            stream += packet(0xD0, b"")
    found, buffer, table = [], b"", np.empty((7, 6), dtype=np.int64)
    place = 0
    while place < len(stream):
        size = rng.choice([1, 2, 50, 3000, 60_000])
        buffer += stream[place : place + size]
        place += size
        while True:
            count, used, end = packets(np.frombuffer(buffer, np.uint8), version, table)
            assert end != NO_MQTT
            for head, first, last, start, stop, identifier in table[:count].tolist():
                if head >> 4 == 3:
                    found.append((buffer[first:last], identifier, buffer[start:stop]))
            buffer = buffer[used:]
            if end == CUT or not buffer:
                break
            assert end == WHOLE
    assert found == wanted
    assert buffer == b""


@pytest.mark.parametrize(
    "data",
    [b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\x7f" + b"x" * 9, b"\x30\x01x", b"\x32\x03\x00\x01a",
     b"\x30\x04\x00\x09ab"],
)  # fmt: skip
def test_what_is_no_mqtt_is_refused(data: bytes) -> None:
    _, _, end = packets(np.frombuffer(data, np.uint8), 4, np.empty((7, 6), dtype=np.int64))
    assert end == NO_MQTT


def a_ward() -> AssociationLog:
    log = AssociationLog()
    for n in range(6):
        log.place_device(f"D{n}", f"B{n}", since_s=0.0)
        log.admit(f"P{n}", f"B{n}", since_s=0.0)
    log.swap("B0", "B1", since_s=1030.0)
    log.discharge("B2", since_s=1040.0)
    return log


def found_by(pieces: list[list[Reading]], *, together: bool) -> tuple[list[Arrival], Counter[str], int]:
    log = a_ward()
    journal: list[Reading] = []
    intake = Intake(
        log,
        devices={f"D{n}" for n in range(7)},
        journal=lambda batch, _: journal.extend(batch.reading(row) for row in range(len(batch))),
    )
    for second, readings in enumerate(pieces):
        received_s = 1000.0 + second
        if second == 50:
            log.swap("B3", "B4", since_s=1045.0)
        if together:
            assert intake.offer_batch(Batch.of(readings), received_s=received_s) == len(readings)
        else:
            assert all(intake.offer(each, received_s=received_s) for each in readings)
    assert len(journal) == intake.counts["accepted"] + intake.counts["quarantined"]
    return intake.take(), intake.counts, intake.quarantined


def test_a_batch_is_taken_as_its_readings_one_by_one() -> None:
    rng = random.Random(2)
    pieces: list[list[Reading]] = []
    for second in range(100):
        readings = []
        for _ in range(60):
            lag = rng.choice([0.0, 0.0, -5.0, 3.0, 90.0])
            events = ("vf",) if rng.random() < 0.05 else ()
            values = {code: float(rng.randrange(100)) for code in rng.sample(CODES, 3)}
            device = f"D{rng.randrange(9)}"
            readings.append(Reading(device, 1000.0 + second + lag, values, events, rng.randrange(3)))
        pieces.append(readings)
    pieces[3] = [Reading("D5", 900.0 + n / 100, {"HR": 60.0}) for n in range(3700)]
    one, counts, aside = found_by(pieces, together=False)
    many, counts_many, aside_many = found_by(pieces, together=True)
    assert many == one
    assert counts_many == counts
    assert aside_many == aside
    for name in ("accepted", "duplicate", "out-of-order", "skewed", "quarantined", "unauthorised", "flooded"):
        assert counts[name] > 0, name


def test_a_batch_is_taken_as_far_as_there_is_room() -> None:
    intake = Intake(a_ward(), limit=5)
    batch = Batch.of([Reading("D0", 1000.0 + n, {"HR": 60.0}) for n in range(8)])
    assert intake.offer_batch(batch, received_s=1010.0) == 5
    assert intake.offer_batch(batch.rows(np.arange(5, 8)), received_s=1010.0) == 0
    assert [each.reading.device_time_s for each in intake.take()] == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0]
    assert intake.offer_batch(batch.rows(np.arange(5, 8)), received_s=1010.0) == 3


def test_rounds_hold_each_patient_once_and_keep_the_order() -> None:
    rows = np.array([3, 1, 3, 2, 1, 3])
    assert [each.tolist() for each in _rounds(rows)] == [[0, 1, 3], [2, 4], [5]]
    assert _rounds(np.array([], dtype=np.intp)) == []


def test_the_journal_gives_back_what_it_took_and_that_of_a_version_before(tmp_path: Path) -> None:
    rng = random.Random(3)
    readings = [
        Reading(f"D{n}", rng.uniform(1e9, 2e9), {c: rng.uniform(0, 300) for c in rng.sample(CODES, n % 5)},
                ("vt",) if n % 7 == 0 else (), n - 1)
        for n in range(40)
    ]  # fmt: skip
    with open_monitor_database(tmp_path, parts=None) as database:
        store = StateStore(database, 0)
        lines = [line_of(each, 5.0) for each in readings[:3]]
        old = msgspec.msgpack.encode(lines)
        database.write(
            lambda cursor: cursor.execute("INSERT INTO monitor_journal(part, data) VALUES (0, ?)", (old,))
        )
        batches = [(Batch.of(readings[3:20]), 6.0), (Batch.of(readings[20:]), 7.0)]
        database.write(lambda cursor: store.write_journal(cursor, batches))
        found = store.journal()
    assert [batch.reading(row) for batch, _ in found for row in range(len(batch))] == readings
    assert sorted({at_s for _, at_s in found}) == [5.0, 6.0, 7.0]


def test_names_of_pieces_are_joined() -> None:
    shared = ["a", "b", "c", "d"]
    first, second = Named(np.array([3, 1]), shared), Named(np.array([1]), shared)
    assert Named.join([first, second]).tolist() == ["d", "b", "b"]
    mixed = Named.join([first, Named.of(["x", "d", "x"])])
    assert mixed.tolist() == ["d", "b", "x", "d", "x"]
    assert Named.join([first, second]).compact()[0] == ["b", "d"]
