"""What breaks while readings flow: broker, monitor, a device that floods; nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from paho.mqtt.client import CallbackAPIVersion, Client

from digital_twins.monitoring import (
    Association,
    AssociationLog,
    EmbeddedBroker,
    History,
    Intake,
    MonitorService,
    MqttSubscriber,
    Reading,
)
from digital_twins.monitoring.signals import Batch
from monitor_process import Served, until


class Stream:
    """A device D1 that publishes at QoS 1 until told to stop, and what was acknowledged to it."""

    def __init__(self, port: int, password: str) -> None:
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="stream", clean_session=False)
        self.client.username_pw_set("D1", password)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_publish = lambda _, __, mid, *___: self._done.add(mid)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.start_s = time.time() - 600.0
        self.sent: dict[int, float] = {}
        self._done: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            time_s = self.start_s + 0.125 * len(self.sent)
            body = {"t": time_s, "v": {"HR": 70 + len(self.sent) % 7}, "n": len(self.sent)}
            self.sent[self.client.publish("vitals/D1", json.dumps(body), 1).mid] = time_s

    def acknowledged(self) -> set[float]:
        return {time_s for mid, time_s in list(self.sent.items()) if mid in self._done}

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def end(self) -> None:
        self.stop()
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.timeout(280)
def test_a_killed_broker_is_started_again_and_loses_no_acknowledged_reading(tmp_path: Path) -> None:
    async def run() -> tuple[set[float], list[float], int]:
        async with (
            EmbeddedBroker(tmp_path / "broker", devices={"D1": "one"}) as broker,
            MonitorService(tmp_path / "monitor", capacity=2) as service,
            MqttSubscriber(
                broker.address, topic="vitals/+", take_many=service.take_messages, durable=service.durable
            ) as subscriber,
        ):
            service.associate(Association("device", "D1", "B1", 0.0))
            service.associate(Association("bed", "B1", "P1", 0.0))
            got: list[float] = []
            noted = service.intake.journal
            assert noted is not None

            def note(batch: Batch, received_s: float) -> None:
                got.extend(batch.device_time_s.tolist())
                noted(batch, received_s)

            service.intake.journal = note
            async with asyncio.timeout(120):
                await subscriber.connected.wait()
                stream = await asyncio.to_thread(Stream, broker.port, "one")
                while len(stream.acknowledged()) < 50:
                    await asyncio.sleep(0.05)
                os.kill(broker.pid, signal.SIGKILL)
                while not broker.restarts:
                    await asyncio.sleep(0.05)
                before = len(stream.acknowledged())
                while len(stream.acknowledged()) < before + 50:
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(stream.stop)
                while not stream.acknowledged() <= set(got) or len(stream.acknowledged()) < len(stream.sent):
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(stream.end)
            return stream.acknowledged(), got, broker.restarts

    acknowledged, got, restarts = asyncio.run(run())
    assert restarts == 1
    assert acknowledged <= set(got)
    assert len(got) == len(set(got))  # what came twice was counted as duplicate


@pytest.mark.timeout(280)
def test_no_acknowledged_reading_is_lost_when_monitor_and_broker_are_killed(
    tmp_path: Path, *, full: bool
) -> None:
    if not full:
        pytest.skip("two starts of a whole monitor; test_monitoring_nurse_call kills one in the reduced run")
    first = Served(tmp_path)
    try:
        first.admit("D1", "P1")
        stream = Stream(first.ports["mqtt"], "one")
        until(lambda: len(stream.acknowledged()) > 100)
    finally:
        first.kill()
    stream.end()
    acknowledged = stream.acknowledged()
    assert len(acknowledged) > 100

    second = Served(tmp_path)
    try:
        time_s = stream.start_s + 0.125 * (len(stream.sent) + 1)
        reading = {"t": time_s, "v": {"HR": 75}}
        second.client.post("/readings/D1", json=reading, headers={"Authorization": "Bearer one"})
    finally:
        second.end()
    times, _ = History(tmp_path / "data" / "history").read("P1", "HR", since_s=0.0, until_s=2e9)
    assert acknowledged - set(times.tolist()) == set()


def test_a_device_that_floods_is_cut_and_takes_nothing_from_the_others() -> None:
    log, now_s = AssociationLog(), 1_764_064_500.0
    for number in (1, 2):
        log.apply(Association("device", f"D{number}", f"B{number}", 0.0))
        log.apply(Association("bed", f"B{number}", f"P{number}", 0.0))
    intake = Intake(log)
    for second in range(20):
        now_s += 1.0
        for n in range(500):
            sent = Reading("D1", now_s - 1 + n / 500, {"HR": 70.0}, (), second * 500 + n)
            assert intake.offer(sent, received_s=now_s)
        assert intake.offer(Reading("D2", now_s, {"HR": 80.0}), received_s=now_s)
    used = Counter(each.patient for each in intake.take())
    assert used == {"P1": 3600 + 19 * 20, "P2": 20}  # an hour's worth at once, then twenty a second
    assert intake.counts["flooded"] == 20 * 500 - used["P1"]
