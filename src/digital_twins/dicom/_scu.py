"""DIMSE as a client (SCU) through pynetdicom: echo, send, find."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digital_twins._errors import DigitalTwinError, InputError
from digital_twins.dicom._contexts import EXPLICIT_LE, IMPLICIT_LE, STUDY_ROOT_FIND, VERIFICATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pydicom.dataset import Dataset

_MAX_CONTEXTS = 128
_PENDING = frozenset({0xFF00, 0xFF01})


class DimseFailedError(DigitalTwinError):
    """A DICOM peer could not be reached, rejected the association, or answered with a failure."""

    http_status = 502


@dataclass(frozen=True, slots=True)
class Remote:
    """A DICOM peer to call.

    Attributes
    ----------
    host, port
        Its address.
    called_ae, calling_ae
        Its application entity title, and ours.
    timeout_s
        For connecting, for each answer, and for the network without a byte.
    """

    host: str
    port: int
    called_ae: str = "ANY-SCP"
    calling_ae: str = "TWIN"
    timeout_s: float = 30.0


def echo(remote: Remote) -> None:
    """C-ECHO: return when the peer answers success.

    Raises
    ------
    DimseFailedError
        No connection, rejected, or another status.
    """
    with _associated(remote, [(VERIFICATION, (IMPLICIT_LE, EXPLICIT_LE))]) as association:
        _check(association.send_c_echo(), remote, "C-ECHO")


def send(
    remote: Remote,
    objects: Iterable[Dataset | str | Path],
    *,
    on_stored: Callable[[str], None] | None = None,
) -> int:
    """C-STORE data sets or DICOM files in their own transfer syntax; return how many were accepted.

    ``on_stored`` is called with the SOP Instance UID of each data set (the path of each file) once the peer
    has acknowledged it. The first refusal ends it, so that a count equal to the objects given means that all
    are stored.

    Raises
    ------
    DimseFailedError
        No connection, rejected, a presentation context not accepted, or a refusal (its status and comment
        are in the message).
    InputError
        Nothing to send, or more than 128 kinds of objects.
    """
    items = list(objects)
    kinds = sorted({_kind(item) for item in items})
    if not 0 < len(kinds) <= _MAX_CONTEXTS:
        raise InputError(
            "The objects cannot be sent.",
            f"There are {len(kinds)} pairs of SOP class and transfer syntax.",
            "Send between 1 and 128 pairs in one call.",
        )
    contexts = [(sop_class, (syntax,)) for sop_class, syntax in kinds]
    with _associated(remote, contexts) as association:
        for item in items:
            try:
                status = association.send_c_store(str(item) if isinstance(item, Path) else item)
            except ValueError:
                raise DimseFailedError(
                    f"{remote.called_ae} does not accept one of the objects.",
                    "It refused the presentation context of its SOP class and transfer syntax.",
                    "Convert the objects to a transfer syntax that the peer supports.",
                ) from None
            _check(status, remote, "C-STORE")
            if on_stored is not None:
                on_stored(str(item) if isinstance(item, str | Path) else str(item.SOPInstanceUID))
    return len(items)


def find(
    remote: Remote, keys: Mapping[str, str], *, level: str = "STUDY", limit: int = 10_000
) -> list[Dataset]:
    """C-FIND in the Study Root model.

    Parameters
    ----------
    keys
        Keyword to matching value; '' asks for the value.
    level
        ``"STUDY"``, ``"SERIES"`` or ``"IMAGE"``.
    limit
        After so many matches the query is cancelled.

    Raises
    ------
    DimseFailedError
        No connection, rejected, or a failure status.
    """
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value or None)
    found: list[Dataset] = []
    with _associated(remote, [(STUDY_ROOT_FIND, (EXPLICIT_LE, IMPLICIT_LE))]) as association:
        for status, answer in association.send_c_find(identifier, STUDY_ROOT_FIND):
            if status and status.Status in _PENDING and answer is not None:
                found.append(answer)
                if len(found) == limit:
                    association.send_c_cancel(1, query_model=STUDY_ROOT_FIND)
            elif not status or status.Status != 0xFE00:
                _check(status, remote, "C-FIND")
    return found[:limit]


@contextmanager
def _associated(remote: Remote, contexts: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[Any]:
    from pynetdicom import AE, evt
    from pynetdicom.pdu import A_ASSOCIATE_RJ

    entity = AE(ae_title=remote.calling_ae)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = remote.timeout_s
    entity.connection_timeout = remote.timeout_s
    for abstract, syntaxes in contexts:
        entity.add_requested_context(abstract, list(syntaxes))
    seen: list[str] = []

    def on_pdu(event: Any) -> None:
        # pynetdicom reports an abort when a rejection closes the socket before it looks at that socket again.
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            seen.append("EVT_REJECTED")

    association = entity.associate(
        remote.host,
        remote.port,
        ae_title=remote.called_ae,
        evt_handlers=[
            (evt.EVT_CONN_OPEN, lambda event: seen.append(event.event.name)),
            (evt.EVT_PDU_RECV, on_pdu),
        ],
    )
    if not association.is_established:
        raise DimseFailedError(
            f"No association with {remote.called_ae} at {remote.host}:{remote.port}.",
            _why_not(seen, rejected=association.is_rejected),
            "Check host, port and both AE titles, and that the peer knows this node.",
        )
    try:
        yield association
        association.release()
    finally:
        if association.is_established:
            association.abort()


def _why_not(seen: list[str], *, rejected: bool) -> str:
    if rejected or "EVT_REJECTED" in seen:
        return "The peer rejected the association."
    if "EVT_CONN_OPEN" not in seen:
        return "No connection could be made."
    return "The peer aborted the association, or accepted none of its contexts."


def _kind(item: Dataset | str | Path) -> tuple[str, str]:
    if isinstance(item, str | Path):
        from pydicom.filereader import read_file_meta_info

        meta = read_file_meta_info(str(item))
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    return str(item.SOPClassUID), str(item.file_meta.TransferSyntaxUID)


def _check(status: Any, remote: Remote, verb: str) -> None:
    code = status.get("Status") if status else None
    if code == 0:
        return
    if code is None:
        why = "The peer did not answer in time or closed the connection."
    else:
        why = f"Status 0x{code:04X}. {status.get('ErrorComment', '')}".strip()
    raise DimseFailedError(
        f"{verb} to {remote.called_ae} at {remote.host}:{remote.port} failed.",
        why,
        "Look the status up in the peer's conformance statement and its log.",
    )
