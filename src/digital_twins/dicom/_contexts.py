"""What this node accepts: SOP classes, transfer syntaxes and the negotiation of presentation contexts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from digital_twins.dicom._pdu import ContextResult, ExtendedNegotiation, RoleSelection
from digital_twins.dicom._peers import Service

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.dicom._pdu import ProposedContext
    from digital_twins.dicom._peers import DicomPeer

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
DEFLATED = frozenset({DEFLATED_LE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Deflated data sets; those of JPIP (.95, .205) refer to pixels that lie with a provider."""
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE})
VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
COMMITMENT = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
AVAILABILITY = "1.2.840.10008.5.1.4.33"
SERVICES = {
    VERIFICATION: Service.ECHO,
    PATIENT_ROOT_FIND: Service.FIND,
    STUDY_ROOT_FIND: Service.FIND,
    PATIENT_ROOT_MOVE: Service.MOVE,
    STUDY_ROOT_MOVE: Service.MOVE,
    PATIENT_ROOT_GET: Service.GET,
    STUDY_ROOT_GET: Service.GET,
    WORKLIST_FIND: Service.WORKLIST,
    MPPS: Service.MPPS,
    COMMITMENT: Service.COMMITMENT,
    AVAILABILITY: Service.AVAILABILITY,
}
"""SOP classes other than storage that this node serves, and the word that allows each to a peer."""

PATIENT_ROOTS = frozenset({PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET})
UNCOMPRESSED = frozenset({IMPLICIT_LE, EXPLICIT_LE})
_QUERIES = frozenset({PATIENT_ROOT_FIND, STUDY_ROOT_FIND})
_RETRIEVALS = frozenset({PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE, PATIENT_ROOT_GET, STUDY_ROOT_GET})
_NO_DICOM_ENCODING = frozenset({"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"})
_NOT_COMPOSITE = ("Commitment", "Directory", "Management", "Query")


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """A presentation context in force on an association.

    Attributes
    ----------
    may_request
        Whether this end may send requests of the SOP class: its requestor as SCU, its acceptor when the role
        selection made it one (PS3.7 section D.3.3.4).
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    may_request: bool = False


@cache
def storage_classes() -> frozenset[str]:
    """Return the UIDs of all composite storage SOP classes in pydicom's registry, retired ones too."""
    from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # public there, not in __all__

    return frozenset(
        uid
        for uid, (name, kind, *_rest) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not any(word in name for word in _NOT_COMPOSITE)
    )


_STORAGE_ARC = "1.2.840.10008.5.1.4.1.1."


@lru_cache(maxsize=1024)
def is_storage(uid: str) -> bool:
    """Whether a SOP class is a composite storage class, one that is newer than pydicom's registry too."""
    from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # public there, not in __all__

    return uid in storage_classes() or (uid.startswith(_STORAGE_ARC) and uid not in UID_dictionary)


@cache
def transfer_syntaxes() -> frozenset[str]:
    """Return the UIDs of all transfer syntaxes that hold a DICOM data set."""
    from pydicom.uid import UID_dictionary  # type: ignore[attr-defined]  # public there, not in __all__

    known = {uid for uid, (_name, kind, *_rest) in UID_dictionary.items() if kind == "Transfer Syntax"}
    return frozenset(known - _NO_DICOM_ENCODING)


def service_of(abstract_syntax: str) -> Service | None:
    """Return the service that a SOP class belongs to, or None when this node does not serve it."""
    if is_storage(abstract_syntax):
        return Service.STORE
    return SERVICES.get(abstract_syntax)


def negotiate(
    proposed: Iterable[ProposedContext],
    roles: Iterable[RoleSelection] = (),
    *,
    rule: DicomPeer | None = None,
) -> tuple[tuple[ContextResult, ...], dict[int, AcceptedContext]]:
    """Answer each proposed context (PS3.8 section 7.1.1.14).

    Storage classes take the first proposed transfer syntax that is known, compressed or not, because the
    bytes are kept as they come; everything else takes the first uncompressed little-endian one. A class
    whose service the peer may not use is a user rejection; storage is also open to a peer that may C-GET,
    which stores nothing here.

    Returns
    -------
    tuple
        The answers in the order of the proposals, and the accepted contexts by identifier.
    """
    answers: list[ContextResult] = []
    accepted: dict[int, AcceptedContext] = {}
    peer_serves = {role.sop_class_uid for role in roles if role.scp}
    for context in proposed:
        abstract, first = context.abstract_syntax, context.transfer_syntaxes[0]
        service = service_of(abstract)
        if service is None:
            answers.append(ContextResult(context.context_id, 3, first))
            continue
        if rule is not None and not _allowed(service, rule, serves=abstract in peer_serves):
            answers.append(ContextResult(context.context_id, 1, first))
            continue
        syntaxes = transfer_syntaxes() if service is Service.STORE else UNCOMPRESSED
        chosen = next((uid for uid in context.transfer_syntaxes if uid in syntaxes), None)
        if chosen is None:
            answers.append(ContextResult(context.context_id, 4, first))
            continue
        answers.append(ContextResult(context.context_id, 0, chosen))
        accepted[context.context_id] = AcceptedContext(
            context.context_id, abstract, chosen, may_request=abstract in peer_serves
        )
    return tuple(answers), accepted


def _allowed(service: Service, rule: DicomPeer, *, serves: bool) -> bool:
    return service in rule.services or (service is Service.STORE and serves and Service.GET in rule.services)


def negotiate_roles(roles: Iterable[RoleSelection]) -> tuple[RoleSelection, ...]:
    """Agree to every proposed role of a class that this node knows in both roles."""
    return tuple(
        RoleSelection(role.sop_class_uid, scu=role.scu, scp=role.scp)
        for role in roles
        if service_of(role.sop_class_uid) in {Service.STORE, Service.COMMITMENT}
    )


def negotiate_extended(items: Iterable[ExtendedNegotiation]) -> tuple[ExtendedNegotiation, ...]:
    """Answer the extended negotiation of queries and retrievals (PS3.4 sections C.5.1.1 and C.5.2.1).

    Relational queries, combined date-time matching and fuzzy names are agreed to where asked for; time zone
    adjustment is not.
    """
    answers = []
    for item in items:
        asked = item.information
        if item.sop_class_uid in _QUERIES:
            agreed = bytes(int(position in {0, 1, 2} and byte == 1) for position, byte in enumerate(asked))
        elif item.sop_class_uid in _RETRIEVALS:
            agreed = bytes(int(position == 0 and byte == 1) for position, byte in enumerate(asked))
        else:
            continue
        answers.append(ExtendedNegotiation(item.sop_class_uid, agreed))
    return tuple(answers)
