"""Protocol data units of the DICOM upper layer (PS3.8 section 9.3): bytes to objects and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
HEADER = Struct(">BxI")
PDV_HEADER = Struct(">IBB")
DATA_HEADER = Struct(">BxIIBB")
"""Of a P-DATA-TF, and of the first value in it."""

_ITEM = Struct(">BxH")
_U16 = Struct(">H")
_U32 = Struct(">I")
_MAX_CONTEXTS = 128
_ASSOCIATE_FIXED = 68


class PduType(IntEnum):
    """First byte of a PDU (PS3.8 table 9-11 and following)."""

    ASSOCIATE_RQ = 0x01
    ASSOCIATE_AC = 0x02
    ASSOCIATE_RJ = 0x03
    P_DATA_TF = 0x04
    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class AbortReason(IntEnum):
    """Reason of a provider A-ABORT (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class PduError(ValueError):
    """The peer sent bytes that are no valid PDU; the association must be aborted.

    Parameters
    ----------
    text
        What is wrong, for the log; never a value out of the PDU.
    reason
        The reason that the A-ABORT carries.
    """

    def __init__(self, text: str, reason: AbortReason = AbortReason.INVALID_PARAMETER) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as the requestor proposes it (PS3.8 section 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """The acceptor's answer to one presentation context (PS3.8 section 9.3.3.2).

    ``result`` is 0 acceptance, 1 user rejection, 2 no reason, 3 abstract syntax not supported,
    4 transfer syntaxes not supported.
    """

    context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class RoleSelection:
    """SCP/SCU role selection of one SOP class (PS3.7 section D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class ExtendedNegotiation:
    """Service class application information of one SOP class (PS3.7 section D.3.3.5)."""

    sop_class_uid: str
    information: bytes


@dataclass(frozen=True, slots=True)
class UserIdentity:
    """User identity negotiation (PS3.7 section D.3.3.7): type 1 name, 2 name and passcode, 3-5 tokens."""

    kind: int
    response_requested: bool
    primary: bytes = field(repr=False)
    secondary: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ (PS3.8 section 9.3.2)."""

    called_ae: str
    calling_ae: str
    contexts: tuple[ProposedContext, ...]
    max_pdu_bytes: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    roles: tuple[RoleSelection, ...] = ()
    identity: UserIdentity | None = None
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1
    extended: tuple[ExtendedNegotiation, ...] = ()


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC (PS3.8 section 9.3.3); ``identity_response`` is None when none is sent."""

    called_ae: str
    calling_ae: str
    contexts: tuple[ContextResult, ...]
    max_pdu_bytes: int
    implementation_class_uid: str
    implementation_version: str = ""
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[ExtendedNegotiation, ...] = ()
    identity_response: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int

    @property
    def text(self) -> str:
        """The reason in words."""
        return _REJECTIONS.get((self.source, self.reason), f"source {self.source}, reason {self.reason}")


_REJECTIONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def _ae(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")


def _uid(raw: bytes | memoryview) -> str:
    try:
        return bytes(raw).decode("ascii").strip(" \0")
    except UnicodeDecodeError:
        raise PduError("a UID is not ASCII") from None


def _items(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Walk items of one-byte type, reserved byte, two-byte length."""
    position, end = 0, len(data)
    while position < end:
        if end - position < _ITEM.size:
            raise PduError("an item is cut off")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if length > end - position:
            raise PduError("an item is longer than its PDU")
        yield kind, data[position : position + length]
        position += length


def _proposed_context(data: memoryview) -> ProposedContext:
    if len(data) < 4:
        raise PduError("a presentation context is cut off")
    abstract, transfers = "", []
    for kind, value in _items(data[4:]):
        if kind == 0x30:
            abstract = _uid(value)
        elif kind == 0x40:
            transfers.append(_uid(value))
    if data[0] % 2 == 0 or not abstract or not transfers:
        raise PduError("a presentation context lacks an odd identifier, an abstract or a transfer syntax")
    return ProposedContext(data[0], abstract, tuple(transfers))


def _context_result(data: memoryview) -> ContextResult:
    if len(data) < 4:
        raise PduError("a presentation context is cut off")
    transfer = next((_uid(value) for kind, value in _items(data[4:]) if kind == 0x40), "")
    return ContextResult(data[0], data[2], transfer)


def _role(data: memoryview) -> RoleSelection:
    length = _U16.unpack_from(data)[0] if len(data) >= 4 else -1
    if length < 0 or len(data) < length + 4:
        raise PduError("a role selection is cut off")
    return RoleSelection(_uid(data[2 : 2 + length]), data[2 + length] == 1, data[3 + length] == 1)


def _identity(data: memoryview) -> UserIdentity:
    first = _U16.unpack_from(data, 2)[0] if len(data) >= 6 else -1
    if first < 0 or len(data) < first + 6:
        raise PduError("a user identity is cut off")
    second = _U16.unpack_from(data, 4 + first)[0]
    if len(data) < first + second + 6:
        raise PduError("a user identity is cut off")
    start = 6 + first
    return UserIdentity(
        data[0], data[1] == 1, bytes(data[4 : 4 + first]), bytes(data[start : start + second])
    )


def _extended(data: memoryview) -> ExtendedNegotiation:
    length = _U16.unpack_from(data)[0] if len(data) >= 2 else -1
    if length < 0 or len(data) < length + 2:
        raise PduError("an extended negotiation is cut off")
    return ExtendedNegotiation(_uid(data[2 : 2 + length]), bytes(data[2 + length :]))


def _identity_response(data: memoryview) -> bytes:
    length = _U16.unpack_from(data)[0] if len(data) >= 2 else -1
    if length < 0 or len(data) < length + 2:
        raise PduError("the answer to a user identity is cut off")
    return bytes(data[2 : 2 + length])


@dataclass(slots=True)
class _UserInformation:
    max_pdu_bytes: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    roles: list[RoleSelection] = field(default_factory=list)
    extended: list[ExtendedNegotiation] = field(default_factory=list)
    identity: UserIdentity | None = None
    identity_response: bytes | None = None


def _user_information(data: memoryview) -> _UserInformation:
    found = _UserInformation()
    for kind, value in _items(data):
        if kind == 0x51:
            if len(value) != 4:
                raise PduError("the maximum length item has a wrong size")
            found.max_pdu_bytes = _U32.unpack(value)[0]
        elif kind == 0x52:
            found.implementation_class_uid = _uid(value)
        elif kind == 0x54:
            found.roles.append(_role(value))
        elif kind == 0x55:
            found.implementation_version = _ae(bytes(value))
        elif kind == 0x56:
            found.extended.append(_extended(value))
        elif kind == 0x58:
            found.identity = _identity(value)
        elif kind == 0x59:
            found.identity_response = _identity_response(value)
    return found


def decode_associate(body: bytes | memoryview) -> AssociateRequest:
    """Read the body (after the 6 header bytes) of an A-ASSOCIATE-RQ.

    Raises
    ------
    PduError
        When the bytes break PS3.8 section 9.3.2.
    """
    data = memoryview(body)
    if len(data) < _ASSOCIATE_FIXED:
        raise PduError("the association request is too short")
    contexts: list[ProposedContext] = []
    user, application = _UserInformation(), ""
    for kind, value in _items(data[_ASSOCIATE_FIXED:]):
        if kind == 0x10:
            application = _uid(value)
        elif kind == 0x20:
            contexts.append(_proposed_context(value))
        elif kind == 0x50:
            user = _user_information(value)
    if len(contexts) > _MAX_CONTEXTS or len({c.context_id for c in contexts}) != len(contexts):
        raise PduError("presentation contexts are too many or share an identifier")
    return AssociateRequest(
        called_ae=_ae(bytes(data[4:20])),
        calling_ae=_ae(bytes(data[20:36])),
        contexts=tuple(contexts),
        max_pdu_bytes=user.max_pdu_bytes,
        implementation_class_uid=user.implementation_class_uid,
        implementation_version=user.implementation_version,
        roles=tuple(user.roles),
        extended=tuple(user.extended),
        identity=user.identity,
        application_context=application,
        protocol_version=_U16.unpack_from(data)[0],
    )


def decode_accept(body: bytes | memoryview) -> AssociateAccept:
    """Read the body of an A-ASSOCIATE-AC; raises `PduError` as `decode_associate` does."""
    data = memoryview(body)
    if len(data) < _ASSOCIATE_FIXED:
        raise PduError("the association answer is too short")
    contexts: list[ContextResult] = []
    user = _UserInformation()
    for kind, value in _items(data[_ASSOCIATE_FIXED:]):
        if kind == 0x21:
            contexts.append(_context_result(value))
        elif kind == 0x50:
            user = _user_information(value)
    return AssociateAccept(
        called_ae=_ae(bytes(data[4:20])),
        calling_ae=_ae(bytes(data[20:36])),
        contexts=tuple(contexts),
        max_pdu_bytes=user.max_pdu_bytes,
        implementation_class_uid=user.implementation_class_uid,
        implementation_version=user.implementation_version,
        roles=tuple(user.roles),
        extended=tuple(user.extended),
        identity_response=user.identity_response,
    )


def decode_reject(body: bytes | memoryview) -> Rejection:
    """Read the body of an A-ASSOCIATE-RJ; raises `PduError` when it is too short."""
    if len(body) < 4:
        raise PduError("the association rejection is too short")
    return Rejection(body[1], body[2], body[3])


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _encode_associate(kind: PduType, pdu: AssociateRequest | AssociateAccept, contexts: bytes) -> bytes:
    user = _item(0x51, _U32.pack(pdu.max_pdu_bytes)) + _item(0x52, pdu.implementation_class_uid.encode())
    for role in pdu.roles:
        uid = role.sop_class_uid.encode()
        user += _item(0x54, _U16.pack(len(uid)) + uid + bytes((role.scu, role.scp)))
    if pdu.implementation_version:
        user += _item(0x55, pdu.implementation_version.encode())
    for each in pdu.extended:
        uid = each.sop_class_uid.encode()
        user += _item(0x56, _U16.pack(len(uid)) + uid + each.information)
    user += _encode_identity(pdu)
    names = pdu.called_ae.encode().ljust(16)[:16] + pdu.calling_ae.encode().ljust(16)[:16]
    body = _U16.pack(1) + b"\0\0" + names + bytes(32)
    body += _item(0x10, APPLICATION_CONTEXT.encode()) + contexts + _item(0x50, user)
    return HEADER.pack(kind, len(body)) + body


def _encode_identity(pdu: AssociateRequest | AssociateAccept) -> bytes:
    if isinstance(pdu, AssociateAccept):
        answer = pdu.identity_response
        return b"" if answer is None else _item(0x59, _U16.pack(len(answer)) + answer)
    identity = pdu.identity
    if identity is None:
        return b""
    first = _U16.pack(len(identity.primary)) + identity.primary
    second = _U16.pack(len(identity.secondary)) + identity.secondary
    return _item(0x58, bytes((identity.kind, identity.response_requested)) + first + second)


def encode_associate(pdu: AssociateRequest) -> bytes:
    """Write an A-ASSOCIATE-RQ."""
    contexts = b"".join(
        _item(
            0x20,
            bytes((c.context_id, 0, 0, 0))
            + _item(0x30, c.abstract_syntax.encode())
            + b"".join(_item(0x40, t.encode()) for t in c.transfer_syntaxes),
        )
        for c in pdu.contexts
    )
    return _encode_associate(PduType.ASSOCIATE_RQ, pdu, contexts)


def encode_accept(pdu: AssociateAccept) -> bytes:
    """Write an A-ASSOCIATE-AC."""
    contexts = b"".join(
        _item(0x21, bytes((c.context_id, 0, c.result, 0)) + _item(0x40, c.transfer_syntax.encode()))
        for c in pdu.contexts
    )
    return _encode_associate(PduType.ASSOCIATE_AC, pdu, contexts)


def encode_reject(result: int, source: int, reason: int) -> bytes:
    """Write an A-ASSOCIATE-RJ; the three numbers are those of PS3.8 table 9-21."""
    return HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, result, source, reason))


