"""amqtt as a broker: ``python _mqtt_peer_broker.py PORT``; ends with its standard input."""

from __future__ import annotations

import asyncio
import logging
import sys

from amqtt.broker import Broker


async def main() -> None:
    logging.disable(logging.CRITICAL)
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}}
    broker = Broker({"listeners": listeners, "plugins": anonymous})
    await broker.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
