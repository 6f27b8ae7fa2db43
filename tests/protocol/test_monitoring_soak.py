"""Hours of readings: memory stays flat, and what was acknowledged is stored; a minute in the reduced run."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from pathlib import Path

import duckdb  # noqa: F401  (loading a library in mid-run is no leak)
import numpy as np
import pyarrow.parquet  # noqa: F401
import pytest

from digital_twins.monitoring import (
    VITALS,
    EmbeddedBroker,
    History,
    MonitorService,
    MqttSubscriber,
    Reading,
)

START_S = 1_764_064_500.0


def resident_mb() -> float:
    """Memory of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def warm_up(folder: Path, count: int) -> None:
    """Write and read a history once: what the libraries take at their first use is no leak."""
    history = History(folder / "warm")
    history.add(["P0"] * 100 * count, np.arange(100.0 * count), np.ones((100 * count, len(VITALS))))
    history.flush()
    history.read("P0", "HR", since_s=0.0, until_s=1.0)


def admit(service: MonitorService, count: int) -> None:
    for n in range(count):
        service.associations.place_device(f"D{n}", f"B{n}", since_s=0.0)
        service.associations.admit(f"P{n}", f"B{n}", since_s=0.0)


def stored(folder: Path, patient: str) -> int:
    times, _ = History(folder / "history").read(patient, "HR", since_s=0.0, until_s=2e10)
    return len(times)


@pytest.mark.timeout(7200)
def test_a_day_in_simulated_time_keeps_memory_flat_and_loses_nothing(tmp_path: Path, *, full: bool) -> None:
    """Each patient sends once in `every_s`: a day of 5,000 once a minute, or three minutes of 50."""
    count, hours, every_s = (5000, 24.0, 60.0) if full else (50, 1 / 20, 2.0)
    rng, clock = np.random.default_rng(0), [START_S]
    service = MonitorService(tmp_path, capacity=count, clock=lambda: clock[0])
    admit(service, count)
    warm_up(tmp_path, count)
    rounds = int(hours * 3600 / every_s)
    memory = []
    for number in range(rounds):
        clock[0] += every_s
        rates = 75.0 + rng.standard_normal(count)
        for n in range(count):
            sent = Reading(f"D{n}", clock[0], {"HR": float(rates[n]), "SPO2": 97.0}, (), number)
            assert service.intake.offer(sent, received_s=clock[0])
        service.work()
        if number % max(1, rounds // 20) == 0:
            memory.append(resident_mb())
    service.close()
    assert service.intake.counts["accepted"] == rounds * count
    for patient in ("P0", f"P{count - 1}"):
        assert stored(tmp_path, patient) == rounds
    half = len(memory) // 2
    assert max(memory[half:]) - max(memory[:half]) < 0.05 * memory[0] + 40.0, memory


class _Bedside:
    """One connection that speaks for all devices at QoS 1, and counts what is acknowledged."""

    def __init__(self, count: int) -> None:
        self.count, self.sent, self.acknowledged = count, 0, 0

    async def run(self, port: int, seconds: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = _text("MQTT") + b"\x04\xc2\x00\x00" + _text("soak") + _text("load") + _text("secret")
        writer.write(_packet(0x10, body))
        await reader.readexactly(4)
        counting = asyncio.create_task(self._count(reader))
        begin, number = time.time(), 0
        while time.time() - begin < seconds:
            for first in range(0, self.count, 50):
                now_s = time.time()
                for n in range(first, min(first + 50, self.count)):
                    rate = 70.0 + (n + number) % 5  # one that stays for 15 minutes is a flat line
                    data = json.dumps({"t": now_s, "n": number, "v": {"HR": rate, "SPO2": 97.0}})
                    mark = (self.sent % 65_535 + 1).to_bytes(2, "big")
                    writer.write(_packet(0x32, _text(f"vitals/D{n}") + mark + data.encode()))
                    self.sent += 1
                await writer.drain()
            while self.sent - self.acknowledged > 20_000:
                await asyncio.sleep(0.05)
            number += 1
            await asyncio.sleep(max(0.0, begin + number - time.time()))
        async with asyncio.timeout(120):
            while self.acknowledged < self.sent:
                await asyncio.sleep(0.05)
        counting.cancel()
        writer.close()

    async def _count(self, reader: asyncio.StreamReader) -> None:
        left = 0
        while data := await reader.read(1 << 16):
            left += len(data)
            self.acknowledged += left // 4  # a PUBACK has four bytes
            left %= 4


def _text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(head: int, body: bytes) -> bytes:
    low, high = len(body) % 128, len(body) // 128
    return bytes((head, low | 0x80, high) if high else (head, low)) + body


class _Broker(EmbeddedBroker):
    """With one user more, who may speak for every device."""

    def _subjects(self, device: str) -> list[str]:
        return ["vitals.>"] if device == "load" else super()._subjects(device)


@pytest.mark.timeout(7200)
def test_real_time_at_quality_1_keeps_memory_flat_and_loses_nothing(tmp_path: Path, *, full: bool) -> None:
    count, seconds = (5000, 1800.0) if full else (100, 20.0)
    bedside = _Bedside(count)
    warm_up(tmp_path, count)

    async def run() -> tuple[list[float], int, int]:
        memory: list[float] = []
        async with (
            _Broker(tmp_path / "broker", devices={"load": "secret"}) as broker,
            MonitorService(tmp_path / "monitor", capacity=count) as service,
            MqttSubscriber(
                broker.address, topic="vitals/+", take_many=service.take_messages, durable=service.durable
            ) as subscriber,
        ):
            admit(service, count)
            async with asyncio.timeout(60):
                await subscriber.connected.wait()
            sending = asyncio.create_task(bedside.run(broker.port, seconds))
            while not sending.done():
                await asyncio.wait([sending], timeout=seconds / 20)
                memory.append(resident_mb())
            await sending
            async with asyncio.timeout(300):
                while service.intake.counts["accepted"] < bedside.sent:
                    await asyncio.sleep(0.1)
            counts = service.intake.counts
            return memory, counts["accepted"], counts["failed"] + counts["malformed"]

    memory, accepted, failed = asyncio.run(run())
    assert bedside.acknowledged == bedside.sent == accepted
    assert failed == 0
    kept = [stored(tmp_path / "monitor", patient) for patient in ("P0", f"P{count - 1}")]
    assert kept == [bedside.sent // count] * 2
    half = len(memory) // 2
    assert max(memory[half:]) - max(memory[:half]) < 0.05 * memory[0] + 40.0, memory
