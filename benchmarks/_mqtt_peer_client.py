"""aiomqtt as a subscriber: ``python _mqtt_peer_client.py PORT COUNT`` prints its CPU seconds and messages.

It ends after COUNT messages, or when none came for five seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiomqtt


async def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    got, begin = 0, 0.0
    async with aiomqtt.Client("127.0.0.1", port, max_queued_incoming_messages=0) as client:
        await client.subscribe("vitals/+")
        print("ready", flush=True)
        begin = time.process_time()
        messages = aiter(client.messages)
        while got < count:
            try:
                message = await asyncio.wait_for(anext(messages), 15.0 if not got else 5.0)
            except TimeoutError:
                break
            got += bool(message.payload)
    print(json.dumps({"cpu_s": time.process_time() - begin, "got": got}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
