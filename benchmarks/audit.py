"""The audit trail: durable events a second beside the raw fsync of the same disk, and verification.

The peer of the write rates is a plain file in the same folder that gets one record of an event's size and an
fsync at a time, measured before each; that of the verification is the bare SHA-256 work of chain and tree
over the same rows. The default verifies 200,000 events and scales to a million;
TWIN_BENCH_AUDIT_EVENTS=1000000 verifies that many.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from digital_twins.audit import AuditEvent, AuditTrail, prove_event, verify_trail

Figure = tuple[str, float, str, float | None]
EVENTS = int(os.environ.get("TWIN_BENCH_AUDIT_EVENTS", "200000"))
SINGLE_S = 2.0
ROUNDS = 3
WRITERS = 32


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TWIN_BENCH_DIR")) as name:
        folder = Path(name)
        rounds = [
            (
                _fsyncs_per_s(folder / f"raw{n}"),
                _events_per_s(folder / f"single{n}", 1),
                _events_per_s(folder / f"many{n}", WRITERS),
            )
            for n in range(ROUNDS)
        ]
        fsync, single, many = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        yield "raw_fsync_time", 1e3 / fsync, "ms", None
        yield "durable_single_events", single, "1/s", statistics.median(one / raw for raw, one, _ in rounds)
        yield f"durable_events_{WRITERS}_writers", many, "1/s", many / fsync
        ratio = statistics.median(group / one for _, one, group in rounds)
        yield f"{WRITERS}_writers_over_single", ratio, "x", None
        yield from _verification(folder / "verify" / "audit.db")


def event(number: int) -> AuditEvent:
    return AuditEvent(
        "C", "dicom.store", "success", "STORESCU", entity=f"1.2.826.0.1.{number}", patient="ab" * 32
    )


def _fsyncs_per_s(path: Path) -> float:
    """Append to a new file: one that is overwritten would have no new size to flush."""
    count, record = 0, event(0).to_json().encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        start = time.perf_counter()
        while time.perf_counter() - start < SINGLE_S / 2:
            os.pwrite(descriptor, record, len(record) * count)
            os.fsync(descriptor)
            count += 1
        return count / (time.perf_counter() - start)
    finally:
        os.close(descriptor)


def _events_per_s(folder: Path, writers: int) -> float:
    """Each writer waits for its event to be durable before it sends the next."""
    counts = [0] * writers
    with AuditTrail(folder / "audit.db") as trail:
        end = time.perf_counter() + SINGLE_S

        def write(place: int) -> None:
            while time.perf_counter() < end:
                trail.append([event(place)])
                counts[place] += 1

        start = time.perf_counter()
        threads = [threading.Thread(target=write, args=(place,)) for place in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - start)


def _cpu_s() -> float:
    """Of this process and of those that it started and that ended: verification starts some."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _verification(path: Path) -> Iterator[Figure]:
    with AuditTrail(path) as trail:
        start = time.process_time()
        for first in range(0, EVENTS, 1000):
            trail.append([event(number) for number in range(first, first + 1000)])
        yield "append_by_thousands", EVENTS / (time.process_time() - start), "1/cpu_s", None
    start, begun = _cpu_s(), time.perf_counter()
    report = verify_trail(path)
    ours, elapsed = _cpu_s() - start, time.perf_counter() - begun
    assert report.ok
    assert report.events == EVENTS == report.signed_events
    body = event(1).to_json().encode()
    start = time.process_time()
    for _ in range(EVENTS):
        for data in (body, body[:64], body[:65]):
            hashlib.sha256(data).digest()
    yield "verify_1M_events", ours * 1e6 / EVENTS, "cpu_s", ours / (time.process_time() - start)
    yield "verify_1M_events_elapsed", elapsed * 1e6 / EVENTS, "s", None
    start = time.process_time()
    for number in range(100):
        prove_event(path, 1 + number * (EVENTS // 100))
    yield "proof", 1e3 * (time.process_time() - start) / 100, "cpu_ms", None
