"""What the N services share: reading a request, refusing it with the status of the standard, and N calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, StorageError
from digital_twins.audit import AuditEvent
from digital_twins.dicom._contexts import EXPLICIT_LE, IMPLICIT_LE
from digital_twins.dicom._dimse import NO_DATASET, CommandField, Status, Tag, response
from digital_twins.dicom._identifier import read_dataset, write_dataset
from digital_twins.dicom._requestor import Proposal, associate, run_blocking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Executor

    from pydicom.dataset import Dataset

    from digital_twins.dicom._channel import Channel
    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._pdu import RoleSelection
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._setup import Handler, Peer
    from digital_twins.dicom._store import DicomStore


class Refusal(DigitalTwinError):  # noqa: N818  (a status of the protocol, not a failure of ours)
    """A request that an N service declines.

    Parameters
    ----------
    status, error_id
        What the response says (PS3.7 annex C; the Error ID where PS3.4 defines one).
    """

    http_status = 400

    def __init__(self, status: int, why: str, *, error_id: int = 0) -> None:
        super().__init__("The request was refused.", why, "Correct the request at its source.")
        self.status = status
        self.error_id = error_id


def n_handler(
    store: DicomStore, executor: Executor, kind: str, work: Callable[[Message, Dataset, Peer], int]
) -> Handler:
    """Return a handler that runs ``work`` in a thread and answers with the status that it returns.

    ``work`` writes its own audit event with what it changes; a refusal is audited here under ``kind``.
    """

    def entity(request: Command) -> str | None:
        return uid_of(request) or None

    async def handle(message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        request = message.command
        implicit = message.context.transfer_syntax == IMPLICIT_LE

        def run() -> int:
            return work(message, read_dataset(message.dataset, implicit=implicit), peer)

        loop = asyncio.get_running_loop()
        try:
            status = await loop.run_in_executor(executor, run)
            yield response(request, status), None
        except StorageError as error:
            event = AuditEvent("E", kind, "failure", peer.agent, entity(request), detail={"why": error.what})
            await asyncio.wrap_future(store.record(event))
            yield response(request, Status.PROCESSING_FAILURE, comment=error.what), None
        except DigitalTwinError as error:
            refused = error if isinstance(error, Refusal) else Refusal(Status.PROCESSING_FAILURE, error.why)
            event = AuditEvent(
                action="E",
                kind=kind,
                outcome="refused",
                agent=peer.agent,
                entity=entity(request),
                detail={"status": f"{refused.status:04X}", "why": refused.why},
            )
            await asyncio.wrap_future(store.record(event))
            answer = response(request, refused.status, comment=refused.why)
            if refused.error_id:
                answer[Tag.ERROR_ID] = refused.error_id
            yield answer, None
        except Exception as error:
            detail = {"why": type(error).__name__}
            await asyncio.wrap_future(
                store.record(AuditEvent("E", kind, "failure", peer.agent, entity(request), detail=detail))
            )
            raise

    return handle


def uid_of(request: Command) -> str:
    """Return the SOP instance that an N request speaks of, '' when it names none."""
    return str(request.get(Tag.REQUESTED_SOP_INSTANCE) or request.get(Tag.AFFECTED_SOP_INSTANCE) or "")


async def n_call(
    channel: Channel, context: AcceptedContext, command: Command, dataset: Dataset | None
) -> Command:
    """Send an N request and return its response."""
    encoded = None
    if dataset is not None:
        encoded = write_dataset(dataset, implicit=context.transfer_syntax == IMPLICIT_LE)
    answer: Command = {}
    async for last, _dataset in channel.call(context, command, encoded):
        answer = last
    return answer


def n_command(
    field: CommandField, sop_class: str, sop_uid: str, *, requested: bool, dataset: bool = True
) -> Command:
    """Return an N request; those on an existing instance name it as requested, others as affected."""
    class_tag = Tag.REQUESTED_SOP_CLASS if requested else Tag.AFFECTED_SOP_CLASS
    uid_tag = Tag.REQUESTED_SOP_INSTANCE if requested else Tag.AFFECTED_SOP_INSTANCE
    command: Command = {
        class_tag: sop_class,
        Tag.COMMAND_FIELD: field,
        Tag.DATASET_TYPE: 1 if dataset else NO_DATASET,
    }
    if sop_uid:
        command[uid_tag] = sop_uid
    return command


def call_once(
    remote: Remote, command: Command, dataset: Dataset, *, roles: tuple[RoleSelection, ...] = ()
) -> Command:
    """Associate for one N request and return its response; raises DimseFailedError as `associate` does."""
    return run_blocking(call_once_async(remote, command, dataset, roles=roles))


async def call_once_async(
    remote: Remote, command: Command, dataset: Dataset, *, roles: tuple[RoleSelection, ...] = ()
) -> Command:
    """Do what `call_once` does, on the running loop."""
    sop_class = str(command.get(Tag.REQUESTED_SOP_CLASS) or command[Tag.AFFECTED_SOP_CLASS])
    proposal = Proposal([(sop_class, (EXPLICIT_LE, IMPLICIT_LE))], roles=roles)
    async with associate(remote, proposal) as association:
        context = next(iter(association.contexts.values()))
        return await n_call(association, context, command, dataset)
