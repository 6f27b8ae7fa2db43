"""What an HL7 v2 message can do wrong, with the code that the answer carries."""

from __future__ import annotations

from digital_twins._errors import InputError


class HL7Error(InputError):
    """An HL7 v2 message, or an answer to one, cannot be used; the text never holds what a field holds.

    Parameters
    ----------
    what, why, fix
        As for `DigitalTwinError`.
    code
        HL7 table 0357 for ERR-3: 100 segment sequence, 101 required field missing, 102 data type,
        103 table value, 200 message type, 201 event, 203 version, 207 internal error.
    location
        Place for ERR-2, e.g. ``"PID^1^3"`` (segment, its number among its like, field); empty when unknown.
    """

    def __init__(self, what: str, why: str, fix: str, *, code: str = "100", location: str = "") -> None:
        super().__init__(what, why, fix)
        self.code = code
        self.location = location


def malformed(why: str, fix: str = "Send HL7 v2 in the ER7 form (HL7 v2.5.1 section 2.6).") -> HL7Error:
    """Return the error of a message that has not the form of one."""
    return HL7Error("The HL7 v2 message cannot be read.", why, fix)


def missing(segment: str, field: int, meaning: str, *, number: int = 1) -> HL7Error:
    """Return the error of a field that the mapping needs."""
    return HL7Error(
        "The HL7 v2 message cannot be used.",
        f"{segment}-{field} ({meaning}) is empty or the segment is missing.",
        f"Send {segment}-{field}.",
        code="101",
        location=f"{segment}^{number}^{field}",
    )


def wrong(segment: str, field: int, why: str, *, code: str = "102") -> HL7Error:
    """Return the error of a field whose value cannot be used."""
    return HL7Error(
        "The HL7 v2 message cannot be used.",
        f"{segment}-{field} {why}.",
        f"Correct {segment}-{field}.",
        code=code,
        location=f"{segment}^1^{field}",
    )
