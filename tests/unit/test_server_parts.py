"""Small parts of the server: metrics text, data folder, query parameter for Accept, catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from digital_twins import ConflictError, NotFoundError
from digital_twins.server._catalogue import MIGRATIONS, Catalogue
from digital_twins.server._datadir import DataFolder
from digital_twins.server._doors import _query_accept
from digital_twins.server._metrics import Metrics
from digital_twins.storage import BlobStore, Database

if TYPE_CHECKING:
    from pathlib import Path


def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics()
    metrics.add("twin_http_requests_total", door="api", status="2xx")
    metrics.add("twin_http_requests_total", 2, status="2xx", door="api")
    metrics.gauge("twin_jobs", lambda: {'state="queued"': 3.0})
    lines = metrics.exposition().splitlines()
    assert 'twin_http_requests_total{door="api",status="2xx"} 3' in lines
    assert 'twin_jobs{state="queued"} 3' in lines
    assert "# TYPE twin_jobs gauge" in lines
    assert lines.index("# TYPE twin_http_requests_total counter") == 1


def test_folder_belongs_to_one_node_until_closed(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "data")
    with pytest.raises(ConflictError) as caught:
        DataFolder(tmp_path / "data")
    assert caught.value.fix
    first.close()
    DataFolder(tmp_path / "data").close()


@pytest.mark.parametrize(
    ("query", "header", "rest"),
    [(b"accept=application/dicom&x=1", b"application/dicom", b"x=1"), (b"x=1", b"*/*", b"x=1")],
)
def test_accept_may_stand_in_the_query(query: bytes, header: bytes, rest: bytes) -> None:
    import asyncio

    seen: dict[str, Any] = {}

    async def inner(scope: Any, _receive: Any, _send: Any) -> None:
        seen.update(scope)

    async def nothing(*_: Any) -> Any:
        return {}

    scope = {"type": "http", "query_string": query, "headers": [(b"accept", b"*/*")]}
    asyncio.run(_query_accept(inner)(scope, nothing, nothing))
    assert dict(seen["headers"])[b"accept"] == header
    assert seen["query_string"] == rest


def test_patient_keys_are_opaque_and_lasting(tmp_path: Path) -> None:
    database = Database(tmp_path / "twin.sqlite", migrations=MIGRATIONS)
    catalogue = Catalogue(database, BlobStore(tmp_path / "blobs"))
    key = catalogue.patient_key("MRN-77")
    assert catalogue.patient_key("MRN-77") == key
    assert key != "MRN-77"
    assert len(key) == 16
    assert catalogue.patient(key).patient_id == "MRN-77"
    with pytest.raises(NotFoundError):
        catalogue.patient("unknown")
    with pytest.raises(NotFoundError):
        catalogue.blob("no-twin", None, "image")
    catalogue.mark_outputs([("Observation/1", "fhir"), ("Observation/1", "fhir")])
    assert catalogue.outputs() == {"Observation/1"}
    database.close()
