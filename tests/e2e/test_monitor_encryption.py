"""A monitor's folder, encrypted by the node's one setting: no planted value in any byte of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.client import CallbackAPIVersion, Client

from digital_twins import StorageError
from digital_twins.config import Settings
from digital_twins.crypto import DecryptionError
from digital_twins.monitoring import EmbeddedBroker, History, open_monitor_database
from digital_twins.monitoring.signals._vitals import COLUMN, VITALS
from digital_twins.monitoring.storage._keys import store_key
from digital_twins.server import monitor_key
from monitor_process import NURSE, Served, until

pytestmark = [pytest.mark.timeout(280)]
PATIENT = "ZYXPLANTEDQVW"
VALUE = "61.0123456789"


def settings(folder: Path, *, encrypted: bool = True) -> Settings:
    chosen = {"encryption_at_rest": True, "encryption_keys": f"local:{folder / 'wrapping.json'}"}
    return Settings(data_dir=folder / "data", **(chosen if encrypted else {}))


def environment(folder: Path) -> dict[str, str]:
    return {"TWIN_ENCRYPTION_AT_REST": "true", "TWIN_ENCRYPTION_KEYS": f"local:{folder / 'wrapping.json'}"}


def run(folder: Path, *, encrypted: bool) -> None:
    """A bed with a patient, a reading, and an orderly end."""
    served = Served(folder, environment=environment(folder) if encrypted else None)
    try:
        served.admit("D1", PATIENT)
        reading = {"t": time.time(), "v": {"HR": 61.5}}
        answer = served.client.post("/readings/D1", json=reading, headers={"Authorization": "Bearer one"})
        answer.raise_for_status()
        until(lambda: beds(served))
    finally:
        served.end()


def publish(port: int) -> None:
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set("D1", "one")
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish("vitals/D1", f'{{"t":1,"v":{{"HR":{VALUE}}}}}', qos=1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def beds(served: Served) -> list[str]:
    found = served.client.get("/patients", headers=NURSE).json()["patients"]
    return [each["patient"] for each in found]


def holders(folder: Path, needle: str) -> set[str]:
    """First parts of the paths of files that hold a text in any of their bytes."""
    return {
        path.relative_to(folder).parts[0].split("-wal")[0]
        for path in folder.rglob("*")
        if path.is_file() and needle.encode() in path.read_bytes()
    }


def test_no_byte_of_an_encrypted_monitor_holds_a_planted_value(tmp_path: Path, *, full: bool) -> None:
    clear, sealed = tmp_path / "clear", tmp_path / "sealed"
    for folder in (clear, sealed) if full else (sealed,):
        folder.mkdir()
        run(folder, encrypted=folder == sealed)
    if full:  # the same run in clear: the search finds what is there to be found
        assert {"monitor.sqlite", "history"} <= holders(clear / "data", PATIENT)

    assert holders(sealed / "data", PATIENT) == set()
    assert (sealed / "data" / "monitor.sqlite").read_bytes()[:15] != b"SQLite format 3"
    key = monitor_key(settings(sealed))
    assert key is not None
    assert holders(sealed, key.hex()) == holders(sealed, (store_key(key, "broker") or b"").hex()) == set()
    history = History(sealed / "data" / "history", key=store_key(key, "history"))
    _, values = history.read(PATIENT, "HR", since_s=0.0, until_s=4e9)
    assert sorted(values.tolist())[-1] == 61.5

    with pytest.raises(StorageError):
        open_monitor_database(sealed / "data", key=bytes(32))
    if full:
        again = Served(sealed, environment=environment(sealed))
        try:
            assert beds(again) == [PATIENT]  # it goes on where it stopped
        finally:
            again.end()


@pytest.mark.parametrize("key", [None, bytes(range(32))], ids=["clear", "sealed"])
def test_what_the_broker_keeps_for_a_subscriber_who_is_away(tmp_path: Path, key: bytes | None) -> None:
    """The same messages in clear are found, so the search can fail; with the key they come back."""

    async def session(work: Callable[[EmbeddedBroker], None]) -> None:
        async with EmbeddedBroker(tmp_path / "broker", devices={"D1": "one"}, key=key) as broker:
            await asyncio.to_thread(work, broker)

    def subscriber(broker: EmbeddedBroker) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, client_id="away", clean_session=False)
        client.username_pw_set(broker.address.user, broker.address.password)
        client.on_message = lambda _, __, message: got.append(bytes(message.payload))
        return client

    def away(broker: EmbeddedBroker) -> None:
        subscribed = threading.Event()
        client = subscriber(broker)
        client.on_subscribe = lambda *_: subscribed.set()
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.subscribe("vitals/+", qos=1)
        assert subscribed.wait(60)
        client.disconnect()
        client.loop_stop()
        publish(broker.port)

    def back(broker: EmbeddedBroker) -> None:
        client = subscriber(broker)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        until(lambda: got)
        client.disconnect()
        client.loop_stop()

    got: list[bytes] = []
    asyncio.run(session(away))
    assert (holders(tmp_path, VALUE) == set()) == (key is not None)
    if key is not None:
        assert holders(tmp_path, key.hex()) == set()
    asyncio.run(session(back))
    assert VALUE.encode() in got[0]


def test_setting_and_folder_must_agree(tmp_path: Path) -> None:
    assert monitor_key(settings(tmp_path, encrypted=False)) is None
    (tmp_path / "data").mkdir()
    open_monitor_database(tmp_path / "data").close()
    with pytest.raises(StorageError, match="is in clear"):
        monitor_key(settings(tmp_path))
    assert not (tmp_path / "data" / "keys.sqlite").exists()
    other = tmp_path / "other"
    other.mkdir()
    assert monitor_key(settings(other)) == monitor_key(settings(other))  # kept in keys.sqlite
    with pytest.raises(StorageError, match="encryption_at_rest is off"):
        monitor_key(settings(other, encrypted=False))


def test_encrypted_history_reads_as_the_one_in_clear(tmp_path: Path) -> None:
    clear = History(tmp_path / "clear", roll_s=60.0, keep_s=120.0)
    sealed = History(tmp_path / "sealed", roll_s=60.0, keep_s=120.0, key=bytes(32))
    for second in range(300):
        values = np.full((2, len(VITALS)), np.nan)
        values[:, COLUMN["HR"]] = [60.0, 70.0 + second]
        for history in (clear, sealed):
            history.add(["A", "B"], np.full(2, second + 0.4567), values)
    for history in (clear, sealed):
        history.flush()
    assert len(list(sealed.folder.iterdir())) == len(list(clear.folder.iterdir())) == 3
    for span in ((0.0, 1e9), (200.0, 210.0), (299.4567, 299.4567), (1e6, 2e6)):
        for code in ("HR", "SPO2"):
            expected = clear.read("B", code, since_s=span[0], until_s=span[1])
            found = sealed.read("B", code, since_s=span[0], until_s=span[1])
            assert [each.tolist() for each in found] == [each.tolist() for each in expected]

    files = sorted(sealed.folder.iterdir())
    content = files[0].read_bytes()
    files[0].write_bytes(files[1].read_bytes())  # one file in the place of another
    with pytest.raises(DecryptionError):
        sealed.read("B", "HR", since_s=0.0, until_s=1e9)
    files[0].write_bytes(content[:-1])
    with pytest.raises(DecryptionError):
        sealed.read("B", "HR", since_s=0.0, until_s=1e9)
