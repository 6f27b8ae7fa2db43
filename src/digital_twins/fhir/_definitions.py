"""The compiled R4 definitions that the room ships: structures and search parameters."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins.fhir._paths import Path, Step, compile_path

if TYPE_CHECKING:
    from collections.abc import Mapping

FHIR_VERSION = "4.0.1"
_ROW_FORM = b"2"  # changes when the same definitions give other index rows


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a composite parameter: its kind, and its paths from the element or the resource."""

    kind: str
    paths: tuple[Path, ...]
    far: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """One place of a composite parameter: the elements at ``base`` (the resource when empty) and the parts.

    Pieces with the same ``name`` share their index rows.
    """

    name: str
    base: tuple[Step, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SearchParameter:
    """One search parameter of one resource type (FHIR R4 search, table of parameter types).

    ``number`` is the stable 32-bit key in the index tables, that of ``Type.code`` unless another parameter
    indexes the same elements (``patient`` shares the rows of ``subject``); ``also`` are the keys of further
    parameters whose values are its own (``combo-code``). ``identifier_number`` is the key under which
    identifiers of references are indexed (modifier ``:identifier``); ``targets`` the resource types that a
    reference may name, empty for any; ``stored`` says that it writes rows of its own. A composite parameter
    has ``pieces`` instead of paths. One of a package has its FHIRPath ``expression`` and its canonical URL,
    ``definition``; its one path has no steps and names the target of a reference.
    """

    resource: str
    code: str
    kind: str
    paths: tuple[Path, ...]
    targets: tuple[str, ...] = ()
    number: int = 0
    identifier_number: int = 0
    also: tuple[int, ...] = ()
    stored: bool = True
    pieces: tuple[Piece, ...] = ()
    expression: str = ""
    definition: str = ""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Every key under which its values stand."""
        return (self.number, *self.also)


@dataclass(frozen=True, slots=True)
class Definitions:
    """Structures, summary elements and search parameters of every R4 resource type."""

    structures: Mapping[str, Mapping[str, list[Any]]]
    summary: Mapping[str, list[str]]
    parameters: Mapping[str, Mapping[str, SearchParameter]]
    index_version: int
    types: frozenset[str] = field(default_factory=frozenset)


def _piece(resource: str, base: str, parts: list[Any]) -> Piece:
    steps = compile_path(f"{base}:Element").steps if base else ()
    found = []
    for kind, texts in parts:
        far = texts[0].startswith("^")
        found.append(Part(kind, tuple(compile_path(text.removeprefix("^")) for text in texts), far))
    return Piece(f"{resource}.{base} {orjson.dumps(parts).decode()}", steps, tuple(found))


def _parameter(resource: str, code: str, row: Mapping[str, Any]) -> SearchParameter:
    name = f"{resource}.{code}"
    return SearchParameter(
        resource=resource,
        code=code,
        kind=row["t"],
        paths=tuple(compile_path(text) for text in row.get("p", ())),
        pieces=tuple(_piece(resource, base, parts) for base, parts in row.get("c", ())),
        targets=tuple(row.get("g", ())),
        number=zlib.crc32(name.encode()),
        identifier_number=zlib.crc32(f"{name}:i".encode()),
    )


def _bare(parameter: SearchParameter) -> frozenset[tuple[Any, ...]]:
    return frozenset((path.steps, path.leaf) for path in parameter.paths)


def _shared(rows: dict[str, SearchParameter]) -> dict[str, SearchParameter]:
    """Let parameters over the elements of others use the rows of those, so that nothing is indexed twice."""
    found = dict(rows)
    for code, parameter in sorted(rows.items()):
        if parameter.kind == "composite":
            continue
        bare = _bare(parameter)
        others = [p for c, p in sorted(found.items()) if c != code and p.kind == parameter.kind and p.stored]
        open_ended = [p for p in others if all(path.target is None for path in p.paths)]
        owners = [p for p in open_ended if _bare(p) <= bare]
        whole = next((p for p in owners if _bare(p) == bare), None)
        parts = [whole] if whole else owners
        targets = {path.target for path in parameter.paths}
        if not parts or frozenset().union(*(_bare(p) for p in parts)) != bare:
            continue
        if len(targets) > 1 or (targets != {None} and parameter.targets != tuple(targets)):
            continue  # a narrower parameter must name its one type, or its rows could not be told apart
        numbers = [p.number for p in parts]
        found[code] = replace(
            parameter,
            number=numbers[0],
            also=tuple(numbers[1:]),
            identifier_number=parts[0].identifier_number,
            stored=False,
        )
    return found


@cache
def definitions() -> Definitions:
    """Return the compiled R4 (4.0.1) definitions, read once per process."""
    folder = files("digital_twins.fhir") / "_data"
    structures = orjson.loads((folder / "structures.json").read_bytes())
    raw = (folder / "search-parameters.json").read_bytes()
    compiled: dict[str, dict[str, Any]] = orjson.loads(raw)["parameters"]
    common = {c: r for c, r in compiled.pop("Resource").items() if c not in {"_id", "_lastUpdated"}}
    parameters = {
        kind: _shared(
            {c: _parameter(kind, c, row) for c, row in {**common, **compiled.get(kind, {})}.items()}
        )
        for kind in structures["summary"]
    }
    return Definitions(
        structures=structures["types"],
        summary=structures["summary"],
        parameters=parameters,
        index_version=zlib.crc32(raw + _ROW_FORM),
        types=frozenset(structures["summary"]),
    )
