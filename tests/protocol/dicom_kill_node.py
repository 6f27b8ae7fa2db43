"""A node in a process of its own, to be killed: prints its port, then serves until it dies."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from dicom_support import open_store
from digital_twins import dicom
from digital_twins.server._services import LOG_BYTES


async def _main(folder: Path, *, encrypted: bool) -> None:
    with open_store(folder, encrypted=encrypted, log_bytes=LOG_BYTES) as store:
        listener = await dicom.start_listener(store, port=0)
        sys.stdout.write(f"{listener.port}\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)


uvloop.run(_main(Path(sys.argv[1]), encrypted=sys.argv[2:] == ["encrypted"]))
