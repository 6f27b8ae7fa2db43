"""The acceptor's side of an association: the state machine of PS3.8 section 9.2 on asyncio."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from digital_twins._logging import get_logger
from digital_twins.dicom._admission import Admission
from digital_twins.dicom._channel import Channel, State
from digital_twins.dicom._contexts import negotiate, negotiate_extended, negotiate_roles
from digital_twins.dicom._limits import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from digital_twins.dicom._pdu import (
    APPLICATION_CONTEXT,
    AbortReason,
    AssociateAccept,
    PduType,
    Rejection,
    decode_associate,
    encode_abort,
    encode_accept,
    encode_reject,
    encode_release_reply,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from digital_twins.dicom._admission import Doorkeeper
    from digital_twins.dicom._framing import Message
    from digital_twins.dicom._pdu import AssociateRequest
    from digital_twins.dicom._setup import Setup

_log = get_logger(__name__)


@dataclass(slots=True)
class Node:
    """What all associations of one listener share."""

    setup: Setup
    doorkeeper: Doorkeeper
    half_open: dict[Association, None]
    established: dict[Association, None]


class Association(Channel):
    """One accepted connection from its first byte to its end."""

    def __init__(self, node: Node) -> None:
        super().__init__(node.setup)
        self._node = node
        self._limits = node.setup.limits
        self._began = 0.0
        self._deciding: asyncio.Task[None] | None = None

    @property
    def calling_ae(self) -> str:
        """The AE title of the peer, '' before its request."""
        return self._peer.calling_ae

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """AE-5: start ARTIM and wait for the request."""
        super().connection_made(transport)
        self._state = State.AWAITING_REQUEST
        half_open = self._node.half_open
        if len(half_open) >= self._limits.max_half_open:
            next(iter(half_open)).drop()
        half_open[self] = None
        self._arm_artim()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        if self._deciding is not None:
            self._deciding.cancel()
        self._node.half_open.pop(self, None)
        self._node.established.pop(self, None)

    async def finish(self) -> None:
        """Let the request in work be answered, then abort: the end of an association at shutdown."""
        if self._transport is None:
            return
        self._ending = True
        await self._leave_lane()
        if self._state is not State.IDLE:
            self._transport.pause_reading()
        while self._working():
            await asyncio.sleep(0.01)
        if self._state is not State.IDLE:
            self._transport.write(encode_abort(0, 0))
            self._transport.close()

    def _working(self) -> bool:
        if self._worker is None or self._worker.done():
            return False
        return self._current is not None or not self._queue.empty()

    def _event(self, kind: PduType, body: memoryview) -> None:
        """Table 9-10 of PS3.8 for the acceptor."""
        if kind is PduType.ABORT:
            self._close_now()
        elif self._state is State.AWAITING_CLOSE:
            if kind is PduType.ASSOCIATE_RQ:
                self._provider_abort(AbortReason.UNEXPECTED_PDU, "a request came after the end")
        elif self._state is State.AWAITING_REQUEST and kind is PduType.ASSOCIATE_RQ:
            self._on_request(decode_associate(body))
        elif self._state is State.ESTABLISHED and kind is PduType.P_DATA_TF:
            self._on_data(body)
        elif self._state is State.ESTABLISHED and kind is PduType.RELEASE_RQ:
            self._state = State.AWAITING_LOCAL_RELEASE
            self._give_up_answers()  # a peer that has asked for the end sends no data any more
            self._queue.put_nowait(None)
        else:
            self._provider_abort(AbortReason.UNEXPECTED_PDU, f"PDU {kind} in state {self._state}")

    def _on_request(self, request: AssociateRequest) -> None:
        self._peer = replace(
            self._peer,
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            implementation_version=request.implementation_version,
            channel=self,
        )
        refusal = self._refusal(request)
        if refusal is not None:
            self._reject(refusal)
            return
        decision = self._node.doorkeeper.decide(request, self._peer.address, self._tls())
        if isinstance(decision, Admission | Rejection):
            self._settle(request, decision)
        else:
            self._state = State.AWAITING_LOCAL_RESPONSE
            self._deciding = asyncio.get_running_loop().create_task(self._later(request, decision))

    async def _later(self, request: AssociateRequest, decision: Awaitable[Admission | Rejection]) -> None:
        settled = await decision
        if self._state is State.AWAITING_LOCAL_RESPONSE:
            self._settle(request, settled)

    def _settle(self, request: AssociateRequest, decision: Admission | Rejection) -> None:
        if isinstance(decision, Rejection):
            self._reject(decision)
        else:
            self._accept(request, decision)

    def _reject(self, rejection: Rejection) -> None:
        _log.warning("dicom.association.rejected", peer=self._peer.calling_ae, reason=rejection.text)
        self._write(encode_reject(rejection.result, rejection.source, rejection.reason))
        self._await_close()

    def _accept(self, request: AssociateRequest, admission: Admission) -> None:
        node = self._node
        answers, accepted = negotiate(request.contexts, request.roles, rule=admission.rule)
        extended = negotiate_extended(request.extended)
        options = [each.information for each in extended]
        self._peer = replace(
            self._peer,
            rule=admission.rule,
            user=admission.user,
            tls_version=admission.tls_version,
            fuzzy_names=any(len(each) > 2 and each[2] == 1 for each in options)
            or (admission.rule is not None and admission.rule.fuzzy_names),
            combined_times=any(len(each) > 1 and each[1] == 1 for each in options),
        )
        self._peer_max_pdu = request.max_pdu_bytes
        node.half_open.pop(self, None)
        node.established[self] = None
        self._disarm()
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self._begin(accepted)
        self._timer = loop.call_later(self._limits.idle_s, self._check_idle)
        self._write(
            encode_accept(
                AssociateAccept(
                    called_ae=request.called_ae,
                    calling_ae=request.calling_ae,
                    contexts=answers,
                    max_pdu_bytes=self._limits.max_pdu_bytes,
                    implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                    implementation_version=IMPLEMENTATION_VERSION,
                    roles=negotiate_roles(request.roles),
                    extended=extended,
                    identity_response=admission.identity_response,
                )
            )
        )

    def _refusal(self, request: AssociateRequest) -> Rejection | None:
        """What no peer may do, whoever it is."""
        if not request.protocol_version & 1:
            return Rejection(1, 2, 2)
        if request.application_context != APPLICATION_CONTEXT:
            return Rejection(1, 1, 2)
        if len(self._node.established) >= self._limits.max_associations:
            return Rejection(2, 3, 2)
        if 0 < request.max_pdu_bytes <= 12:
            return Rejection(1, 1, 1)
        return None

    def _tls(self) -> object | None:
        return None if self._transport is None else self._transport.get_extra_info("ssl_object")

    def _may_leave_loop(self) -> bool:
        rule = self._peer.rule
        paced = rule is not None and rule.max_requests_per_s > 0
        return not paced and super()._may_leave_loop()

    async def _before(self, message: Message) -> None:
        del message
        wait_s = self._node.doorkeeper.pause_s(self._peer.calling_ae, self._peer.rule, time.monotonic())
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _released(self) -> None:
        if self._state is State.AWAITING_LOCAL_RELEASE:
            self._write(encode_release_reply())
            self._await_close()

    def _close_now(self) -> None:
        self._node.half_open.pop(self, None)
        super()._close_now()

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        quiet_s = loop.time() - self._last_byte
        idle_s = self._limits.idle_s
        if self._current is None and quiet_s >= idle_s:
            self._provider_abort(AbortReason.NOT_SPECIFIED, "idle for too long")
            return
        if self._current is None and loop.time() - self._began >= self._limits.max_association_s:
            self._provider_abort(AbortReason.NOT_SPECIFIED, "open for too long")
            return
        wait_s = idle_s if self._current is not None else idle_s - quiet_s
        self._timer = loop.call_later(max(wait_s, 0.01), self._check_idle)