def encode_release_request() -> bytes:
    """Write an A-RELEASE-RQ."""
    return HEADER.pack(PduType.RELEASE_RQ, 4) + bytes(4)


def encode_release_reply() -> bytes:
    """Write an A-RELEASE-RP."""
    return HEADER.pack(PduType.RELEASE_RP, 4) + bytes(4)


def encode_abort(source: int, reason: int) -> bytes:
    """Write an A-ABORT; source 0 is the service user, 2 the provider (PS3.8 table 9-26)."""
    return HEADER.pack(PduType.ABORT, 4) + bytes((0, 0, source, reason))


def pdvs(body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield ``(context_id, control, fragment)`` of a P-DATA-TF body (PS3.8 section 9.3.5).

    Bit 0 of ``control`` marks a command, bit 1 the last fragment. Raises `PduError`.
    """
    position, end = 0, len(body)
    if end < PDV_HEADER.size:
        raise PduError("a data PDU holds no value")
    while position < end:
        if end - position < PDV_HEADER.size:
            raise PduError("a data value is cut off")
        length, context_id, control = PDV_HEADER.unpack_from(body, position)
        stop = position + 4 + length
        if length < 2 or stop > end:
            raise PduError("a data value is longer than its PDU")
        yield context_id, control, body[position + 6 : stop]
        position = stop


def encode_data(
    context_id: int, payload: bytes | memoryview, *, command: bool, max_pdu_bytes: int
) -> Iterator[bytes]:
    """Yield P-DATA-TF PDUs of at most ``max_pdu_bytes`` (0: as large as 1 MiB) that carry ``payload``."""
    room = (max_pdu_bytes or 2**20) - PDV_HEADER.size
    if room < 1:
        raise PduError("the peer's maximum PDU length leaves no room for data")
    view = memoryview(payload)
    for start in range(0, max(len(payload), 1), room):
        part = view[start : start + room]
        control = int(command) | (2 if start + room >= len(payload) else 0)
        yield (
            HEADER.pack(PduType.P_DATA_TF, len(part) + 6)
            + PDV_HEADER.pack(len(part) + 2, context_id, control)
            + part
        )
