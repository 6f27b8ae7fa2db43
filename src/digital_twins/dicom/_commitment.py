"""Storage commitment (PS3.4 annex J) in both roles."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from digital_twins._errors import NotFoundError
from digital_twins._logging import get_logger
from digital_twins.audit import AuditEvent, stage
from digital_twins.dicom._contexts import COMMITMENT, COMMITMENT_INSTANCE, IMPLICIT_LE
from digital_twins.dicom._dimse import CommandField, Status, Tag
from digital_twins.dicom._identifier import read_dataset
from digital_twins.dicom._nservice import Refusal, call_once, call_once_async, n_call, n_command, n_handler
from digital_twins.dicom._pdu import RoleSelection
from digital_twins.dicom._requestor import DimseFailedError
from digital_twins.dicom._scu import check
from digital_twins.dicom._store import select_instances

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from concurrent.futures import Executor
    from typing import Any

    import apsw
    from pydicom.dataset import Dataset

    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._requestor import Remote
    from digital_twins.dicom._setup import Handler, Peer
    from digital_twins.dicom._store import DicomStore
    from digital_twins.storage import Job, JobQueue

REPORT = "dicom.commitment.report"
"""Kind of the queued jobs that report the result of a commitment request."""

_COMMIT, _ALL, _SOME_FAILED = 1, 1, 2
_NO_SUCH_OBJECT, _CLASS_CONFLICT = 0x0112, 0x0119
_ATTEMPTS = 30
_LEASE_S = 120.0
_POLL_S = 2.0
_RETRY_S = 5.0
_log = get_logger(__name__)
Reference = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CommitmentResult:
    """What a peer answered to a storage commitment request.

    Attributes
    ----------
    state
        ``"requested"``, ``"committed"`` (every object) or ``"failed"`` (at least one object, or the request
        did not reach the peer: then `failed` names none).
    failed
        SOP Instance UID to the failure reason of PS3.3 section C.14.1.1.
    """

    transaction_uid: str
    peer: str
    state: str
    failed: dict[str, int]


def commitment_handlers(
    store: DicomStore,
    executor: Executor,
    *,
    reachable: Callable[[str], bool],
    jobs: JobQueue | None,
    on_result: Callable[[CommitmentResult], None] | None,
) -> dict[tuple[int, str], Handler]:
    """Return the handlers of N-ACTION (we commit) and N-EVENT-REPORT (a peer has committed to us).

    Parameters
    ----------
    reachable
        Whether a calling AE title can be called back; others get their report on the same association.
    jobs
        The queue of reports; None reports on the same association only.
    """

    def request(message: Message, asked: Dataset, peer: Peer) -> int:
        queue = jobs if reachable(peer.calling_ae) else None
        return _take_request(store, message, asked, peer=peer, jobs=queue)

    answer_request = n_handler(store, executor, "dicom.commitment", request)

    async def act(message: Message, peer: Peer) -> AsyncIterator[tuple[Command, bytes | None]]:
        accepted = False
        async for answer in answer_request(message, peer):
            accepted = answer[0][Tag.STATUS] == Status.SUCCESS
            yield answer
        if accepted and (jobs is None or not reachable(peer.calling_ae)):
            await _report_here(store, executor, message, peer=peer)

    def result(message: Message, report: Dataset, peer: Peer) -> int:
        if message.command.get(Tag.EVENT_TYPE_ID) not in {_ALL, _SOME_FAILED}:
            raise Refusal(Status.NO_SUCH_EVENT, "the events of storage commitment are 1 and 2")
        found = _keep_result(store, report, peer)
        if on_result is not None:
            on_result(found)
        return Status.SUCCESS

    return {
        (CommandField.N_ACTION_RQ, COMMITMENT): act,
        (CommandField.N_EVENT_REPORT_RQ, COMMITMENT): n_handler(store, executor, "dicom.commitment", result),
    }


def _take_request(
    store: DicomStore, message: Message, asked: Dataset, *, peer: Peer, jobs: JobQueue | None
) -> int:
    """Write down a request, with its report among the jobs when there is a queue for it."""
    if message.command.get(Tag.ACTION_TYPE_ID) != _COMMIT:
        raise Refusal(Status.NO_SUCH_ACTION, "the only action is 1, request storage commitment")
    if message.command.get(Tag.REQUESTED_SOP_INSTANCE) != COMMITMENT_INSTANCE:
        raise Refusal(Status.NO_SUCH_INSTANCE, "not the well-known instance of storage commitment")
    references = _references(asked)
    if not asked.get("TransactionUID") or not references:
        raise Refusal(Status.MISSING_ATTRIBUTE, "TransactionUID or ReferencedSOPSequence is missing")
    transaction = str(asked.TransactionUID)
    payload = {"peer": peer.calling_ae, "transaction": transaction, "references": references}
    event = AuditEvent(
        action="E",
        kind="dicom.commitment",
        outcome="success",
        agent=peer.agent,
        entity=transaction,
        detail={"objects": len(references)},
    )

    def work(cursor: apsw.Cursor) -> None:
        stage(cursor, event)
        if jobs is not None:
            key = f"{REPORT}:{event.event_id}"  # a request that is sent again is reported again
            jobs.enqueue_in(cursor, REPORT, payload, key=key, max_attempts=_ATTEMPTS)

    store.database.write(work)
    return Status.SUCCESS


async def _report_here(store: DicomStore, executor: Executor, message: Message, *, peer: Peer) -> None:
    """Report on the association of the request."""
    if peer.channel is None:
        return
    implicit = message.context.transfer_syntax == IMPLICIT_LE
    asked = read_dataset(message.dataset, implicit=implicit)
    loop = asyncio.get_running_loop()
    report = await loop.run_in_executor(
        executor, commitment_report, store, str(asked.TransactionUID), _references(asked)
    )
    await n_call(peer.channel, message.context, _report_command(report), report)


def commitment_report(store: DicomStore, transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """Return the event information on what is stored here (PS3.4 section J.3.3)."""
    from pydicom.dataset import Dataset

    report = Dataset()
    report.TransactionUID = transaction_uid
    held, failed = [], []
    objects = list(references)
    for sop_class, sop_uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
        found = select_instances(store, " WHERE i.sop_uid = ?", (sop_uid,))
        if found and found[0].sop_class_uid == sop_class and store.path(found[0]).exists():
            held.append(item)
            continue
        conflict = bool(found) and found[0].sop_class_uid != sop_class
        item.FailureReason = _CLASS_CONFLICT if conflict else _NO_SUCH_OBJECT
        failed.append(item)
    if held:
        report.ReferencedSOPSequence = held
    if failed:
        report.FailedSOPSequence = failed
    return report


class Reporter:
    """Delivers queued commitment reports, each on an association of its own, until the peer takes it.

    Parameters
    ----------
    remote
        How to call a peer by its AE title; None while the peers table does not say.
    """

    def __init__(
        self, store: DicomStore, jobs: JobQueue, executor: Executor, *, remote: Callable[[str], Remote | None]
    ) -> None:
        self._store, self._jobs, self._executor, self._remote = store, jobs, executor, remote
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop; what is not delivered stays queued."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = await loop.run_in_executor(
                self._executor, lambda: self._jobs.claim("dicom-reporter", [REPORT], _LEASE_S)
            )
            if job is None:
                await asyncio.sleep(_POLL_S)
                continue
            try:
                await self._deliver(job.payload)
            except DimseFailedError as error:
                await loop.run_in_executor(self._executor, self._failed, job, error)
            except asyncio.CancelledError:
                self._store.database.write(partial(self._given_back, job=job))
                raise
            else:
                await loop.run_in_executor(self._executor, self._delivered, job)

    def _delivered(self, job: Job) -> None:
        def work(cursor: apsw.Cursor) -> None:
            self._jobs.succeed_in(cursor, job)
            stage(cursor, _report_event(job, "success"))

        self._store.database.write(work)

    def _failed(self, job: Job, error: DimseFailedError) -> None:
        def work(cursor: apsw.Cursor) -> None:
            self._jobs.fail_in(cursor, job, error, retry=True, retry_delay_s=_RETRY_S)
            stage(cursor, _report_event(job, "failure", error.what))

        self._store.database.write(work)

    def _given_back(self, cursor: apsw.Cursor, job: Job) -> None:
        self._jobs.release_in(cursor, job)
        stage(cursor, _report_event(job, "failure", "given back, as the node goes down"))

    async def _deliver(self, payload: dict[str, Any]) -> None:
        remote = self._remote(payload["peer"])
        if remote is None:
            raise DimseFailedError(
                "A storage commitment report cannot be delivered.",
                f"The peers table does not say where {payload['peer']} listens.",
                "Give the peer a host and port.",
            )
        references = [(str(sop_class), str(uid)) for sop_class, uid in payload["references"]]
        loop = asyncio.get_running_loop()
        report = await loop.run_in_executor(
            self._executor, commitment_report, self._store, payload["transaction"], references
        )
        # On an association of its own we are the SCP that asks: the roles say so (PS3.4 section J.3.3).
        roles = (RoleSelection(COMMITMENT, scu=False, scp=True),)
        answer = await call_once_async(remote, _report_command(report), report, roles=roles)
        check(answer, remote, "Storage commitment N-EVENT-REPORT")


def _report_event(job: Job, outcome: Literal["success", "failure"], why: str = "") -> AuditEvent:
    """Return the one event of an attempt to deliver a report."""
    detail: dict[str, str | int] = {
        "destination": str(job.payload["peer"]),
        "objects": len(job.payload["references"]),
        "attempt": job.attempts,
        "job": job.job_id,
    }
    detail |= {"why": why} if why else {}
    return AuditEvent("E", REPORT, outcome, "node", str(job.payload["transaction"]), detail=detail)


def request_commitment(
    store: DicomStore,
    remote: Remote,
    references: Iterable[Reference],
    *,
    transaction_uid: str = "",
) -> str:
    """Ask a peer to commit to keeping objects (N-ACTION) and return the transaction UID.

    The answer comes as an N-EVENT-REPORT to this node's DICOM port; `commitment_result` tells it. The
    request is written down before it is sent, so an answer that comes at once finds it.

    Parameters
    ----------
    references
        Pairs of SOP Class and SOP Instance UID.

    Raises
    ------
    DimseFailedError
        No association, or the peer's refusal; the request then counts as failed.
    """
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    transaction = transaction_uid or str(generate_uid(prefix=None))
    asked = Dataset()
    asked.TransactionUID = transaction
    asked.ReferencedSOPSequence = []
    objects = list(references)
    for sop_class, sop_uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
        asked.ReferencedSOPSequence.append(item)
    now = datetime.now(tz=UTC).isoformat()

    def work(cursor: apsw.Cursor) -> None:
        cursor.execute(
            "INSERT INTO dicom_commitment (transaction_uid, peer, state, failed, requested_utc)"
            " VALUES (?, ?, 'requested', '{}', ?)",
            (transaction, remote.called_ae, now),
        )
        for _, sop_uid in objects:
            cursor.execute(
                "INSERT INTO dicom_commitment_object (transaction_uid, sop_uid) VALUES (?, ?)"
                " ON CONFLICT DO NOTHING",
                (transaction, sop_uid),
            )

    store.database.write(work)
    command = n_command(CommandField.N_ACTION_RQ, COMMITMENT, COMMITMENT_INSTANCE, requested=True)
    command[Tag.ACTION_TYPE_ID] = _COMMIT
    try:
        check(call_once(remote, command, asked), remote, "Storage commitment N-ACTION")
    except DimseFailedError:
        # Whoever wants the commitment asks again; a peer that took the request after all still answers it.
        store.database.write(partial(_not_asked, transaction=transaction))
        raise
    return transaction


def _not_asked(cursor: apsw.Cursor, transaction: str) -> None:
    cursor.execute(
        "UPDATE dicom_commitment SET state = 'failed' WHERE transaction_uid = ? AND state = 'requested'",
        (transaction,),
    )


def commitment_result(store: DicomStore, transaction_uid: str, *, wait_s: float = 0.0) -> CommitmentResult:
    """Return how a commitment request stands, waiting up to ``wait_s`` for its answer.

    Raises
    ------
    NotFoundError
        No such request was made.
    """
    end = time.monotonic() + wait_s
    while True:
        with store.database.read() as connection:
            row = connection.execute(
                "SELECT transaction_uid, peer, state, failed FROM dicom_commitment WHERE transaction_uid = ?",
                (transaction_uid,),
            ).fetchone()
        if row is None:
            raise NotFoundError(
                "There is no such storage commitment request.",
                "This node has not asked for it.",
                "Check the transaction UID.",
            )
        if row[2] != "requested" or time.monotonic() >= end:
            return CommitmentResult(str(row[0]), str(row[1]), str(row[2]), json.loads(str(row[3])))
        time.sleep(0.05)


def _references(asked: Dataset) -> list[Reference]:
    return [
        (str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
        for item in asked.get("ReferencedSOPSequence") or []
    ]


def _report_command(report: Dataset) -> Command:
    command = n_command(CommandField.N_EVENT_REPORT_RQ, COMMITMENT, COMMITMENT_INSTANCE, requested=False)
    command[Tag.EVENT_TYPE_ID] = _SOME_FAILED if "FailedSOPSequence" in report else _ALL
    return command


def _keep_result(store: DicomStore, report: Dataset, peer: Peer) -> CommitmentResult:
    transaction = str(report.get("TransactionUID", ""))
    failed = {
        str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", 0) or 0)
        for item in report.get("FailedSOPSequence") or []
    }
    state = "failed" if failed else "committed"

    def work(cursor: apsw.Cursor) -> None:
        row = cursor.execute(
            "UPDATE dicom_commitment SET state = ?, failed = ? WHERE transaction_uid = ? RETURNING peer",
            (state, json.dumps(failed), transaction),
        ).fetchone()
        if row is None:
            raise Refusal(Status.PROCESSING_FAILURE, "this node has not asked for that transaction")
        stage(
            cursor,
            AuditEvent(
                action="U",
                kind="dicom.commitment.result",
                outcome="success" if not failed else "failure",
                agent=peer.agent,
                entity=transaction,
                detail={"failed": len(failed)},
            ),
        )

    store.database.write(work)
    return CommitmentResult(transaction, peer.calling_ae, state, failed)
