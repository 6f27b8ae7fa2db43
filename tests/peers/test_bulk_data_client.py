"""Our exports under smart-on-fhir's bulk-data-client 1.2.1, a client that others wrote.

No registry has it. Clone https://github.com/smart-on-fhir/bulk-data-client, run ``npm install
--ignore-scripts --omit=dev --engine-strict=false`` in it, and name the folder in TWIN_BULK_CLIENT.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fhir_bulk_support import open_bulk, serve_bulk
from fhir_support import observation, patient, transaction
from foreign import PEERS, program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.peers
CLIENT = Path(os.environ.get("TWIN_BULK_CLIENT", PEERS / "bulk-data-client")) / "built" / "app.js"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not CLIENT.is_file():
        pytest.skip("bulk-data-client is missing; see the head of this file")
    with open_bulk(tmp_path_factory.mktemp("bulk")) as bulk:
        entries: list[dict[str, Any]] = []
        for name in ("a", "b", "c"):
            entries.append(_put(patient(id=name, identifier=[{"value": name}])))
            entries += [
                _put(observation(f"Patient/{name}", "29463-7", 60.0, id=f"o{n}-{name}")) for n in (0, 1)
            ]
        member = [{"entity": {"reference": "Patient/a"}}]
        entries.append(
            _put({"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": member})
        )
        bulk.store.transaction(transaction(*entries))
        with serve_bulk(bulk) as address:
            yield address


def _put(resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "resource": resource,
        "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--global"], {"Patient": 3, "Observation": 6, "Group": 1}),
        ([], {"Patient": 3, "Observation": 6, "Group": 1}),
        (["--group", "g"], {"Patient": 1, "Observation": 2, "Group": 1}),
        (["--global", "--_type", "Patient"], {"Patient": 3}),
        (["--patient", "b", "--_type", "Patient,Observation"], {"Patient": 1, "Observation": 2}),
        (
            ["--global", "--_typeFilter", "Observation?subject=Patient/c", "--_type", "Observation"],
            {"Observation": 2},
        ),
        (["--global", "--_since", "2100-01-01T00:00:00Z"], {}),
    ],
)
def test_export(base: str, tmp_path: Path, arguments: list[str], expected: dict[str, int]) -> None:
    settings = {
        "fhirUrl": f"{base}/",
        "destination": str(tmp_path / "out"),
        "reporter": "text",
        "log": {"enabled": False},
        "tokenUrl": "none",
    }
    (tmp_path / "out").mkdir()
    config = tmp_path / "config.js"
    config.write_text(f"module.exports = {json.dumps(settings)}", encoding="utf-8")
    found = subprocess.run(
        [program("node"), str(CLIENT), "--config", str(config), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    counts: dict[str, int] = {}
    for file in (tmp_path / "out").rglob("*.ndjson"):
        for line in file.read_text(encoding="utf-8").splitlines():
            kind = json.loads(line)["resourceType"]
            counts[kind] = counts.get(kind, 0) + 1
    assert counts == expected, found.stdout + found.stderr
