"""DIMSE command sets (PS3.7 chapter 9 and annex E): Implicit VR Little Endian, group 0000 only."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct, error
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ELEMENT = Struct("<HHI")
_US = Struct("<H")
_NUMBER = Struct("<HHIH")
_UL = Struct("<I")
NO_DATASET = 0x0101
MAX_COMMAND_BYTES = 65536
_MAX_COMMENT = 64

Value = int | str
Command = dict[int, Value]


class Tag(IntEnum):
    """Element numbers of group 0000 (PS3.7 table E.1-1)."""

    AFFECTED_SOP_CLASS = 0x0002
    REQUESTED_SOP_CLASS = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    RESPONDED_MESSAGE_ID = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    DATASET_TYPE = 0x0800
    STATUS = 0x0900
    OFFENDING_ELEMENT = 0x0901
    ERROR_COMMENT = 0x0902
    ERROR_ID = 0x0903
    AFFECTED_SOP_INSTANCE = 0x1000
    REQUESTED_SOP_INSTANCE = 0x1001
    EVENT_TYPE_ID = 0x1002
    ACTION_TYPE_ID = 0x1008
    REMAINING = 0x1020
    COMPLETED = 0x1021
    FAILED = 0x1022
    WARNING = 0x1023
    MOVE_ORIGINATOR_AE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


class CommandField(IntEnum):
    """The services of PS3.7 table E.1-1; a response sets bit 15."""

    C_STORE_RQ = 0x0001
    C_GET_RQ = 0x0010
    C_FIND_RQ = 0x0020
    C_MOVE_RQ = 0x0021
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    N_GET_RQ = 0x0110
    N_SET_RQ = 0x0120
    N_ACTION_RQ = 0x0130
    N_CREATE_RQ = 0x0140
    N_DELETE_RQ = 0x0150
    C_CANCEL_RQ = 0x0FFF


class Status(IntEnum):
    """The statuses that this node answers with (PS3.4 annexes B and C, PS3.7 annex C)."""

    SUCCESS = 0x0000
    PENDING = 0xFF00
    PENDING_OPTIONAL_KEYS = 0xFF01
    CANCELLED = 0xFE00
    OUT_OF_RESOURCES = 0xA700
    DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    UNABLE_TO_COUNT = 0xA701
    UNABLE_TO_PERFORM = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    SUBOPERATIONS_WARNING = 0xB000
    INVALID_ATTRIBUTE_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_INSTANCE = 0x0111
    NO_SUCH_INSTANCE = 0x0112
    NO_SUCH_EVENT = 0x0113
    MISSING_ATTRIBUTE = 0x0120
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    NOT_AUTHORISED = 0x0124
    UNRECOGNIZED_OPERATION = 0x0211


class DimseError(ValueError):
    """The bytes are no DIMSE command set; the association must be aborted."""


_US_TAGS = frozenset(
    {0x0100, 0x0110, 0x0120, 0x0700, 0x0800, 0x0900, 0x0903, 0x1002, 0x1008, 0x1020, 0x1021, 0x1022, 0x1023}
    | {0x1031}
)
_NOT_READ = frozenset({0, int(Tag.OFFENDING_ELEMENT)})
_UI_TAGS = frozenset({0x0002, 0x0003, 0x1000, 0x1001})
_TAKEN_OVER = (
    (Tag.AFFECTED_SOP_CLASS, Tag.AFFECTED_SOP_CLASS),
    (Tag.AFFECTED_SOP_INSTANCE, Tag.AFFECTED_SOP_INSTANCE),
    (Tag.REQUESTED_SOP_CLASS, Tag.AFFECTED_SOP_CLASS),
    (Tag.REQUESTED_SOP_INSTANCE, Tag.AFFECTED_SOP_INSTANCE),
    (Tag.EVENT_TYPE_ID, Tag.EVENT_TYPE_ID),
    (Tag.ACTION_TYPE_ID, Tag.ACTION_TYPE_ID),
)
"""Elements of a request and where its response repeats them."""
_PENDING = frozenset({Status.PENDING, Status.PENDING_OPTIONAL_KEYS})
RESPONSE = 0x8000
_REQUIRED = (Tag.COMMAND_FIELD, Tag.DATASET_TYPE)


def decode_command(data: bytes | bytearray | memoryview) -> Command:
    """Read a command set; elements without a meaning here are skipped.

    Raises
    ------
    DimseError
        Cut off, of another group, without command field or data set type, or a number of wrong size.
    """
    command: Command = {}
    data = bytes(data)
    position, end = 0, len(data)
    try:
        while position < end:
            group, element, length = _ELEMENT.unpack_from(data, position)
            position += _ELEMENT.size
            if group != 0 or length > end - position:
                raise DimseError("a command element is foreign or cut off")
            value = data[position : position + length]
            position += length
            if element in _US_TAGS:
                command[element] = _US.unpack(value)[0]
            elif element not in _NOT_READ:
                command[element] = value.decode("ascii", "replace").strip(" \0")
    except error:
        raise DimseError("a command element is cut off") from None
    if any(tag not in command for tag in _REQUIRED):
        raise DimseError("the command field or the data set type is missing")
    return command


def encode_command(command: Mapping[int, Value]) -> bytes:
    """Write a command set with its group length; text is cut to what its element may hold."""
    body = bytearray()
    for element in sorted(command):
        value = command[element]
        if isinstance(value, int):
            body += _NUMBER.pack(0, element, 2, value)
            continue
        raw = value.encode("ascii", "replace")
        if element == Tag.ERROR_COMMENT:
            raw = raw[:_MAX_COMMENT]
        if len(raw) % 2:
            raw += b"\0" if element in _UI_TAGS else b" "
        body += _ELEMENT.pack(0, element, len(raw)) + raw
    return _ELEMENT.pack(0, 0, 4) + _UL.pack(len(body)) + bytes(body)


def is_pending(command: Mapping[int, Value]) -> bool:
    """Whether further responses follow this one."""
    return command.get(Tag.STATUS) in _PENDING


def request(field: CommandField, sop_class_uid: str, *, dataset: bool) -> Command:
    """Return a request of a C service or N-EVENT-REPORT and N-CREATE, without its message id."""
    return {
        Tag.AFFECTED_SOP_CLASS: sop_class_uid,
        Tag.COMMAND_FIELD: field,
        Tag.DATASET_TYPE: 0x0001 if dataset else NO_DATASET,
    }


def response(
    request: Mapping[int, Value], status: int, *, comment: str = "", dataset: bool = False
) -> Command:
    """Return the response command that belongs to ``request``."""
    field = request[Tag.COMMAND_FIELD]
    answer: Command = {
        Tag.COMMAND_FIELD: int(field) | RESPONSE,
        Tag.RESPONDED_MESSAGE_ID: request.get(Tag.MESSAGE_ID, 0),
        Tag.DATASET_TYPE: 0x0001 if dataset else NO_DATASET,
        Tag.STATUS: status,
    }
    for asked, answered in _TAKEN_OVER:
        if asked in request:
            answer[answered] = request[asked]
    if comment:
        answer[Tag.ERROR_COMMENT] = comment
    return answer
