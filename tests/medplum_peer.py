"""A FHIR R4 server that others wrote: @medplum/fhir-router on node:http, as a peer."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from foreign import node_package, program

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def medplum_server(home: Path) -> Iterator[str]:
    """Run it with an empty memory store; its base address."""
    (home / "node_modules").symlink_to(node_package("@medplum/fhir-router").parents[1])
    script = home / "server.mjs"
    script.write_text((Path(__file__).parent / "peers" / "medplum_server.mjs").read_text())
    with subprocess.Popen([program("node"), str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit()
        yield f"http://127.0.0.1:{port}/fhir"
        process.terminate()
