"""Validation of FHIR R4 resources against the base definitions and profiles."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir.validation._definitions import (
        DefinitionSet as DefinitionSet,
        package_resources as package_resources,
    )
    from digital_twins.fhir.validation._packages import (
        PACKAGES_FOLDER as PACKAGES_FOLDER,
        FhirPackage as FhirPackage,
        add_package as add_package,
        packages_in as packages_in,
        read_package as read_package,
    )
    from digital_twins.fhir.validation._service import ResourceValidation as ResourceValidation
    from digital_twins.fhir.validation._terminology import Terminology as Terminology
    from digital_twins.fhir.validation._validator import Validator as Validator

_ROOM = "digital_twins.fhir.validation"
_WHERE = {
    **dict.fromkeys(("DefinitionSet", "package_resources"), f"{_ROOM}._definitions"),
    **dict.fromkeys(
        ("PACKAGES_FOLDER", "FhirPackage", "add_package", "packages_in", "read_package"), f"{_ROOM}._packages"
    ),
    "ResourceValidation": f"{_ROOM}._service",
    "Terminology": f"{_ROOM}._terminology",
    "Validator": f"{_ROOM}._validator",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
