"""A process that serves DICOMweb over a store: ``python dicomweb_node.py FOLDER`` prints its port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from dicom_support import open_store
from digital_twins import dicom


async def main(folder: Path) -> None:
    with open_store(folder) as store:
        app = Starlette(routes=[Mount("/dicom-web", routes=dicom.dicomweb_routes(store))])
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        sys.stdout.write(f"{server.servers[0].sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await task


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
