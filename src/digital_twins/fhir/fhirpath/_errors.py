"""What is wrong with an expression, or with its use."""

from __future__ import annotations

from digital_twins._errors import InputError


class FhirPathError(InputError):
    """An expression that cannot be read or evaluated (FHIRPath N1)."""

    def __init__(self, why: str, fix: str = "Correct the expression.") -> None:
        super().__init__("The FHIRPath expression cannot be evaluated.", why, fix)
