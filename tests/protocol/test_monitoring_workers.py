"""A ward in parts as real processes: a worker is killed; patients, alerts and readings go on elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import CallbackAPIVersion, Client

from digital_twins.config import Settings
from digital_twins.hl7v2 import parse, send_message
from digital_twins.monitoring import (
    EmbeddedBroker,
    History,
    MqttSubscriber,
    device_part,
    open_monitor_database,
)
from digital_twins.monitoring.storage import store_key
from digital_twins.monitoring.storage._state import StateStore
from digital_twins.server import monitor_key
from digital_twins.storage import Database
from hl7_messages import header, message
from icu_stays import small_model
from monitor_process import NURSE, Served, until
from postgresql_server import PostgresServer

PARTS = 3
ONE = {"Authorization": "Bearer one"}


def devices_of_each_part(parts: int) -> list[str]:
    """One device a part."""
    names = [f"D{n}" for n in range(100)]
    return [next(each for each in names if device_part(each, parts) == part) for part in range(parts)]


def test_the_server_partitions_as_we_do_and_keeps_devices_apart(tmp_path: Path) -> None:
    names = [f"MON-{n}" for n in range(40)]
    got: list[tuple[int, str]] = []

    def take(part: int) -> Callable[[str, bytes], bool]:
        def taken(topic: str, _: bytes) -> bool:
            got.append((part, topic))
            return True

        return taken

    async def run() -> None:
        broker = EmbeddedBroker(tmp_path, devices=dict.fromkeys(names, "one"), parts=PARTS)
        async with broker, asyncio.timeout(120):
            subscribers = [
                MqttSubscriber(
                    broker.address, topic=f"part/{n}/vitals/+", take=take(n), client_id=f"test-{n}"
                )
                for n in range(PARTS)
            ]
            for each in subscribers:
                await each.__aenter__()
                await each.connected.wait()
            for n, name in enumerate(names):
                await asyncio.to_thread(publish_one, broker.port, name, f"vitals/{name}", n % 2)
            foreign = f"part/{device_part('MON-1', PARTS)}/vitals/MON-1"
            await asyncio.to_thread(publish_one, broker.port, "MON-0", foreign, 0)
            while len(got) < len(names):
                await asyncio.sleep(0.02)
            for each in subscribers:
                await each.__aexit__(None, None, None)

    asyncio.run(run())
    assert sorted(got) == sorted(
        (device_part(name, PARTS), f"part/{device_part(name, PARTS)}/vitals/{name}") for name in names
    )


def publish_one(port: int, name: str, topic: str, quality: int) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(name, "one")
    client.connect("127.0.0.1", port)
    client.loop_start()
    if quality:
        client.publish(topic, b"{}", 1).wait_for_publish(60)
    else:
        client.publish(topic, b"{}", 0).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


class Bedside:
    """Devices that each publish at QoS 1 five times a second, and what was acknowledged to them."""

    def __init__(self, port: int, devices: list[str]) -> None:
        self.sent: dict[str, dict[int, float]] = {each: {} for each in devices}
        self._done: dict[str, set[int]] = {each: set() for each in devices}
        self._stop = threading.Event()
        self._clients = {each: self._client(port, each) for each in devices}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _client(self, port: int, device: str) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id=device, clean_session=False)
        client.username_pw_set(device, "one")
        client.on_publish = lambda _, __, mid, *___: self._done[device].add(mid)
        client.connect("127.0.0.1", port)
        client.loop_start()
        return client

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            for device, client in self._clients.items():
                time_s, number = time.time(), len(self.sent[device])
                body = {"t": time_s, "v": {"HR": 70.0 + number % 7}, "n": number}
                self.sent[device][client.publish(f"vitals/{device}", json.dumps(body), 1).mid] = time_s

    def acknowledged(self, device: str) -> set[float]:
        return {time_s for mid, time_s in list(self.sent[device].items()) if mid in self._done[device]}

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        until(lambda: all(len(self.acknowledged(each)) == len(self.sent[each]) for each in self.sent))
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()


def children(pid: int) -> list[int]:
    """Worker processes of a front."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [int(each) for each in found if b"worker" in Path(f"/proc/{each}/cmdline").read_bytes()]


@dataclass
class Store:
    """Where a ward's state lies: the folder, in clear or sealed, or a PostgreSQL server."""

    folder: Path
    server: str = ""
    sealed: bool = False

    @property
    def environment(self) -> dict[str, str]:
        keys = f"local:{self.folder / 'wrapping.json'}"
        sealed = {"TWIN_ENCRYPTION_AT_REST": "true", "TWIN_ENCRYPTION_KEYS": keys}
        return (sealed if self.sealed else {}) | ({"TWIN_DATABASE": self.server} if self.server else {})

    @property
    def key(self) -> bytes | None:
        if not self.sealed:
            return None
        keys = f"local:{self.folder / 'wrapping.json'}"
        return monitor_key(
            Settings(data_dir=self.folder / "data", encryption_at_rest=True, encryption_keys=keys)
        )

    def open(self) -> Database:
        return open_monitor_database(self.folder / "data", server=self.server, parts=None, key=self.key)

    def history(self) -> History:
        return History(self.folder / "data" / "history", key=store_key(self.key, "history"))


def holder(database: Database, part: int) -> str:
    with database.read() as connection:
        row = connection.execute("SELECT owner FROM monitor_lease WHERE part = ?", (part,)).fetchone()
    return "" if row is None else str(row[0])


def fibrillation(served: Served) -> dict[str, Any]:
    """The alert of the device, once it is there and every part answers."""
    found: list[dict[str, Any]] = []

    def looked() -> bool:
        answer = served.client.get("/alerts", headers=NURSE)
        if answer.is_success:
            found.extend(each for each in answer.json() if each["key"] == "event:vf")
        return bool(found)

    until(looked, 240)
    return found[0]


