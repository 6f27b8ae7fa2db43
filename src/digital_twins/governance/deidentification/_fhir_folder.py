"""A folder of FHIR files without its patients: one file in, one file out or one reason why not."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.governance.deidentification._fhir import entries_of, known_identifiers, patient_of
from digital_twins.governance.deidentification._known_identifiers import KnownIdentifiers

if TYPE_CHECKING:
    import os

    from digital_twins.governance.deidentification._fhir import FhirDeidentifier

FHIR_SUFFIXES = frozenset((".json", ".ndjson"))


@dataclass(slots=True)
class FhirFolderReport:
    """What became of the FHIR files of a folder.

    Parameters
    ----------
    written
        Number of files written.
    resources
        Number of resources in them, those of Bundles too.
    changed
        How many elements each action of the rules changed or removed.
    refused
        Reason by file, relative to the folder, of every file that was not written.
    """

    written: int = 0
    resources: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and reasons."""
        return {
            "written": self.written,
            "resources": self.resources,
            "changed": dict(self.changed),
            "refused_files": self.refused,
        }


def deidentify_fhir_folder(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, deidentifier: FhirDeidentifier
) -> FhirFolderReport:
    """De-identify every ``.json`` and ``.ndjson`` file of a folder and its folders.

    What the files say of staff and places is known in all of them, what they say of a patient in that
    patient's resources. Files appear as ``fhir/<type>-<16 digits>.json``, whole or not at all: the old name,
    which may be the patient's, goes. A file with one resource that cannot be de-identified is refused.

    Parameters
    ----------
    source, target
        Folders; the target must not lie in the source.
    deidentifier
        What to do.

    Raises
    ------
    InputError
        The source is no folder, or the target lies in it.
    """
    root, out = Path(source).resolve(), Path(target).resolve()
    if not root.is_dir() or out == root or root in out.parents:
        raise InputError(
            "The folder cannot be de-identified.",
            "The source is no folder, or the target lies in it and would be read too.",
            "Give another folder.",
        )
    paths = sorted(path for path in root.rglob("*") if path.suffix in FHIR_SUFFIXES and path.is_file())
    report, read = FhirFolderReport(), {}
    for path in paths:
        try:
            read[path] = _resources(path)
        except (ValueError, RecursionError):
            report.refused[path.relative_to(root).as_posix()] = "It is no JSON object, or has none a line."
    cleaners = _Cleaners(deidentifier, [each for found in read.values() for each in found])
    for path, resources in read.items():
        name = path.relative_to(root).as_posix()
        try:
            made = [cleaners.of(each).deidentify(each) for each in resources]
        except DigitalTwinError as error:
            report.refused[name] = error.why
            continue
        kind = resources[0]["resourceType"]
        digits = deidentifier.key.digest("fhir file", name).hex()[:16]
        _write(out / "fhir" / f"{kind}-{digits}{path.suffix}", [each for each, _ in made])
        report.written += 1
        report.resources += sum(len(entries_of(each)) for each in resources)
        report.changed.update(sum((counts for _, counts in made), Counter()))
    return report


class _Cleaners:
    """A de-identifier for each patient, who knows the shared identifiers and the patient's own."""

    def __init__(self, base: FhirDeidentifier, resources: list[dict[str, Any]]) -> None:
        groups: dict[str, list[dict[str, Any]]] = {}
        for each in resources:
            groups.setdefault(patient_of(each), []).append(each)
        shared = known_identifiers(groups.pop("", []))
        self._shared = replace(base, known=_both(base.known, shared))
        self._own = {
            patient: replace(base, known=_both(self._shared.known, known_identifiers(found)))
            for patient, found in groups.items()
        }

    def of(self, resource: dict[str, Any]) -> FhirDeidentifier:
        return self._own.get(patient_of(resource), self._shared)


def _both(one: KnownIdentifiers, other: KnownIdentifiers) -> KnownIdentifiers:
    return KnownIdentifiers.of(one.names | other.names, one.values | other.values)


def _resources(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()] if path.suffix == ".ndjson" else [text]
    found = [json.loads(line) for line in lines]
    if not found or not all(isinstance(each, dict) for each in found):
        raise ValueError(path.suffix)
    return found


def _write(path: Path, resources: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{secrets.token_hex(4)}.part")
    try:
        text = "\n".join(json.dumps(each, ensure_ascii=False) for each in resources)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
