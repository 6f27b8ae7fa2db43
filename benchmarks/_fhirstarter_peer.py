"""The peer FHIRStarter with resources in a dictionary, in an environment of its own: CPU us a request.

Usage: ``python _fhirstarter_peer.py ROUNDS`` with ``[patient, observation]`` as JSON on standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import warnings
from uuid import uuid4

warnings.simplefilter("ignore")

from fhir.resources.observation import Observation  # noqa: E402
from fhir.resources.patient import Patient  # noqa: E402
from fhirstarter import FHIRProvider, FHIRStarter, InteractionContext  # noqa: E402

STORE: dict[str, str] = {}
provider = FHIRProvider()


@provider.read(Patient)
async def patient_read(context: InteractionContext, id_: str) -> Patient:
    return Patient.model_validate_json(STORE[id_])


@provider.create(Observation)
async def observation_create(context: InteractionContext, resource: Observation) -> str:
    name = uuid4().hex
    STORE[name] = resource.model_dump_json()
    return name


async def call(app: FHIRStarter, method: str, path: str, body: bytes = b"") -> int:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/fhir+json")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    status = 0

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, object]) -> None:
        nonlocal status
        status = int(str(message.get("status", status)))

    await app(scope, receive, send)
    return status


async def cpu_us(app: FHIRStarter, rounds: int, method: str, path: str, body: bytes = b"") -> float:
    for _ in range(20):
        if await call(app, method, path, body) >= 300:
            sys.exit("the peer refused a request")
    start = time.process_time()
    for _ in range(rounds):
        await call(app, method, path, body)
    return (time.process_time() - start) / rounds * 1e6


def main() -> None:
    patient, observation = json.load(sys.stdin)
    app = FHIRStarter()
    app.add_providers(provider)
    STORE["p0"] = json.dumps(patient)
    rounds = int(sys.argv[1])
    read = asyncio.run(cpu_us(app, rounds, "GET", "/Patient/p0"))
    create = asyncio.run(cpu_us(app, rounds, "POST", "/Observation", json.dumps(observation).encode()))
    print(json.dumps({"read": read, "create": create}))


if __name__ == "__main__":
    main()
