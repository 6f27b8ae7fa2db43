"""The requestor's side of an association: the state machine of PS3.8 section 9.2 on asyncio."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from digital_twins._errors import DigitalTwinError
from digital_twins.dicom._channel import Channel, State
from digital_twins.dicom._contexts import AcceptedContext
from digital_twins.dicom._framing import Budget, no_prefix
from digital_twins.dicom._limits import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION, Limits
from digital_twins.dicom._pdu import (
    AbortReason,
    AssociateRequest,
    PduType,
    ProposedContext,
    UserIdentity,
    decode_accept,
    decode_reject,
    encode_abort,
    encode_associate,
    encode_release_reply,
    encode_release_request,
)
from digital_twins.dicom._setup import Setup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
    from typing import Any

    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._pdu import AssociateAccept, ExtendedNegotiation, RoleSelection
    from digital_twins.dicom._setup import Handler
    from digital_twins.dicom._tls import Tls

T = TypeVar("T")
MAX_CONTEXTS = 128
_PDU_BYTES = 131072


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
    tls
        Our certificate and whom we trust; None calls without TLS.
    user, passcode
        User identity (PS3.7 section D.3.3.7); '' sends none. A user without passcode is sent as type 1.
    """

    host: str
    port: int
    called_ae: str = "ANY-SCP"
    calling_ae: str = "TWIN"
    timeout_s: float = 30.0
    tls: Tls | None = None
    user: str = ""
    passcode: str = field(default="", repr=False)

    def identity(self) -> UserIdentity | None:
        """Return the user identity item that belongs into the association request."""
        if not self.user:
            return None
        kind = 2 if self.passcode else 1
        return UserIdentity(
            kind, response_requested=True, primary=self.user.encode(), secondary=self.passcode.encode()
        )


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a requestor asks for: pairs of abstract syntax and transfer syntaxes, roles and options.

    Attributes
    ----------
    handlers
        Services that this end provides on the association, e.g. C-STORE during a C-GET.
    prefix
        Bytes to put before data sets that arrive, as for `digital_twins.dicom._framing.Assembler`.
    """

    contexts: Sequence[tuple[str, tuple[str, ...]]]
    roles: tuple[RoleSelection, ...] = ()
    extended: tuple[ExtendedNegotiation, ...] = ()
    handlers: Mapping[int, Handler] = field(default_factory=dict)
    prefix: Callable[[Command, AcceptedContext], bytes] = no_prefix


class Requestor(Channel):
    """An association that this node asked for; made by `associate`."""

    def __init__(self, setup: Setup, request: AssociateRequest) -> None:
        super().__init__(setup)
        self._request = request
        self._settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.extended: tuple[ExtendedNegotiation, ...] = ()

    async def established(self) -> str:
        """Wait for the peer's decision: '' when it accepted, or why not."""
        return await self._settled

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """AE-2: send the request."""
        super().connection_made(transport)
        self._peer = replace(self._peer, calling_ae=self._request.called_ae, channel=self)
        self._state = State.AWAITING_ACCEPTANCE
        self._write(encode_associate(self._request))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever is waited for will not come."""
        super().connection_lost(exc)
        self._settle("The peer closed the connection before it had answered.")
        if not self._closed.done():
            self._closed.set_result(None)

    async def release(self) -> None:
        """AR-1 and AR-3: end the association in order; a peer that does not answer is cut off."""
        if self._state is not State.ESTABLISHED:
            return
        self._state = State.AWAITING_RELEASE_REPLY
        self._write(encode_release_request())
        try:
            async with asyncio.timeout(self._setup.limits.artim_s):
                await self._closed
        except TimeoutError:
            self._close_now()

    def abort(self) -> None:
        """AA-1: end the association at once."""
        if self._state is not State.IDLE:
            self._write(encode_abort(0, 0))
        if self._transport is not None:
            self._transport.close()
        self._state = State.IDLE
        self._queue.put_nowait(None)

    def _event(self, kind: PduType, body: memoryview) -> None:
        """Table 9-10 of PS3.8 for the requestor."""
        state = self._state
        if kind is PduType.ABORT:
            self._settle("The peer aborted the association.")
            self._close_now()
        elif state is State.AWAITING_ACCEPTANCE and kind is PduType.ASSOCIATE_AC:
            self._on_accept(decode_accept(body))
        elif state is State.AWAITING_ACCEPTANCE and kind is PduType.ASSOCIATE_RJ:
            self._settle(f"The peer rejected the association ({decode_reject(body).text}).")
            self._close_now()
        elif state is State.ESTABLISHED and kind is PduType.P_DATA_TF:
            self._on_data(body)
        elif kind is PduType.RELEASE_RQ and state is State.ESTABLISHED:
            self._write(encode_release_reply())
            self._await_close()
            self._queue.put_nowait(None)
        elif kind is PduType.RELEASE_RQ and state is State.AWAITING_RELEASE_REPLY:
            self._write(encode_release_reply())  # AR-8, AR-9: both ends asked at once
        elif kind is PduType.RELEASE_RP and state is State.AWAITING_RELEASE_REPLY:
            self._close_now()
        elif state is State.AWAITING_RELEASE_REPLY and kind is PduType.P_DATA_TF:
            pass  # AR-6: what was on its way when we asked for the end
        else:
            self._provider_abort(AbortReason.UNEXPECTED_PDU, f"PDU {kind} in state {state}")

    def _on_accept(self, accept: AssociateAccept) -> None:
        proposed = {context.context_id: context.abstract_syntax for context in self._request.contexts}
        # A peer that leaves the roles out has kept the default: the requestor asks, the acceptor serves.
        refused = {role.sop_class_uid for role in accept.roles if not (role.scu or role.scp)}
        contexts = {
            result.context_id: AcceptedContext(
                result.context_id,
                proposed[result.context_id],
                result.transfer_syntax,
                may_request=proposed[result.context_id] not in refused,
            )
            for result in accept.contexts
            if result.result == 0 and result.context_id in proposed
        }
        self.extended = accept.extended
        self._peer_max_pdu = accept.max_pdu_bytes
        self._begin(contexts)
        self._settle("" if contexts else "The peer accepted none of the presentation contexts.")

    def _settle(self, why: str) -> None:
        if not self._settled.done():
            self._settled.set_result(why)


@asynccontextmanager
async def associate(remote: Remote, proposal: Proposal) -> AsyncIterator[Requestor]:
    """Open an association, release it at the end of the block, and abort it if the block raises.

    Raises
    ------
    DimseFailedError
        No connection, rejected, aborted, no context accepted, or the connection broke inside the block.
    """
    requestor = await _connect(remote, proposal)
    try:
        yield requestor
        await requestor.release()
    except (ConnectionError, TimeoutError):
        raise DimseFailedError(
            f"The association with {remote.called_ae} at {remote.host}:{remote.port} broke.",
            "The peer did not answer in time or closed the connection.",
            "Look into the peer's log; send again when it is well.",
        ) from None
    finally:
        requestor.abort()


async def _connect(remote: Remote, proposal: Proposal) -> Requestor:
    contexts = tuple(
        ProposedContext(2 * index + 1, abstract, syntaxes)
        for index, (abstract, syntaxes) in enumerate(proposal.contexts)
    )
    request = AssociateRequest(
        remote.called_ae,
        remote.calling_ae,
        contexts,
        max_pdu_bytes=_PDU_BYTES,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version=IMPLEMENTATION_VERSION,
        roles=proposal.roles,
        extended=proposal.extended,
        identity=remote.identity(),
    )
    limits = Limits(
        max_pdu_bytes=_PDU_BYTES,
        max_object_bytes=2**32,
        idle_s=remote.timeout_s,
        artim_s=min(remote.timeout_s, 10.0),
    )
    setup = Setup(limits, Budget(limits.max_buffered_bytes), proposal.handlers, proposal.prefix)
    requestor: Requestor | None = None
    try:
        async with asyncio.timeout(remote.timeout_s):
            loop = asyncio.get_running_loop()
            _transport, requestor = await loop.create_connection(
                lambda: Requestor(setup, request),
                remote.host,
                remote.port,
                ssl=None if remote.tls is None else remote.tls.client(),
            )
            why = await requestor.established()
    except TimeoutError:
        why = (
            "No connection could be made in time."
            if requestor is None
            else "The peer did not answer in time."
        )
    except OSError as error:
        # The words of a TLS failure name the reason (an unknown authority, a wrong host); no patient data.
        why = f"No connection could be made ({error.strerror or type(error).__name__})."
    if requestor is not None and not why:
        return requestor
    if requestor is not None:
        requestor.abort()
    raise DimseFailedError(
        f"No association with {remote.called_ae} at {remote.host}:{remote.port}.",
        why,
        "Check host, port and both AE titles, and that the peer knows this node.",
    )


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop and thread of its own, so that any caller may wait for it."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  (handed to the waiting thread)
            failure.append(error)

    thread = threading.Thread(target=run, name="dicom-call", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
