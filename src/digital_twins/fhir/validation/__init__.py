"""Validation of FHIR R4 resources against the base definitions and profiles."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir.validation._definitions import (
        DefinitionSet as DefinitionSet,
        package_resources as package_resources,
    )
    from digital_twins.fhir.validation._terminology import Terminology as Terminology
    from digital_twins.fhir.validation._validator import Validator as Validator

_ROOM = "digital_twins.fhir.validation"
_WHERE = {
    **dict.fromkeys(("DefinitionSet", "package_resources"), f"{_ROOM}._definitions"),
    "Terminology": f"{_ROOM}._terminology",
    "Validator": f"{_ROOM}._validator",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
