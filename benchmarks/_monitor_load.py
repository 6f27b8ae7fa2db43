"""Publishes vital signs over MQTT: ``python _monitor_load.py PORT PASSWORD COUNT SECONDS``.

One connection for 100 devices of the `load` user; prints how many messages it sent, and its CPU seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

CONNECTIONS_EACH = 100


def text(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


def packet(head: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, low = divmod(left, 128)
        length.append(low | (0x80 if left else 0))
        if not left:
            return bytes((head,)) + bytes(length) + body


async def connection(port: int, password: str, first: int, seconds: int) -> int:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    body = text("MQTT") + b"\x04\xc2\x00\x00" + text(f"load{first}") + text("load") + text(password)
    writer.write(packet(0x10, body))
    await asyncio.sleep(1.0)
    sent = 0
    start = time.time()
    for second in range(seconds):
        for slot in range(10):  # ten devices each tenth of a second: a steady stream
            now = time.time()
            for device in range(first + slot * 10, first + slot * 10 + 10):
                phase = (device * 7 + second) % 5
                payload = (
                    b'{"t":%.3f,"n":%d,"v":{"HR":%d,"SPO2":%d,"RR":%d,"TEMP":37.1,"ART_SYS":%d,"ART_DIA":%d}}'
                    % (now, second, 70 + phase, 96 + phase % 3, 14 + phase, 118 + phase, 68 + phase)
                )
                writer.write(packet(0x30, text(f"vitals/D{device}") + payload))
                sent += 1
            await writer.drain()
            await asyncio.sleep(max(0.0, start + second + (slot + 1) / 10 - time.time()))
    writer.write(b"\xe0\x00")
    await writer.drain()
    writer.close()
    return sent


async def main() -> None:
    port, password, count, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sent = await asyncio.gather(
        *(connection(port, password, first, seconds) for first in range(0, count, CONNECTIONS_EACH))
    )
    print(json.dumps({"sent": sum(sent), "cpu_s": time.process_time()}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
