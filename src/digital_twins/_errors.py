"""The one family of errors: what happened, why, and how to mend it."""

from __future__ import annotations


class DigitalTwinError(Exception):
    """Something went wrong that a person can act on.

    Parameters
    ----------
    what
        What happened, in one sentence without patient data.
    why
        The reason, in one sentence.
    fix
        What the reader can do about it.
    """

    http_status = 500

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.what} Why: {self.why} Fix: {self.fix}"

    def to_dict(self) -> dict[str, str]:
        """Return ``{"error", "what", "why", "fix"}`` for JSON output."""
        return {"error": type(self).__name__, "what": self.what, "why": self.why, "fix": self.fix}


class InputError(DigitalTwinError):
    """The caller's input cannot be used (HTTP 400, DIMSE 0xA900, CLI exit code 1)."""

    http_status = 400


class NotFoundError(DigitalTwinError):
    """What was asked for does not exist (HTTP 404)."""

    http_status = 404


class ConflictError(DigitalTwinError):
    """The request contradicts what is stored (HTTP 409)."""

    http_status = 409


class StorageError(DigitalTwinError):
    """Bytes could not be made durable: disk full, read-only, or unreachable (HTTP 507, DIMSE 0xA700)."""

    http_status = 507


class MissingExtraError(DigitalTwinError):
    """An optional dependency is needed that is not installed."""

    http_status = 501

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            what=f"The package '{package}' is not installed.",
            why="It belongs to an optional part of digital-twins that this call needs.",
            fix=f"pip install 'digital-twins[{extra}]'",
        )
