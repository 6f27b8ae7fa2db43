"""The embedded broker and our subscriber with paho, a client that others wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from digital_twins import InputError
from digital_twins.monitoring import Association, EmbeddedBroker, MonitorService, MqttSubscriber


async def until(condition, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def publish(port: int, user: str, password: str, messages: list[tuple[str, bytes, int]]) -> list[bool]:
    """Publish by paho; return which of the QoS 1 messages were acknowledged within half a minute."""
    from paho.mqtt.client import CallbackAPIVersion, Client

    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(user, password)
    client.connect("127.0.0.1", port)
    client.loop_start()
    sent = [client.publish(topic, payload, qos) for topic, payload, qos in messages]
    done = []
    for each in sent:
        each.wait_for_publish(30.0)
        done.append(each.is_published())
    client.disconnect()
    client.loop_stop()
    return done


def test_messages_of_both_qualities_reach_the_twin_and_a_foreign_topic_does_not(tmp_path: Path) -> None:
    async def run() -> dict[str, int]:
        devices = {"D1": "one", "D2": 'tw"o'}
        async with (
            EmbeddedBroker(tmp_path / "broker", devices=devices) as broker,
            MonitorService(tmp_path / "monitor", capacity=2) as service,
        ):
            for number in (1, 2):
                service.associate(Association("device", f"D{number}", f"B{number}", 0.0))
                service.associate(Association("bed", f"B{number}", f"P{number}", 0.0))
            subscriber = MqttSubscriber(broker.address, topic="vitals/+", take_many=service.take_messages)
            async with subscriber:
                await asyncio.wait_for(subscriber.connected.wait(), 60)
                t = service.clock()
                one = [
                    ("vitals/D1", b'{"t":%f,"v":{"HR":%d}}' % (t + n / 100, 60 + n), n % 2) for n in range(40)
                ]
                await asyncio.to_thread(publish, broker.port, "D1", "one", one)
                foreign = [
                    ("vitals/D1", b'{"t":1,"v":{"HR":200}}', 0),
                    ("vitals/D2", b'{"t":2,"v":{"HR":90}}', 0),
                ]
                await asyncio.to_thread(publish, broker.port, "D2", 'tw"o', foreign)
                await until(lambda: service.intake.counts["accepted"] >= 41)
                await asyncio.sleep(0.3)
                assert subscriber.messages == 41
                return dict(service.intake.counts)

    counts = asyncio.run(run())
    assert counts["accepted"] == 41
    assert "malformed" not in counts


def test_wrong_password_is_refused(tmp_path: Path) -> None:
    async def run() -> bool:
        async with EmbeddedBroker(tmp_path, devices={"D1": "one"}) as broker:
            wrong = type(broker.address)(broker.host, broker.port, "monitor", "guess")
            async with MqttSubscriber(wrong, topic="#", take=lambda *_: True) as subscriber:
                await asyncio.sleep(0.5)
                return subscriber.connected.is_set()

    assert not asyncio.run(run())


def test_what_was_acknowledged_while_nobody_listened_is_delivered_afterwards(tmp_path: Path) -> None:
    """QoS 1, the broker killed and started again in between, and a receiver that has no room at first."""
    got: list[bytes] = []
    room = [False]

    def take(_: str, payload: bytes) -> bool:
        if room[0]:
            got.append(payload)
        return room[0]

    async def run() -> list[bool]:
        async with EmbeddedBroker(tmp_path, devices={"D1": "one"}) as broker:
            port = broker.port
            async with MqttSubscriber(broker.address, topic="vitals/+", take=take) as subscriber:
                await asyncio.wait_for(subscriber.connected.wait(), 60)
            messages = [("vitals/D1", b"%d" % n, 1) for n in range(20)]
            acknowledged = await asyncio.to_thread(publish, port, "D1", "one", messages)
        async with (
            EmbeddedBroker(tmp_path, devices={"D1": "one"}, port=port) as broker,
            MqttSubscriber(broker.address, topic="vitals/+", take=take),
        ):
            await asyncio.sleep(0.5)
            room[0] = True
            await until(lambda: len(got) >= 20)
        return acknowledged

    assert asyncio.run(run()) == [True] * 20
    assert sorted(set(got), key=int) == [b"%d" % n for n in range(20)]


def test_device_names_that_would_be_wildcards_are_refused(tmp_path: Path) -> None:
    for name in ("", "a.b", "*", ">", "a/b"):
        with pytest.raises(InputError):
            EmbeddedBroker(tmp_path, devices={name: "x"})
