"""A store and a server for the FHIR tests."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette

from digital_twins.audit import OUTBOX_MIGRATIONS
from digital_twins.fhir import MIGRATIONS, FhirStore, PackageParameters, fhir_routes
from digital_twins.storage import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOINC = "http://loinc.org"
PSEUDONYM = "ab" * 32


@contextmanager
def open_store(folder: Path, **options: Any) -> Iterator[FhirStore]:
    """A store on a database of its own; the search parameters of the packages in ``packages`` are served."""
    with Database(folder / "node.db", migrations=(*OUTBOX_MIGRATIONS, *MIGRATIONS)) as database:
        parameters = PackageParameters(folder / "packages", database)
        store = FhirStore(database, pseudonym=lambda _: PSEUDONYM, parameters=parameters, **options)
        yield store
        store.close()


@contextmanager
def serve(store: FhirStore, **options: Any) -> Iterator[str]:
    """Run the routes in uvicorn on a free port and yield the FHIR base address."""
    config = uvicorn.Config(
        Starlette(routes=fhir_routes(store, **options)),
        log_config=None,
        lifespan="off",
        ws="none",
        access_log=False,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def patient(**more: Any) -> dict[str, Any]:
    """An invented patient."""
    return {
        "resourceType": "Patient",
        "identifier": [
            {
                "type": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]
                },
                "system": "urn:example:mrn",
                "value": "12345678",
            }
        ],
        "name": [{"family": "Muster", "given": ["Élodie"]}],
        "gender": "female",
        "birthDate": "1961-04",
        **more,
    }


def observation(subject: str, code: str, value: float, **more: Any) -> dict[str, Any]:
    """An invented measurement."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": subject},
        "valueQuantity": {"value": value, "unit": "kg", "system": "http://unitsofmeasure.org", "code": "kg"},
        **more,
    }


def transaction(*entries: dict[str, Any]) -> dict[str, Any]:
    """A transaction bundle."""
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def post(resource: dict[str, Any], full_url: str | None = None, **request: str) -> dict[str, Any]:
    """A POST entry."""
    found: dict[str, Any] = {
        "resource": resource,
        "request": {"method": "POST", "url": resource["resourceType"], **request},
    }
    if full_url:
        found["fullUrl"] = full_url
    return found
