"""FHIRPath (HL7 FHIRPath N1 with the functions that FHIR R4 adds), a library by itself."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.fhir.fhirpath._errors import FhirPathError as FhirPathError
    from digital_twins.fhir.fhirpath._evaluate import (
        Expression as Expression,
        compile_expression as compile_expression,
        evaluate as evaluate,
    )
    from digital_twins.fhir.fhirpath._quantity import Quantity as Quantity
    from digital_twins.fhir.fhirpath._scope import Environment as Environment
    from digital_twins.fhir.fhirpath._temporal import Temporal as Temporal
    from digital_twins.fhir.fhirpath._values import Node as Node

_ROOM = "digital_twins.fhir.fhirpath"
_WHERE = {
    "FhirPathError": f"{_ROOM}._errors",
    **dict.fromkeys(("Expression", "compile_expression", "evaluate"), f"{_ROOM}._evaluate"),
    "Environment": f"{_ROOM}._scope",
    "Node": f"{_ROOM}._values",
    "Quantity": f"{_ROOM}._quantity",
    "Temporal": f"{_ROOM}._temporal",
}

__getattr__, __dir__ = exports(__name__, _WHERE)
