"""mosquitto: 1,000 topics from its publisher, and its broker as an external one (MQTT 3.1.1 and 5)."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from digital_twins.monitoring import BrokerAddress, EmbeddedBroker, MonitorService, MqttSubscriber
from foreign import program

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("quality", [0, 1])
def test_a_thousand_topics_reach_their_beds_and_the_alert_comes_in_two_seconds(
    tmp_path: Path, quality: int, full: bool
) -> None:
    count = 1000 if full else 60
    publisher = program("mosquitto_pub")
    devices = {f"D{n}": f"secret{n}" for n in range(count)}

    async def send(port: int, name: str, heart: int) -> int:
        payload = f'{{"t":{time.time():.3f},"v":{{"HR":{heart},"NIBP_SYS":{70 if name == "D7" else 120}}}}}'
        words = ("-h", "127.0.0.1", "-p", str(port), "-u", name, "-P", devices[name], "-t", f"vitals/{name}")
        process = await asyncio.create_subprocess_exec(publisher, *words, "-q", str(quality), "-m", payload)
        return await process.wait()

    async def run() -> tuple[int, set[str], list[str], float]:
        async with (
            EmbeddedBroker(tmp_path / "broker", devices=devices) as broker,
            MonitorService(tmp_path / "monitor", capacity=count) as service,
        ):
            for n in range(count):
                service.associations.place_device(f"D{n}", f"B{n}", since_s=0.0)
                service.associations.admit(f"P{n}", f"B{n}", since_s=0.0)
            async with MqttSubscriber(
                broker.address, topic="vitals/+", take_many=service.take_messages
            ) as subscriber:
                await asyncio.wait_for(subscriber.connected.wait(), 60)
                names = [name for name in devices if name != "D7"]
                for start in range(0, len(names), 20):
                    await asyncio.gather(*(send(broker.port, name, 75) for name in names[start : start + 20]))
                await send(broker.port, "D7", 75)
                sent = time.monotonic()
                async with asyncio.timeout(60):
                    while not any(
                        each.key == "cuff_very_low" for each in service.monitor.alerts.open_alerts()
                    ):
                        await asyncio.sleep(0.02)
                waited = time.monotonic() - sent
                await asyncio.sleep(0.5)
                alerts = [f"{each.patient} {each.key}" for each in service.monitor.alerts.open_alerts()]
                return subscriber.messages, set(service.monitor.patients), alerts, waited

    messages, patients, alerts, waited = asyncio.run(run())
    assert messages == count
    assert patients == {f"P{n}" for n in range(count)}
    assert "P7 cuff_very_low" in alerts
    assert not [each for each in alerts if "cuff" in each and not each.startswith("P7 ")]
    assert waited < (2.0 if full else 60.0)  # the strict bound is of a machine that does nothing else


@pytest.mark.parametrize("version", [4, 5])
def test_mosquitto_as_external_broker(tmp_path: Path, version: int) -> None:
    broker, publisher = program("mosquitto"), program("mosquitto_pub")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", encoding="ascii")
    got: list[tuple[str, bytes]] = []

    def take(topic: str, payload: bytes) -> bool:
        got.append((topic, payload))
        return True

    async def run() -> None:
        server = await asyncio.create_subprocess_exec(
            broker, "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )
        try:
            address = BrokerAddress("127.0.0.1", port, version=version)
            async with MqttSubscriber(address, topic="vitals/+", take=take) as subscriber:
                await asyncio.wait_for(subscriber.connected.wait(), 60)
                for quality in ("0", "1"):
                    words = ("-p", str(port), "-t", "vitals/D1", "-q", quality, "-m", f"m{quality}")
                    process = await asyncio.create_subprocess_exec(
                        publisher, *words, "-V", "mqttv5", "-D", "publish", "user-property", "a", "b"
                    )
                    assert await process.wait() == 0
                async with asyncio.timeout(60):
                    while len(got) < 2:
                        await asyncio.sleep(0.02)
        finally:
            server.terminate()
            await server.wait()

    asyncio.run(run())
    assert got == [("vitals/D1", b"m0"), ("vitals/D1", b"m1")]
