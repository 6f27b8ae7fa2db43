"""Where profiles, code systems and value sets are looked up: the base of R4, and packages on top."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._definitions import FHIR_VERSION
from digital_twins.fhir.validation._reduce import (
    reduced_code_system,
    reduced_differences,
    reduced_structure,
    reduced_value_set,
)
from digital_twins.fhir.validation._snapshot import completed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BASE = "http://hl7.org/fhir/StructureDefinition/"
_LARGEST_PACKAGE_BYTES = 200 * 1024 * 1024
_KINDS = {
    "StructureDefinition": "structures",
    "CodeSystem": "code_systems",
    "ValueSet": "value_sets",
    "Questionnaire": "questionnaires",
}
Tables = dict[str, dict[str, Any]]


@cache
def _base() -> Tables:
    packed = (files("digital_twins.fhir") / "_data" / "definitions.json.xz").read_bytes()
    found: Tables = json.loads(lzma.decompress(packed))
    return found


class DefinitionSet:
    """StructureDefinitions, code systems and value sets by canonical URL, with or without ``|version``.

    Without a version the latest of those that were given comes first, then that of R4. With one, that version
    answers, or the latest with its first two numbers (``4.0.1`` for ``|4.0``), as the HL7 validator has it;
    otherwise none.

    Parameters
    ----------
    resources
        Further definitions as JSON, that come before those of R4. A StructureDefinition needs a snapshot.
    """

    def __init__(self, resources: Iterable[Mapping[str, Any]] = ()) -> None:
        self._own: Tables = {name: {} for name in _KINDS.values()}
        self._versions: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in _KINDS.values()}
        self.skipped: list[str] = []
        for resource in resources:
            self._add(resource)

    @classmethod
    def from_packages(cls, paths: Iterable[str | Path]) -> DefinitionSet:
        """Read FHIR packages (``.tgz`` of the NPM form).

        Raises
        ------
        InputError
            When a file is missing, no package, or unpacks to more than 200 MB.
        """
        return cls(resource for path in paths for resource in package_resources(Path(path)))

    def _add(self, resource: Mapping[str, Any]) -> None:
        kind, url = resource.get("resourceType"), resource.get("url")
        if kind not in _KINDS or not isinstance(url, str):
            return
        reduced = _reduced(kind, resource)
        if reduced is None:
            self.skipped.append(url)
            return
        versions = self._versions[_KINDS[kind]].setdefault(url, {})
        versions[str(resource.get("version", ""))] = reduced
        self._own[_KINDS[kind]][url] = versions[max(versions, key=_version_order)]

    def _find(self, table: str, url: str) -> Any:
        if "|" not in url:
            return self._own[table].get(url) or _base().get(table, {}).get(url)
        bare, _, version = url.partition("|")
        known = dict(self._versions[table].get(bare, {}))
        base = _base().get(table, {}).get(bare)
        if base is not None:
            known.setdefault(str(base.get("version", FHIR_VERSION)), base)
        if version in known:
            return known[version]
        near = [each for each in known if _same_minor(each, version)]
        return known[max(near, key=_version_order)] if near else None

    def structure(self, url: str) -> dict[str, Any] | None:
        """Return the reduced StructureDefinition of a canonical URL, in the version behind ``|``.

        One that came without a snapshot gets it from its base; None where that is not known.
        """
        found: dict[str, Any] | None = self._find("structures", url)
        if found is None or "elements" in found:
            return found
        differences = found.pop("differences", None)
        base = None if differences is None else self.structure(str(found.get("baseDefinition")))
        if base is None or differences is None:  # its base is not at hand, or it is its own base
            self._forget(url.partition("|")[0], found)
            return self.structure(url) if url in self._own["structures"] else None  # an earlier version
        found["elements"] = completed(base["elements"], differences, self._type_elements)
        return found

    def _forget(self, url: str, unusable: dict[str, Any]) -> None:
        """Take out a version of a profile whose base is not at hand."""
        own, kept = self._own["structures"], self._versions["structures"].get(url, {})
        kept = {version: each for version, each in kept.items() if each is not unusable}
        self._versions["structures"][url] = kept
        own.pop(url, None)
        if kept:
            own[url] = kept[max(kept, key=_version_order)]

    def _type_elements(self, name: str) -> list[dict[str, Any]]:
        found = self.structure(name if ":" in name else BASE + name)
        return found["elements"] if found is not None else []

    def type_structure(self, name: str) -> dict[str, Any] | None:
        """Return the base definition of a type."""
        return self.structure(BASE + name)

    def code_system(self, url: str) -> dict[str, Any] | None:
        """Return the reduced CodeSystem of a canonical URL."""
        found: dict[str, Any] | None = self._find("code_systems", url)
        return found

    def value_set(self, url: str) -> dict[str, Any] | None:
        """Return the reduced ValueSet of a canonical URL."""
        found: dict[str, Any] | None = self._find("value_sets", url)
        return found

    def questionnaire(self, url: str) -> dict[str, Any] | None:
        """Return the Questionnaire of a canonical URL, of those that were given."""
        found: dict[str, Any] | None = self._find("questionnaires", url)
        return found

    @property
    def own_profiles(self) -> tuple[str, ...]:
        """URLs of the profiles that came with the packages."""
        return tuple(self._own["structures"])


def _reduced(kind: str, resource: Mapping[str, Any]) -> dict[str, Any] | None:
    if kind == "CodeSystem":
        return reduced_code_system(resource)
    if kind == "ValueSet":
        return reduced_value_set(resource)
    if kind == "Questionnaire":
        return dict(resource)
    if resource.get("snapshot", {}).get("element"):
        return reduced_structure(resource)
    return reduced_differences(resource) if resource.get("derivation") == "constraint" else None


def _version_order(version: str) -> tuple[Any, ...]:
    """Sorts ``1.10.0`` behind ``1.9.0``, a release behind its ballots, and what is no number by its text."""
    head, dash, label = version.partition("-")
    parts = head.split(".")
    numbers = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    return (numbers if len(numbers) == len(parts) else (), not dash, label, version)


def _same_minor(one: str, other: str) -> bool:
    """Whether two versions begin with the same two numbers."""
    first, second = one.split("."), other.split(".")
    return len(first) > 1 and first[0].isdigit() and first[:2] == second[:2]


def package_resources(path: Path) -> list[dict[str, Any]]:
    """Return the resources of a FHIR package file.

    Raises
    ------
    InputError
        When it is missing, no package, or unpacks to more than 200 MB.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:gz") as archive:
            members = [m for m in bounded_members(archive) if m.isfile() and _is_resource(m.name)]
            texts = [file.read() for m in members if (file := archive.extractfile(m)) is not None]
        return [json.loads(text) for text in texts]
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise _refused(f"It is missing or no package ({type(error).__name__}).") from None


def bounded_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a package; refused at the first with which it would unpack to more than 200 MB.

    A few kilobytes can name gigabytes: what is too large is not even skipped over.
    """
    size = 0
    for member in archive:
        size += member.size
        if size > _LARGEST_PACKAGE_BYTES:
            raise _refused("It unpacks to more than 200 MB.")
        yield member


def _is_resource(name: str) -> bool:
    head, _, tail = name.rpartition("/")
    return head == "package" and tail.endswith(".json") and tail[0] != "." and tail != "package.json"


def _refused(why: str) -> InputError:
    return InputError(
        "The FHIR package cannot be used.", why, "Give a package file (.tgz) as FHIR publishes them."
    )
