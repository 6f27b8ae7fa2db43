"""kill -9 of a node's HL7 port under load: what was acknowledged is there, and no message is half there."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from digital_twins.dicom import Worklist
from digital_twins.hl7v2 import HL7Error, MllpClient, parse
from digital_twins.server._services import open_services
from hl7_messages import adt, orm, oru

if TYPE_CHECKING:
    from digital_twins.server._services import Services

PORT = """
import asyncio, sys
from pathlib import Path
from digital_twins.config import Settings
from digital_twins.server._hl7 import open_hl7_port
from digital_twins.server._services import open_services
async def main():
    services = open_services(Path(sys.argv[1]), boot_id=sys.argv[2])
    settings = Settings(data_dir=sys.argv[1], hl7_port=0, hl7_systems={"HOSP": "urn:oid:1.2.3"})
    port = await open_hl7_port(settings, services, on_record=lambda: None)
    print(port.port, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
KINDS = {  # what each kind of message makes, beside its patient
    "adt": {"Encounter": 1},
    "oru": {"Encounter": 1, "Observation": 10, "DiagnosticReport": 1},
    "orm": {"Encounter": 1, "ServiceRequest": 1},
}
SENDERS = 4


def made(kind: str, name: str) -> bytes:
    """A message of a kind whose patient, visit, bed and order nobody else has; ``name`` is a number."""
    text = {"adt": adt("A01"), "oru": oru(), "orm": orm()}[kind].decode()
    text = text.replace("~99^^^NHS&2.16.840.1.113883.2.1.4.1&ISO^NI", "").replace(
        "ONK^12^2", f"ONK^12^{name}"
    )
    for old in ("4711", "V100", "|P77", "|F88", "|P1", "|SPS1", "|ACC1", "|RP1", "1.2.3.4.5"):
        text = text.replace(old, old + name)
    return text.encode()


async def load(port: int, start: int, told: dict[str, str], enough: int, killed: asyncio.Event) -> None:
    """Send until the port is gone; every acknowledged message is noted at once."""

    async def sender(number: int) -> None:
        count = 0
        try:
            async with MllpClient("127.0.0.1", port, timeout_s=60) as client:
                while True:
                    kind = tuple(KINDS)[(number + count) % len(KINDS)]
                    name = str(start + 10_000 * number + count)
                    answer = await client.send(parse(made(kind, name)))
                    assert answer["MSA-1"] == "CA", answer["ERR-3"]
                    told[name] = kind
                    count += 1
                    if len(told) >= enough:
                        killed.set()
        except HL7Error:
            killed.set()

    await asyncio.gather(*(sender(number) for number in range(SENDERS)))


async def one_life(folder: Path, number: int, enough: int, delay_s: float) -> dict[str, str]:
    """Kill the port under load a moment after ``enough`` acknowledgements; return all that came."""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    command = [sys.executable, "-c", PORT, str(folder), str(number)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        port = int(await asyncio.to_thread(process.stdout.readline))
        told: dict[str, str] = {}
        killed = asyncio.Event()
        sending = asyncio.create_task(load(port, 100_000 * (number + 1), told, enough, killed))
        await killed.wait()
        await asyncio.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        await sending
    return told


def check(services: Services, told: dict[str, str]) -> None:
    """Every acknowledged message is stored; of every other one all is stored, or nothing."""
    with services.database.read() as connection:
        rows = connection.execute("SELECT body FROM fhir_resource WHERE deleted=0").fetchall()
        audited = connection.execute("SELECT count(*) FROM audit_outbox").fetchone()
        beds = dict(connection.execute("SELECT patient, bed FROM bed_stay").fetchall())
    bodies = [orjson.loads(body) for (body,) in rows]
    people = {
        body["id"]: body["identifier"][0]["value"].removeprefix("4711")
        for body in bodies
        if body["resourceType"] == "Patient"
    }
    parts: dict[str, dict[str, int]] = {name: {} for name in people.values()}
    for body in bodies:
        if "subject" in body:
            counts = parts[people[body["subject"]["reference"].removeprefix("Patient/")]]
            counts[body["resourceType"]] = counts.get(body["resourceType"], 0) + 1
    assert told.keys() <= parts.keys()
    assert all(parts[name] == KINDS[kind] for name, kind in told.items())
    assert all(found in KINDS.values() for found in parts.values())
    in_bed = {name for name, found in parts.items() if found == KINDS["adt"]}
    assert beds == {f"urn:oid:1.2.3|4711{name}": f"ONK/12/{name}" for name in in_bed}
    ordered = {name for name, found in parts.items() if found == KINDS["orm"]}
    steps = {item.patient_id.removeprefix("4711") for item in Worklist(services.dicom).items()}
    assert steps == ordered
    assert audited == (len(parts),)


@pytest.mark.timeout(3600)
def test_no_acknowledged_message_is_lost_and_none_is_half_there(tmp_path: Path, full: bool) -> None:
    chance, told = random.Random(5), dict[str, str]()
    for number in range(50 if full else 5):
        enough, delay_s = chance.randint(1, 12), 0.05 * chance.random()
        found = asyncio.run(one_life(tmp_path, number, enough, delay_s))
        assert found
        told |= found
        services = open_services(tmp_path, boot_id=f"check {number}")
        check(services, told)
        services.close()
    assert set(told.values()) == KINDS.keys()
