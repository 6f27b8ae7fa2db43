"""Broker and client beside amqtt and aiomqtt: CPU a message, the same load on both, on one machine.

1,000 devices send once a second for ten seconds at QoS 0. The peers live in ``.peers/mqtt``: ``python -m venv
.peers/mqtt && .peers/mqtt/bin/pip install amqtt==0.12.1 aiomqtt==2.5.1``; without, ours stand alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from digital_twins.monitoring import EmbeddedBroker, MqttSubscriber

Figure = tuple[str, float, str, float | None]
HERE = Path(__file__).parent
PEER = HERE.parent / ".peers/mqtt/bin/python"
COUNT, SECONDS = 1000, 10


def cpu_s(pid: int) -> float:
    """CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class LoadBroker(EmbeddedBroker):
    """The broker with one user more, who may speak for every device."""

    def _subjects(self, device: str) -> list[str]:
        return ["vitals.>"] if device == "load" else super()._subjects(device)


def beside_the_peer() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        ours = asyncio.run(_ours(Path(folder)))
    theirs = asyncio.run(_theirs()) if PEER.exists() else None
    names = ("mqtt_broker", "mqtt_client", "mqtt_broker_and_client")
    for place, name in enumerate(names):
        peer = None if theirs is None else ours[place] / theirs[place]
        yield f"{name}_cpu_a_message", ours[place] * 1e6, "cpu_us", peer


async def _load(port: int) -> int:
    words = (str(port), "secret", str(COUNT), str(SECONDS))
    load = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "_monitor_load.py"), *words, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await load.communicate()
    return int(json.loads(out)["sent"])


async def _ours(folder: Path) -> tuple[float, float, float]:
    got = [0]

    def take(_: str, payload: bytes) -> bool:
        got[0] += bool(payload)
        return True

    async with (
        LoadBroker(folder, devices={"load": "secret"}) as broker,
        MqttSubscriber(broker.address, topic="vitals/+", take=take) as subscriber,
    ):
        await asyncio.wait_for(subscriber.connected.wait(), 30)
        begin, broker_begin = time.process_time(), cpu_s(broker.pid)
        sent = await _load(broker.port)
        async with asyncio.timeout(30):
            while got[0] < sent:
                await asyncio.sleep(0.05)
        client, server = time.process_time() - begin, cpu_s(broker.pid) - broker_begin
    return server / sent, client / sent, (server + client) / sent


async def _theirs() -> tuple[float, float, float]:
    port = _free_port()
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(
        PEER, str(HERE / "_mqtt_peer_broker.py"), str(port), stdin=pipe, stdout=pipe
    )
    assert server.stdin is not None
    assert server.stdout is not None
    await server.stdout.readline()
    client = await asyncio.create_subprocess_exec(
        PEER, str(HERE / "_mqtt_peer_client.py"), str(port), str(COUNT * SECONDS), stdout=pipe
    )
    assert client.stdout is not None
    await client.stdout.readline()
    begin = cpu_s(server.pid)
    await _load(port)
    told = json.loads(await client.stdout.readline())
    used = cpu_s(server.pid) - begin
    server.stdin.close()
    await asyncio.gather(server.wait(), client.wait())
    got = max(1, told["got"])
    return used / got, told["cpu_s"] / got, (used + told["cpu_s"]) / got


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
