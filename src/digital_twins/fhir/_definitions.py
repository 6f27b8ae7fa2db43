"""The compiled R4 definitions that the room ships: structures and search parameters."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins.fhir._paths import Path, compile_path

if TYPE_CHECKING:
    from collections.abc import Mapping

FHIR_VERSION = "4.0.1"


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One search parameter of one resource type (FHIR R4 search, table of parameter types).

    ``number`` is the stable 32-bit key of ``Type.code`` in the index tables; ``identifier_number`` the key
    under which identifiers of references are indexed (modifier ``:identifier``); ``targets`` the resource
    types that a reference may name, empty for any.
    """

    resource: str
    code: str
    kind: str
    paths: tuple[Path, ...]
    targets: tuple[str, ...] = ()
    number: int = 0
    identifier_number: int = 0


@dataclass(frozen=True, slots=True)
class Definitions:
    """Structures, summary elements and search parameters of every R4 resource type."""

    structures: Mapping[str, Mapping[str, list[Any]]]
    summary: Mapping[str, list[str]]
    parameters: Mapping[str, Mapping[str, SearchParameter]]
    index_version: int
    types: frozenset[str] = field(default_factory=frozenset)


def _parameter(resource: str, code: str, row: Mapping[str, Any]) -> SearchParameter:
    name = f"{resource}.{code}"
    return SearchParameter(
        resource=resource,
        code=code,
        kind=row["t"],
        paths=tuple(compile_path(text) for text in row["p"]),
        targets=tuple(row.get("g", ())),
        number=zlib.crc32(name.encode()),
        identifier_number=zlib.crc32(f"{name}:i".encode()),
    )


@cache
def definitions() -> Definitions:
    """Return the compiled R4 (4.0.1) definitions, read once per process."""
    folder = files("digital_twins.fhir") / "_data"
    structures = orjson.loads((folder / "structures.json").read_bytes())
    raw = (folder / "search-parameters.json").read_bytes()
    compiled: dict[str, dict[str, Any]] = orjson.loads(raw)["parameters"]
    common = {c: r for c, r in compiled.pop("Resource").items() if c not in {"_id", "_lastUpdated"}}
    parameters = {
        kind: {c: _parameter(kind, c, row) for c, row in {**common, **compiled.get(kind, {})}.items()}
        for kind in structures["summary"]
    }
    return Definitions(
        structures=structures["types"],
        summary=structures["summary"],
        parameters=parameters,
        index_version=zlib.crc32(raw),
        types=frozenset(structures["summary"]),
    )
