"""The tests that run on SQLite and on PostgreSQL alike, and what they need for that."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from foreign import missing_peer, python_package
from postgresql_server import PostgresServer, programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from digital_twins.storage import Migration, RowKeys
    from digital_twins.storage._engine import Engine

_ALWAYS = {
    # module: words of tests that are about SQLite's file, start a process that opens one, or take long
    "test_storage_jobs": "kill|process",
    "test_storage_database": (
        "processes|kill|forked|inherits|disk|folder|synchronous|no_database|ends_the_transaction"
        "|failing_migration|half_read|readers_are_reused|keeps_its_plan"
    ),
    "test_twin_registry": "",
    "test_fhir_store": "synthea",
    "test_fhir_writing": "shapes|shallow|brackets|bundle",
    "test_fhir_search_everywhere": "",
    "test_dicom_query": "indexes_serve",
    "test_monitoring_state": "",
    "test_monitoring_parts": "",
}
_IN_FULL = {
    "test_fhir_store": "",
    "test_fhir_search_depth": "",
    "test_fhir_filter": "",
    "test_fhir_compartments": "",
    "test_fhir_packages": "us_core|encrypted",
    "test_server_parts": "",
    "test_server_versions": "",
    "test_twin_life": "kill|process|crash",
    "test_find_depth": "",
    "test_dicomweb_search": "",
    "test_dicomweb_store": "",
    "test_dicomweb_retrieve": "",
    "test_retrieve": "",
    "test_listener": "",
    "test_dicom_arrivals": "power_fails|encrypted",
    "test_ups": "",
    "test_workflow": "",
    "test_dicom_policies": "",
    "test_dicom_routing": "",
    "test_fhir_rest": "",
}
BOTH: dict[str, str] = _ALWAYS | (_IN_FULL if os.environ.get("TWIN_TEST_FULL") == "1" else {})
"""Test modules that run on both databases; those of the protocols only at the full counts."""


def running_server() -> Iterator[PostgresServer]:
    """A server for one test session."""
    folder = programs()
    if folder is None:
        missing_peer("PostgreSQL (Debian: postgresql)")
    python_package("psycopg")
    server = PostgresServer(folder)
    try:
        yield server
    finally:
        server.close()


SEALED: dict[str, str] = {
    # modules that run on encrypted columns too, and words of tests that look into the rows themselves
    "test_twin_registry": "",
    "test_dicom_query": "indexes_serve",
} | (
    {
        "test_storage_jobs": "kill|process",
        "test_fhir_store": "synthea",
        "test_fhir_search_depth": "",
        "test_fhir_search_everywhere": "",
        "test_fhir_writing": "shapes|shallow|brackets|bundle",
        "test_fhir_filter": "",
        "test_fhir_compartments": "",
        "test_find_depth": "",
        "test_dicomweb_search": "",
        "test_ups": "",
        "test_workflow": "",
        "test_dicom_policies": "",
        "test_server_parts": "",
        "test_fhir_rest": "",
    }
    if os.environ.get("TWIN_TEST_FULL") == "1"
    else {}
)
"""Test modules that run on a server whose columns are encrypted; most only at the full counts."""


def engine_on(
    server: PostgresServer,
    path: Path,
    migrations: Sequence[Migration],
    wait_s: float,
    row_keys: RowKeys | None = None,
) -> Engine:
    """Open a schema in place of the file at `path`: the same path always means the same schema."""
    from digital_twins.storage._postgresql import PostgresEngine

    schema = ("s" if row_keys else "t") + hashlib.sha256(str(path).encode()).hexdigest()[:16]
    return PostgresEngine(server.url, schema, migrations=migrations, busy_timeout_s=wait_s, row_keys=row_keys)
