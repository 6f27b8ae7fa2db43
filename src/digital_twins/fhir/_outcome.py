"""OperationOutcome: how FHIR says what went wrong, and the one error class behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding: ``code`` of issue-type, ``location`` as a FHIRPath such as ``Patient.name[0]``."""

    code: str
    text: str
    location: str | None = None
    severity: str = "error"

    def to_dict(self) -> dict[str, Any]:
        """Return ``OperationOutcome.issue``."""
        found: dict[str, Any] = {"severity": self.severity, "code": self.code, "diagnostics": self.text}
        if self.location:
            found["expression"] = [self.location]
        return found


def outcome(issues: Sequence[Issue]) -> dict[str, Any]:
    """Return an OperationOutcome resource (FHIR R4) of the issues."""
    return {"resourceType": "OperationOutcome", "issue": [issue.to_dict() for issue in issues]}


class FhirError(DigitalTwinError):
    """A request that FHIR answers with an OperationOutcome.

    Parameters
    ----------
    status
        HTTP status, e.g. 404, 409, 410, 412, 422.
    issues
        What is wrong and where; never with patient data.
    fix
        What the caller can do.
    """

    def __init__(self, status: int, issues: Sequence[Issue], *, fix: str = "Correct the request.") -> None:
        self.http_status = status
        self.issues = tuple(issues)
        why = " ".join(i.text + (f" (at {i.location})" if i.location else "") for i in self.issues[:5])
        super().__init__(f"The FHIR request was refused with status {status}.", why, fix)

    def to_outcome(self) -> dict[str, Any]:
        """Return the OperationOutcome to send."""
        return outcome(self.issues)


def bad_request(
    text: str, *, location: str | None = None, code: str = "invalid", status: int = 400
) -> FhirError:
    """Return the error for a request that cannot be understood."""
    return FhirError(status, [Issue(code, text, location)])


def not_found(kind: str) -> FhirError:
    """Return the error for a resource that never existed."""
    return FhirError(
        404, [Issue("not-found", f"No {kind} with this id is known.")], fix="Search for it first."
    )


def gone(kind: str) -> FhirError:
    """Return the error for a deleted resource; its history is still there."""
    return FhirError(410, [Issue("deleted", f"This {kind} was deleted.")], fix="Read its history instead.")


def outcome_of(error: DigitalTwinError) -> dict[str, Any]:
    """Return the OperationOutcome of any error of this software."""
    if isinstance(error, FhirError):
        return error.to_outcome()
    codes = {404: "not-found", 409: "conflict", 507: "no-store"}
    code = codes.get(error.http_status, "invalid" if error.http_status < 500 else "exception")
    return outcome([Issue(code, f"{error.what} {error.why} {error.fix}")])