def all_parts_answer(served: Served) -> bool:
    return served.client.get("/patients", headers=NURSE).json()["parts_away"] == []


def admission(part: int) -> bytes:
    """ADT A01 of patient Pn into the n-th bed."""
    bed = f"PV1|1|I|W^1^{part}"
    lines = header("ADT^A01"), "EVN|A01|20200101000000+0000", f"PID|1||P{part}^^^HOSP^MR", bed
    return message(*lines)


def heart_rates(served: Served) -> dict[str, float | None]:
    tiles: list[dict[str, Any]] = served.client.get("/patients", headers=NURSE).json()["patients"]
    return {each["patient"]: each["vitals"]["HR"] for each in tiles}


@pytest.mark.timeout(900)
def test_a_killed_workers_part_goes_on_elsewhere_and_loses_nothing_acknowledged(
    tmp_path: Path, *, full: bool
) -> None:
    kill_a_worker(Store(tmp_path), workers=3 if full else 2, limit_s=10.0 if full else None)


@pytest.mark.timeout(900)
def test_a_sealed_ward_outlives_a_killed_worker(tmp_path: Path, *, full: bool) -> None:
    if not full:
        pytest.skip("the same in clear is in every run: this one only in the full run")
    kill_a_worker(Store(tmp_path, sealed=True), workers=2, limit_s=10.0)
    held = {
        path.name
        for path in (tmp_path / "data").rglob("*")
        if path.is_file() and b'"HR"' in path.read_bytes()
    }
    assert held == set()


@pytest.mark.peers
@pytest.mark.timeout(900)
def test_a_ward_on_postgresql_outlives_a_killed_worker(
    tmp_path: Path, request: pytest.FixtureRequest, *, full: bool
) -> None:
    if not full:
        pytest.skip("the same on SQLite is in every run: this one only in the full run")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    kill_a_worker(Store(tmp_path, server=server.url), workers=2, limit_s=10.0)


def test_the_workers_of_a_ward_ask_the_learned_risk(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    served = Served(tmp_path, "--workers", "1", "--risk", str(model))
    try:
        until(lambda: all_parts_answer(served), 240)
        told = served.client.get("/models", headers=NURSE).raise_for_status().json()
        assert "Risk of in-hospital death" in [each["name"] for each in told["models"]]
    finally:
        served.end()
    assert len(list((tmp_path / "data").glob("risk-*.zip"))) == 1


def kill_a_worker(store: Store, *, workers: int, limit_s: float | None) -> None:
    """Acknowledge an alarm, kill the worker of its part; all of it goes on, within a time if one is given."""
    names = devices_of_each_part(PARTS)
    served = Served(
        store.folder,
        *("--workers", str(workers), "--parts", str(PARTS), "--lease", "8" if limit_s is None else "4"),
        *("--hl7-port", "0"),
        devices=dict.fromkeys(names, "one"),
        environment=store.environment,
    )
    database = store.open()
    try:
        until(lambda: all_parts_answer(served), 240)
        for part, name in enumerate(names):
            body = {"kind": "device", "subject": name, "target": f"W/1/{part}", "since_s": 0}
            served.client.post("/associations", json=body, headers=NURSE).raise_for_status()
            answer = send_message(parse(admission(part)), "127.0.0.1", served.ports["hl7"])
            assert answer["MSA-1"] == "CA"
        bedside = Bedside(served.ports["mqtt"], names)
        until(lambda: len([each for each in heart_rates(served).values() if each]) == PARTS, 240)
        part, owner = 1, holder(database, 1)
        alarm = {"t": time.time(), "v": {}, "e": ["vf"]}
        served.client.post(f"/readings/{names[part]}", json=alarm, headers=ONE).raise_for_status()
        number = fibrillation(served)["id"]
        assert isinstance(number, int)
        assert number % PARTS == part
        done = f"/alerts/{number}/acknowledge"
        until(lambda: served.client.post(done, headers=NURSE).is_success, 240)

        victim = int(owner.rsplit("-", 2)[1])
        assert victim in children(served.process.pid)
        os.kill(victim, signal.SIGKILL)
        killed_s = time.monotonic()
        until(lambda: holder(database, part) not in {owner, ""}, 240)
        before = len(bedside.acknowledged(names[part]))
        until(lambda: heart_rates(served).get(f"P{part}"), 240)
        if limit_s is not None:
            assert time.monotonic() - killed_s < limit_s
        until(lambda: len(bedside.acknowledged(names[part])) > before + 5, 240)
        alert = fibrillation(served)
        assert (alert["id"], alert["acknowledged_by"]) == (number, "N. N.")
        bedside.end()
        wanted = {f"P{n}": bedside.acknowledged(name) for n, name in enumerate(names)}
        until(lambda: all(times <= stored(database, each) for each, times in wanted.items()), 240)
    finally:
        database.close()
        served.end()
    for patient, times in wanted.items():
        found, _ = store.history().read(patient, "HR", since_s=0.0, until_s=2e10)
        assert len(times) > 10
        assert sorted(times) == found.tolist()


def stored(database: Database, patient: str) -> set[float]:
    """Times of a patient's readings in the database; device D.. of part n is the one of patient Pn."""
    states = StateStore(database, int(patient[1:]))
    times = {
        time_s
        for names, found, _ in states.values(most=1e9)
        for name, time_s in zip(names.tolist(), found.tolist(), strict=True)
        if name == patient
    }
    return times | {time_s for batch, _ in states.journal() for time_s in batch.device_time_s.tolist()}
