"""The folder of FHIR packages of a node."""

from __future__ import annotations

import json
import os
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir._package_search import extra_parameters
from digital_twins.fhir.validation._definitions import DefinitionSet, bounded_members, package_resources

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES_FOLDER = "fhir-packages"
_NAME = re.compile(r"[a-z0-9][a-z0-9.\-]{0,120}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FhirPackage:
    """A FHIR package: name, version, the FHIR versions it is for, what it has of profiles and of parameters.

    ``search_parameters`` counts those that R4 has not: they are served beside it.
    """

    name: str
    version: str
    fhir_versions: tuple[str, ...]
    profiles: int
    search_parameters: int


def read_package(path: Path) -> FhirPackage:
    """Read what a package file says of itself, and check that its definitions can be used.

    Raises
    ------
    InputError
        When it is missing, no package, or not for FHIR R4.
    """
    manifest = _manifest(path)
    name, version = str(manifest.get("name", "")), str(manifest.get("version", ""))
    versions = manifest.get("fhirVersions") or manifest.get("fhir-version-list") or []
    if _NAME.fullmatch(name) is None or _NAME.fullmatch(version) is None:
        raise _refused("Its package.json has no usable name and version.")
    if versions and not any(str(each).startswith("4.0") for each in versions):
        raise _refused("It is for another version of FHIR than R4 (4.0).")
    resources = package_resources(path)
    extra = extra_parameters(resources)
    return FhirPackage(
        name,
        version,
        tuple(map(str, versions)),
        profiles=len(DefinitionSet(resources).own_profiles),
        search_parameters=sum(map(len, extra.values())),
    )


def add_package(path: Path, folder: Path) -> FhirPackage:
    """Copy a package into the folder of a node; the same name and version is replaced.

    Raises
    ------
    InputError
        When the package cannot be used.
    """
    package = read_package(path)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{package.name}-{package.version}.tgz"
    partial = target.with_suffix(".part")
    partial.write_bytes(path.read_bytes())
    os.replace(partial, target)  # noqa: PTH105  (whole or not at all)
    return package


def packages_in(folder: Path) -> list[FhirPackage]:
    """Return the packages in the folder of a node.

    Raises
    ------
    InputError
        When one of them cannot be read.
    """
    return [read_package(path) for path in sorted(folder.glob("*.tgz"))]


def _manifest(path: Path) -> dict[str, Any]:
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            member = next((m for m in bounded_members(archive) if m.name == "package/package.json"), None)
            file = archive.extractfile(member) if member is not None else None
            found = json.loads(file.read(2**20)) if file is not None else {}
    except (OSError, tarfile.TarError, EOFError, KeyError, ValueError) as error:
        raise _refused(f"It is missing or no package ({type(error).__name__}).") from None
    return found if isinstance(found, dict) else {}


def _refused(why: str) -> InputError:
    return InputError("The FHIR package cannot be used.", why, "Give a package file (.tgz) for FHIR R4.")
