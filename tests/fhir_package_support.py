"""FHIR packages that a test builds itself."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from fhir_support import patient

if TYPE_CHECKING:
    from pathlib import Path

WARD = "http://example.org/StructureDefinition/ward"


def parameter(code: str, kind: str, base: str, expression: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "url": f"http://example.org/SearchParameter/{base}-{code}",
        "status": "active",
        "code": code,
        "base": [base],
        "type": kind,
        "expression": expression,
        **more,
    }


def package(path: Path, resources: list[dict[str, Any]], version: str = "1.0.0") -> Path:
    files = {"package.json": {"name": "org.example.ward", "version": version, "fhirVersions": ["4.0.1"]}}
    files |= {f"SearchParameter-{n}.json": resource for n, resource in enumerate(resources)}
    with tarfile.open(path, "w:gz") as archive:
        for name, body in files.items():
            data = json.dumps(body).encode()
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def on_ward(code: str, **more: Any) -> dict[str, Any]:
    return patient(extension=[{"url": WARD, "valueCoding": {"system": "urn:wards", "code": code}}], **more)
