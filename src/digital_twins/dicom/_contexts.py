"""What this node accepts: SOP classes, transfer syntaxes and the negotiation of presentation contexts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from digital_twins.dicom._pdu import ContextResult

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.dicom._pdu import ProposedContext

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE}) | DEFLATED
VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_NO_DICOM_ENCODING = frozenset({"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"})
_NOT_COMPOSITE = ("Commitment", "Directory", "Management", "Query")


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context in force on an association."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str


@cache
def storage_classes() -> frozenset[str]:
    """Return the UIDs of all composite storage SOP classes in pydicom's registry, retired ones too."""
    from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # public there, not in __all__

    return frozenset(
        uid
        for uid, (name, kind, *_rest) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not any(word in name for word in _NOT_COMPOSITE)
    )


@cache
def transfer_syntaxes() -> frozenset[str]:
    """Return the UIDs of all transfer syntaxes that hold a DICOM data set."""
    from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # public there, not in __all__

    known = {uid for uid, (_name, kind, *_rest) in UID_dictionary.items() if kind == "Transfer Syntax"}
    return frozenset(known - _NO_DICOM_ENCODING)


def negotiate(
    proposed: Iterable[ProposedContext],
) -> tuple[tuple[ContextResult, ...], dict[int, AcceptedContext]]:
    """Answer each proposed context (PS3.8 section 7.1.1.14).

    Storage classes take the first proposed transfer syntax that is known, compressed or not, because the
    bytes are kept as they come; queries and Verification take the first uncompressed little-endian one.

    Returns
    -------
    tuple
        The answers in the order of the proposals, and the accepted contexts by identifier.
    """
    answers: list[ContextResult] = []
    accepted: dict[int, AcceptedContext] = {}
    for context in proposed:
        if context.abstract_syntax in storage_classes():
            allowed = transfer_syntaxes()
        elif context.abstract_syntax in {VERIFICATION, STUDY_ROOT_FIND, PATIENT_ROOT_FIND}:
            allowed = frozenset({IMPLICIT_LE, EXPLICIT_LE})
        else:
            answers.append(ContextResult(context.context_id, 3, context.transfer_syntaxes[0]))
            continue
        chosen = next((uid for uid in context.transfer_syntaxes if uid in allowed), None)
        if chosen is None:
            answers.append(ContextResult(context.context_id, 4, context.transfer_syntaxes[0]))
            continue
        answers.append(ContextResult(context.context_id, 0, chosen))
        accepted[context.context_id] = AcceptedContext(context.context_id, context.abstract_syntax, chosen)
    return tuple(answers), accepted
