"""Our MLLP port and client with npm's simple-hl7, a client and server that others wrote."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from digital_twins.hl7v2 import Message, MllpClient, bundle_of, parse, start_mllp
from hl7_messages import oru

pytestmark = pytest.mark.peers
MODULES = Path(os.environ.get("TWIN_PEERS", Path(__file__).parents[2] / ".peers")) / "node_modules"
CLIENT = """
const hl7 = require('simple-hl7');
const client = hl7.Server.createTcpClient({host: '127.0.0.1', port: Number(process.argv[2])});
const adt = new hl7.Message('NODE', 'HOSP', 'TWIN', '', '20260301120000', '', ['ADT', 'A31'], 'N1',
  'P', '2.3');
adt.addSegment('PID', '', '', [['4711', '', '', 'HOSP']], '', [['Muster', 'Eva']], '', '19620314', 'F');
client.send(adt, (error, ack) => {
  console.log(JSON.stringify({error: error ? String(error) : null,
    code: ack && ack.getSegment('MSA').getComponent(1, 1),
    id: ack && ack.getSegment('MSA').getComponent(2, 1)}));
  process.exit(0);
});
"""
SERVER = """
const hl7 = require('simple-hl7');
const app = hl7.tcp();
app.use((req, res, next) => {
  console.log(JSON.stringify({obx: req.msg.getSegments('OBX').length}));
  next();
});
app.use((req, res, next) => { res.end(); });
app.start(Number(process.argv[2]));
console.log('ready');
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    if not shutil.which("node") or not (MODULES / "simple-hl7").exists():
        pytest.skip("node or simple-hl7 is missing: make peers")
    (tmp_path / "node_modules").symlink_to(MODULES)
    return tmp_path / "peer.js"


def test_their_client_is_acknowledged(script: Path) -> None:
    script.write_text(CLIENT, encoding="utf-8")
    kept: list[Message] = []

    async def keep(message: Message) -> None:
        kept.append(message)

    async def main() -> bytes:
        server = await start_mllp(keep)
        process = await asyncio.create_subprocess_exec(
            "node", str(script), str(server.port), stdout=asyncio.subprocess.PIPE, cwd=script.parent
        )
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
        await server.close()
        return out

    assert json.loads(asyncio.run(main())) == {"error": None, "code": "AA", "id": kept[0].control_id}
    patient = bundle_of(kept[0])["entry"][0]["resource"]
    assert patient["identifier"][0]["value"] == "4711"
    assert patient["name"][0]["family"] == "Muster"


def test_their_server_takes_our_result(script: Path) -> None:
    script.write_text(SERVER, encoding="utf-8")

    async def main() -> tuple[Message, bytes]:
        probe = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = probe.sockets[0].getsockname()[1]
        probe.close()
        process = await asyncio.create_subprocess_exec(
            "node", str(script), str(port), stdout=asyncio.subprocess.PIPE, cwd=script.parent
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                assert await process.stdout.readline() == b"ready\n"
                async with MllpClient("127.0.0.1", port) as client:
                    answer = await client.send(parse(oru()))
                return answer, await process.stdout.readline()
        finally:
            process.kill()
            await process.wait()

    answer, seen = asyncio.run(main())
    assert answer["MSA-1"] == "AA"
    assert json.loads(seen)["obx"] == 10
