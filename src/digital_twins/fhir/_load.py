"""FHIR files as transactions for a server: bulk NDJSON keeps its ids, bundles go as they are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FIRST = ("Organization", "Location", "Practitioner", "PractitionerRole", "Patient", "Device", "Medication")
"""Types that others refer to by search (``Practitioner?identifier=...``), in the order in which they load."""
_BUNDLES = {"transaction", "batch"}


@dataclass(frozen=True, slots=True)
class LoadStep:
    """One bundle to post, the file that it comes from, and how many resources it carries."""

    file: Path
    bundle: dict[str, Any]
    count: int


def fhir_files(places: Sequence[Path]) -> list[Path]:
    """Return the ``.ndjson`` and ``.json`` files of folders and the files named, in the order to load them.

    Raises
    ------
    NotFoundError
        A place does not exist, or there is no such file.
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise NotFoundError("Nothing was loaded.", "A file or folder does not exist.", "Check the path.")
        found += sorted(place.rglob("*")) if place.is_dir() else [place]
    files = [path for path in found if path.suffix in {".ndjson", ".json"}]
    if not files:
        raise NotFoundError(
            "Nothing was loaded.", "There is no .ndjson or .json file.", "Name a folder that holds some."
        )
    return sorted(files, key=_rank)


def _rank(path: Path) -> tuple[int, str]:
    kind = path.name.partition(".")[0]
    return (_FIRST.index(kind) if kind in _FIRST else len(_FIRST), str(path))


def load_steps(files: Sequence[Path], *, size: int = 100) -> Iterator[LoadStep]:
    """Yield the bundles of the files, one line of NDJSON at a time; a resource keeps its id.

    Parameters
    ----------
    files
        As `fhir_files` returns them. A ``.json`` file holds a Bundle (transaction or batch: posted as it
        is; else its resources) or one resource.
    size
        Resources in one transaction.

    Raises
    ------
    InputError
        A file holds something else than FHIR resources; the message names file and line.
    """
    for file in files:
        if file.suffix == ".json":
            yield from _of_document(file, size)
            continue
        entries: list[dict[str, Any]] = []
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                resource = _parsed(line, file, number)
                if "resourceType" in resource:  # a log of the export may lie beside its files
                    entries.append(_put(resource))
                if len(entries) >= size:
                    yield _step(file, entries)
                    entries = []
        if entries:
            yield _step(file, entries)


def _of_document(file: Path, size: int) -> Iterator[LoadStep]:
    document = _parsed(file.read_bytes(), file, 1)
    if document.get("resourceType") == "Bundle":
        inside = [e for e in document.get("entry", ()) if isinstance(e, dict)]
        if document.get("type") in _BUNDLES:
            yield LoadStep(file, document, len(inside))
            return
        entries = [_put(e["resource"]) for e in inside if isinstance(e.get("resource"), dict)]
    else:
        entries = [_put(document)]
    for start in range(0, len(entries), size):
        yield _step(file, entries[start : start + size])


def _parsed(raw: bytes, file: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(raw, parse_float=_exact)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(
            "A file could not be loaded.",
            f"{file.name}, line {number} is no FHIR resource in JSON.",
            "Give NDJSON, or Bundles and resources in JSON.",
        )
    return found


def _exact(text: str) -> float:
    from digital_twins.fhir._json import ExactDecimal

    return ExactDecimal(text)


def _put(resource: dict[str, Any]) -> dict[str, Any]:
    kind, name = resource.get("resourceType"), resource.get("id")
    if name:
        return {"resource": resource, "request": {"method": "PUT", "url": f"{kind}/{name}"}}
    return {"resource": resource, "request": {"method": "POST", "url": f"{kind}"}}


def _step(file: Path, entries: list[dict[str, Any]]) -> LoadStep:
    return LoadStep(file, {"resourceType": "Bundle", "type": "transaction", "entry": entries}, len(entries))
