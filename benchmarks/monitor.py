"""The live monitor: CPU a message from broker to storage, and the trend filter beside filterpy.

TWIN_BENCH_SCALE (1) scales the 10,000 patients; the generator runs on the same machine. Latency is from the
device's time stamp to the end of the pass that used the reading.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _monitor_mqtt import LoadBroker, beside_the_peer, cpu_s

from digital_twins.monitoring import (
    AnomalyDetector,
    Body,
    LiveTwin,
    MonitorService,
    MqttSubscriber,
    TrendFilter,
)

Figure = tuple[str, float, str, float | None]
SECONDS = 20


def figures() -> Iterator[Figure]:
    yield from _filters()
    yield from beside_the_peer()
    scale = float(os.environ.get("TWIN_BENCH_SCALE", "1"))
    count = max(100, int(10_000 * scale) // 100 * 100)
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(_stream(Path(folder), count))


def _filters() -> Iterator[Figure]:
    """A step of level and slope of 14 vital signs, 1,000 patients; filterpy has one block filter each."""
    from filterpy.kalman import KalmanFilter

    count = 1000
    trend, twin = TrendFilter(count), LiveTwin(Body(), count)
    vitals = len(trend.noise.reading)
    rng = np.random.default_rng(0)
    rows, values = np.arange(count), 80.0 + rng.standard_normal((count, vitals))
    trend.step(rows, np.zeros(count), values)
    ours = _least(lambda n: trend.step(rows, np.full(count, n + 1.0), values), 20) / count
    peer = KalmanFilter(dim_x=2 * vitals, dim_z=vitals)
    peer.F = np.kron(np.eye(vitals), np.array([[1.0, 1.0], [0.0, 1.0]]))
    peer.H = np.kron(np.eye(vitals), np.array([[1.0, 0.0]]))

    def step(n: int) -> None:
        peer.predict()
        peer.update(values[n % count][:, None])

    theirs = _least(step, 200)
    yield "trend_step_a_patient", ours * 1e6, "cpu_us", ours / theirs
    readings = np.array([72, 93, 122, 78, 97, 14, 37.0]) + rng.standard_normal((count, 7))
    twin.step(rows, np.zeros(count), readings)
    ekf = _least(lambda n: twin.step(rows, np.full(count, 3.0 * n + 3.0), readings), 5) / count
    yield "physiology_step_a_patient", ekf * 1e6, "cpu_us", None


def _least(work, rounds: int) -> float:
    best = float("inf")
    for number in range(rounds):
        begin = time.process_time()
        work(number)
        best = min(best, time.process_time() - begin)
    return best


async def _stream(folder: Path, count: int) -> list[Figure]:
    import duckdb  # noqa: F401  (loading libraries is no cost of a message)
    import pyarrow.parquet  # noqa: F401

    latencies: list[np.ndarray] = []
    detectors = (AnomalyDetector("isolation_forest"), AnomalyDetector("one_class_svm"))
    service = MonitorService(folder / "monitor", capacity=count, detectors=detectors)
    keep = service.monitor._history

    def history(patients: list[str], time_s: np.ndarray, values: np.ndarray) -> None:
        keep(patients, time_s, values)
        latencies.append(time.time() - time_s)

    service.monitor._history = history
    for number in range(count):
        service.associations.place_device(f"D{number}", f"B{number}", since_s=0.0)
        service.associations.admit(f"P{number}", f"B{number}", since_s=0.0)
    async with (
        LoadBroker(folder / "broker", devices={"load": "secret"}) as broker,
        service,
        MqttSubscriber(broker.address, topic="vitals/+", take_many=service.take_messages) as subscriber,
    ):
        await asyncio.wait_for(subscriber.connected.wait(), 30)
        gc.freeze()  # as the monitor's command does once all is open
        begin, broker_begin = time.process_time(), cpu_s(broker.pid)
        words = (str(broker.port), "secret", str(count), str(SECONDS))
        load = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("_monitor_load.py")),
            *words,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await load.communicate()
        sent = json.loads(out)["sent"]
        end = time.monotonic() + 30
        while service.intake.counts["accepted"] < sent and time.monotonic() < end:
            await asyncio.sleep(0.1)
        await service.durable()
        service.history.flush()  # the file that is not yet due is a cost of these messages, too
        ours, brokers = time.process_time() - begin, cpu_s(broker.pid) - broker_begin
    delays = np.concatenate(latencies)
    accepted = service.intake.counts["accepted"]
    late = service.intake.counts["late"]
    return [
        ("patients", float(count), "patients", None),
        ("messages", float(sent), "messages", None),
        ("lost", float(sent - accepted + late), "messages", None),
        ("cpu_a_message_monitor", ours / sent * 1e6, "cpu_us", None),
        ("cpu_a_message_broker", brokers / sent * 1e6, "cpu_us", None),
        ("cpu_a_message", (ours + brokers) / sent * 1e6, "cpu_us", None),
        ("latency_p50", float(np.quantile(delays, 0.5)), "s", None),
        ("latency_p99", float(np.quantile(delays, 0.99)), "s", None),
    ]
