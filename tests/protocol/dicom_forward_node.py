"""A node that forwards all it gets, in a process of its own, to be killed: FOLDER, destination's PORT."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from dicom_support import open_store
from digital_twins import dicom


async def _main(folder: Path, port: int) -> None:
    with open_store(folder) as store, ThreadPoolExecutor(4) as executor:
        queues = dicom.SendQueues(store.database, dicom.Backoff(0.05, 0.2))
        store.on_new = dicom.route_new([dicom.Route("PACS")], queues, stable_s=1.0, pseudonym=store.pseudonym)
        listener = await dicom.start_listener(store, port=0)
        there = dicom.Destination(dicom.Remote("127.0.0.1", port, called_ae="PACS", timeout_s=5.0))
        dicom.Forwarder(store, queues, executor, destinations={"PACS": there})
        sys.stdout.write(f"{listener.port}\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)


uvloop.run(_main(Path(sys.argv[1]), int(sys.argv[2])))
