"""DIMSE as a client (SCU): echo, send, find, move, get and worklist, over our own association layer."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.dicom._contexts import (
    EXPLICIT_LE,
    IMPLICIT_LE,
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    UNCOMPRESSED,
    VERIFICATION,
    WORKLIST_FIND,
)
from digital_twins.dicom._dimse import CommandField, Status, Tag, is_pending, request, response
from digital_twins.dicom._identifier import read_dataset, write_dataset
from digital_twins.dicom._part10 import file_header, split_file
from digital_twins.dicom._pdu import ExtendedNegotiation, RoleSelection
from digital_twins.dicom._requestor import (
    MAX_CONTEXTS,
    DimseFailedError,
    Proposal,
    Remote,
    associate,
    run_blocking,
)
from digital_twins.dicom._sending import context_for, proposals
from digital_twins.dicom._transcode import transcode
from digital_twins.dicom._walk import LayoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from pydicom.dataset import Dataset

    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._requestor import Requestor
    from digital_twins.dicom._setup import Peer

_STORED_WITH_WARNING = 0xB000
_COMPRESSED = (
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.57",  # JPEG lossless, any selection value
    "1.2.840.10008.1.2.4.201",  # high-throughput JPEG 2000 lossless
    "1.2.840.10008.1.2.4.203",  # high-throughput JPEG 2000
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC
    "1.2.840.10008.1.2.4.107",  # HEVC
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.2",  # big endian
)
_BOTH = (EXPLICIT_LE, IMPLICIT_LE)
_MODELS = {
    "study": (STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET),
    "patient": (PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET),
}
_GET_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.130",
    "1.2.840.10008.5.1.4.1.1.20",  # NM
    "1.2.840.10008.5.1.4.1.1.1",  # CR
    "1.2.840.10008.5.1.4.1.1.1.1",  # DX
    "1.2.840.10008.5.1.4.1.1.1.2",  # MG
    "1.2.840.10008.5.1.4.1.1.13.1.3",  # breast tomosynthesis
    "1.2.840.10008.5.1.4.1.1.12.1",  # XA
    "1.2.840.10008.5.1.4.1.1.6.1",  # US
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.66.4",  # SEG
    "1.2.840.10008.5.1.4.1.1.66.7",  # label map SEG
    "1.2.840.10008.5.1.4.1.1.66.1",  # registration
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.481.2",  # RT dose
    "1.2.840.10008.5.1.4.1.1.481.3",  # RT structure set
    "1.2.840.10008.5.1.4.1.1.481.5",  # RT plan
    "1.2.840.10008.5.1.4.1.1.88.11",  # SR
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.59",  # key object selection
    "1.2.840.10008.5.1.4.1.1.104.1",  # encapsulated PDF
    "1.2.840.10008.5.1.4.1.1.11.1",  # presentation state
)
"""What `get` proposes when the caller does not know the classes: an association holds 128 contexts."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a C-MOVE or C-GET did: numbers of sub-operations, and the final status.

    Attributes
    ----------
    status
        0 all, 0xB000 some, 0xFE00 cancelled.
    failed_uids
        SOP Instance UIDs that the peer could not send.
    """

    completed: int
    failed: int
    warning: int
    status: int
    failed_uids: tuple[str, ...] = ()


def echo(remote: Remote) -> None:
    """C-ECHO: return when the peer answers success.

    Raises
    ------
    DimseFailedError
        No connection, rejected, or another status.
    """
    run_blocking(_echo(remote))


async def _echo(remote: Remote) -> None:
    async with associate(remote, Proposal([(VERIFICATION, _BOTH)])) as association:
        context = next(iter(association.contexts.values()))
        command = request(CommandField.C_ECHO_RQ, VERIFICATION, dataset=False)
        async for answer, _dataset in association.call(context, command):
            check(answer, remote, "C-ECHO")


def send(
    remote: Remote,
    objects: Iterable[Dataset | str | Path],
    *,
    on_stored: Callable[[str], None] | None = None,
) -> int:
    """C-STORE data sets or DICOM files; return how many were accepted.

    Each goes in its own transfer syntax, byte for byte; where the peer does not accept that and it can be
    done without loss, uncompressed. ``on_stored`` is called with the SOP Instance UID of each data set (the
    path of each file) once the peer has acknowledged it. The first refusal ends it, so that a count equal to
    the objects given means that all are stored.

    Raises
    ------
    DimseFailedError
        No connection, rejected, a presentation context not accepted, or a refusal (its status and comment
        are in the message).
    InputError
        Nothing to send, more than 128 kinds of objects, or a file that is not DICOM.
    """
    items = list(objects)
    kinds = sorted({_kind(item) for item in items})
    contexts = proposals(kinds)
    if len(contexts) > MAX_CONTEXTS:
        contexts = [(sop_class, (syntax,)) for sop_class, syntax in kinds]
    if not 0 < len(contexts) <= MAX_CONTEXTS:
        raise InputError(
            "The objects cannot be sent.",
            f"There are {len(kinds)} pairs of SOP class and transfer syntax.",
            "Send between 1 and 128 pairs in one call.",
        )
    run_blocking(_send(remote, items, contexts, on_stored))
    return len(items)


async def _send(
    remote: Remote,
    items: list[Dataset | str | Path],
    contexts: list[tuple[str, tuple[str, ...]]],
    on_stored: Callable[[str], None] | None,
) -> None:
    async with associate(remote, Proposal(contexts)) as association:
        for item in items:
            sop_class, sop_uid, syntax, dataset = _encoded(item)
            context = context_for(association, sop_class, syntax)
            if context is None:
                raise DimseFailedError(
                    f"{remote.called_ae} does not accept one of the objects.",
                    "It refused the presentation context of its SOP class and transfer syntax.",
                    "Convert the objects to a transfer syntax that the peer supports.",
                )
            if context.transfer_syntax != syntax:
                dataset = _transcoded(item, context.transfer_syntax)
            command = request(CommandField.C_STORE_RQ, sop_class, dataset=True)
            command |= {Tag.AFFECTED_SOP_INSTANCE: sop_uid, Tag.PRIORITY: 0}
            async for answer, _none in association.call(context, command, dataset):
                if int(answer.get(Tag.STATUS, 0)) & 0xF000 != _STORED_WITH_WARNING:
                    check(answer, remote, "C-STORE")
            if on_stored is not None:
                on_stored(str(item) if isinstance(item, str | Path) else sop_uid)


def find(
    remote: Remote,
    keys: Mapping[str, str],
    *,
    level: str = "STUDY",
    model: str = "study",
    limit: int = 10_000,
    fuzzy_names: bool = False,
) -> list[Dataset]:
    """C-FIND in the Study Root or Patient Root model.

    Parameters
    ----------
    keys
        Keyword to matching value; '' asks for the value.
    level
        ``"PATIENT"`` (patient model only), ``"STUDY"``, ``"SERIES"`` or ``"IMAGE"``.
    model
        ``"study"`` or ``"patient"``.
    limit
        After so many matches the query is cancelled.
    fuzzy_names
        Ask for fuzzy matching of names; the peer may not agree, and then matches as always.

    Raises
    ------
    DimseFailedError
        No connection, rejected, or a failure status.
    """
    return run_blocking(
        _find(remote, _identifier(keys, level), _model(model)[0], limit, fuzzy_names=fuzzy_names)
    )


def worklist(remote: Remote, keys: Dataset | None = None, *, limit: int = 1000) -> list[Dataset]:
    """Modality worklist query (PS3.4 annex K); without keys, everything that is scheduled.

    Parameters
    ----------
    keys
        The identifier; keys of the step itself stand in ScheduledProcedureStepSequence.

    Raises
    ------
    DimseFailedError
        No connection, rejected, or a failure status.
    """
    from digital_twins.dicom._worklist import universal_identifier

    return run_blocking(
        _find(remote, keys or universal_identifier(), WORKLIST_FIND, limit, fuzzy_names=False)
    )


async def _find(
    remote: Remote, identifier: Dataset, model: str, limit: int, *, fuzzy_names: bool
) -> list[Dataset]:
    found: list[Dataset] = []
    extended = (ExtendedNegotiation(model, b"\1\0\1\0\0"),) if fuzzy_names else ()
    async with associate(remote, Proposal([(model, _BOTH)], extended=extended)) as association:
        context = next(iter(association.contexts.values()))
        implicit = context.transfer_syntax == IMPLICIT_LE
        command = request(CommandField.C_FIND_RQ, model, dataset=True) | {Tag.PRIORITY: 0}
        encoded = write_dataset(identifier, implicit=implicit)
        async for answer, dataset in association.call(context, command, encoded):
            if is_pending(answer):
                if len(found) < limit:
                    found.append(read_dataset(dataset, implicit=implicit))
                    if len(found) == limit:
                        await association.cancel(context)
            elif answer.get(Tag.STATUS) != Status.CANCELLED:
                check(answer, remote, "C-FIND")
    return found


def move(
    remote: Remote, destination: str, keys: Mapping[str, str], *, level: str = "STUDY", model: str = "study"
) -> Transfer:
    """C-MOVE: have the peer send the objects that the keys name to a third AE title (or to us).

    Raises
    ------
    DimseFailedError
        No connection, rejected, an unknown destination, or nothing could be sent.
    """
    return run_blocking(move_async(remote, destination, _identifier(keys, level), _model(model)[1]))


async def move_async(remote: Remote, destination: str, identifier: Dataset, model: str) -> Transfer:
    """C-MOVE inside a running event loop; raises as `move` does."""
    async with associate(remote, Proposal([(model, _BOTH)])) as association:
        context = next(iter(association.contexts.values()))
        command = request(CommandField.C_MOVE_RQ, model, dataset=True)
        command |= {Tag.PRIORITY: 0, Tag.MOVE_DESTINATION: destination}
        return await _retrieved(association, context, command, identifier, remote=remote)


def get(
    remote: Remote,
    keys: Mapping[str, str],
    *,
    into: Path | Callable[[bytes], object],
    level: str = "STUDY",
    model: str = "study",
    classes: Sequence[str] = (),
) -> Transfer:
    """C-GET: fetch the objects that the keys name over the association of the request.

    Parameters
    ----------
    into
        A folder (files are named by their SOP Instance UID), or what takes each object as a DICOM file and
        raises when it cannot keep it; the peer then hears a failure.
    classes
        SOP classes to expect, e.g. from SOPClassesInStudy; default the usual ones.

    Raises
    ------
    DimseFailedError
        No connection, rejected, or nothing could be sent.
    """
    return run_blocking(_get(remote, _identifier(keys, level), _model(model)[2], _keeper(into), [*classes]))


async def _get(
    remote: Remote, identifier: Dataset, model: str, keep: Callable[[bytes], object], classes: list[str]
) -> Transfer:
    known = classes or [*_GET_CLASSES]
    # One context for each transfer syntax, as far as they go: objects then come as they are stored.
    room = (MAX_CONTEXTS - 1) // len(known) - 1
    syntaxes = [_BOTH, *((syntax,) for syntax in _COMPRESSED[: max(room, 0)])]
    contexts = [(model, _BOTH), *((sop_class, offered) for sop_class in known for offered in syntaxes)]
    roles = tuple(RoleSelection(sop_class, scu=True, scp=True) for sop_class in known)

    async def on_store(message: Message, _peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        try:
            keep(bytes(message.file))
            status = Status.SUCCESS
        except (DigitalTwinError, OSError):
            status = Status.OUT_OF_RESOURCES
        yield response(message.command, status), None

    proposal = Proposal(
        contexts, roles=roles, handlers={CommandField.C_STORE_RQ: on_store}, prefix=_object_header
    )
    async with associate(remote, proposal) as association:
        context = association.context(model, transfer_syntaxes=UNCOMPRESSED)
        if context is None:
            raise DimseFailedError(
                f"{remote.called_ae} does not answer C-GET.",
                "It refused the presentation context of the retrieve class.",
                "Use C-MOVE with this peer.",
            )
        command = request(CommandField.C_GET_RQ, model, dataset=True) | {Tag.PRIORITY: 0}
        return await _retrieved(association, context, command, identifier, remote=remote)


async def _retrieved(
    association: Requestor,
    context: AcceptedContext,
    command: Command,
    identifier: Dataset,
    *,
    remote: Remote,
) -> Transfer:
    implicit = context.transfer_syntax == IMPLICIT_LE
    encoded = write_dataset(identifier, implicit=implicit)
    answer: Command = {}
    dataset = b""
    async for response_command, identifier_bytes in association.call(context, command, encoded):
        answer, dataset = response_command, identifier_bytes
    status = int(answer.get(Tag.STATUS, Status.PROCESSING_FAILURE))
    if status not in {Status.SUCCESS, Status.SUBOPERATIONS_WARNING, Status.CANCELLED}:
        check(answer, remote, "C-GET" if command[Tag.COMMAND_FIELD] == CommandField.C_GET_RQ else "C-MOVE")
    failed: tuple[str, ...] = ()
    if dataset:
        uids = read_dataset(dataset, implicit=implicit).get("FailedSOPInstanceUIDList") or []
        failed = (str(uids),) if isinstance(uids, str) else tuple(str(uid) for uid in uids)
    completed, wrong, warned = (int(answer.get(tag, 0)) for tag in (Tag.COMPLETED, Tag.FAILED, Tag.WARNING))
    return Transfer(completed, wrong, warned, status, failed)


def _object_header(command: Command, context: AcceptedContext) -> bytes:
    if command[Tag.COMMAND_FIELD] != CommandField.C_STORE_RQ:
        return b""
    uids = (command.get(Tag.AFFECTED_SOP_CLASS, ""), command.get(Tag.AFFECTED_SOP_INSTANCE, ""))
    return file_header(str(uids[0]), str(uids[1]), context.transfer_syntax)


def _keeper(into: Path | Callable[[bytes], object]) -> Callable[[bytes], object]:
    if not isinstance(into, Path):
        return into
    folder = into
    folder.mkdir(parents=True, exist_ok=True)

    def write(data: bytes) -> None:
        uid = split_file(data).sop_instance_uid
        if not uid.replace(".", "").isdigit():
            raise InputError("The object was refused.", "Its UID is none.", "Repair it at its source.")
        (folder / f"{uid}.dcm").write_bytes(data)

    return write


def study_keys(study_uid: str) -> Dataset:
    """Return the identifier that names a whole study."""
    return _identifier({"StudyInstanceUID": study_uid}, "STUDY")


def _identifier(keys: Mapping[str, str], level: str) -> Dataset:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value or None)
    return identifier


def _model(name: str) -> tuple[str, str, str]:
    if name not in _MODELS:
        raise InputError(
            f"There is no query/retrieve model '{name}'.",
            "DICOM has the patient root and the study root.",
            "Say model='study' or model='patient'.",
        )
    return _MODELS[name]


def _kind(item: Dataset | str | Path) -> tuple[str, str]:
    if isinstance(item, str | Path):
        from pydicom.filereader import read_file_meta_info

        meta = read_file_meta_info(str(item))
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    return str(item.SOPClassUID), str(item.file_meta.TransferSyntaxUID)


def _encoded(item: Dataset | str | Path) -> tuple[str, str, str, memoryview]:
    """Return SOP class, instance, transfer syntax and data set of an object."""
    data = Path(item).read_bytes() if isinstance(item, str | Path) else _file_of(item)
    try:
        part = split_file(data)
    except LayoutError as error:
        raise InputError(
            "A file cannot be sent.", str(error), "Send DICOM files with their file meta information."
        ) from None
    return (
        part.sop_class_uid,
        part.sop_instance_uid,
        part.transfer_syntax,
        memoryview(data)[part.dataset_offset :],
    )


def _file_of(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _transcoded(item: Dataset | str | Path, syntax: str) -> memoryview:
    source = item if isinstance(item, str | Path) else BytesIO(_file_of(item))
    return memoryview(transcode(source, syntax))


def check(answer: Command, remote: Remote, verb: str) -> None:
    """Raise DimseFailedError unless a response says success."""
    code = int(answer.get(Tag.STATUS, Status.PROCESSING_FAILURE))
    if code != Status.SUCCESS:
        raise DimseFailedError(
            f"{verb} to {remote.called_ae} at {remote.host}:{remote.port} failed.",
            f"Status 0x{code:04X}. {answer.get(Tag.ERROR_COMMENT, '')}".strip(),
            "Look the status up in the peer's conformance statement and its log.",
        )
