"""The software that runs here as a CycloneDX bill of materials (ECMA-424), made from what is installed."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from digital_twins import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "digital-twins"


def software_bill() -> dict[str, Any]:
    """Return a CycloneDX 1.6 document of this package and all that it needs, directly or not.

    Licences are those that each package states of itself; nothing is said of vulnerabilities, which a bill of
    materials does not know.
    """
    found = {each.name: each for each in _needed()}
    components = [_component(each) for _, each in sorted(found.items(), key=lambda item: item[0].lower())]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "name": _NAME,
                "version": __version__,
                "bom-ref": f"pkg:pypi/{_NAME}@{__version__}",
            }
        },
        "components": components,
    }


def _needed() -> Iterator[Distribution]:
    """Walk the requirements of this package that hold on this machine, without extras."""
    waiting, seen = [_NAME], set()
    while waiting:
        name = waiting.pop()
        if name.lower().replace("_", "-") in seen:
            continue
        seen.add(name.lower().replace("_", "-"))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if name != _NAME:
            yield found
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)


def _component(each: Distribution) -> dict[str, Any]:
    name, version = each.name.lower().replace("_", "-"), each.version
    component: dict[str, Any] = {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "bom-ref": f"pkg:pypi/{name}@{version}",
    }
    licence = _licence(each)
    if licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _first(each: Distribution, field: str) -> str:
    return next(iter(each.metadata.get_all(field) or ()), "")


def _licence(each: Distribution) -> str:
    stated = _first(each, "License-Expression")
    if stated:
        return stated
    classifiers = each.metadata.get_all("Classifier") or []
    names = [text.rsplit(" :: ", 1)[-1] for text in classifiers if text.startswith("License :: ")]
    first_line = _first(each, "License").strip().splitlines()
    return "; ".join(names) or (first_line[0][:80] if first_line else "")
