"""Who is at the other end of an association, and what this end brings to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from digital_twins.dicom._channel import Channel
    from digital_twins.dicom._contexts import AcceptedContext
    from digital_twins.dicom._dimse import Command
    from digital_twins.dicom._framing import Budget, Message
    from digital_twins.dicom._keepers import Keepers
    from digital_twins.dicom._limits import Limits
    from digital_twins.dicom._peers import DicomPeer
    from digital_twins.storage import Spool

    Handler = Callable[[Message, "Peer"], AsyncIterator[tuple[Command, bytes | None]]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of an association, and the way to ask it something.

    Attributes
    ----------
    rule
        What the peers table says of the calling AE title, if there is one.
    user
        The authenticated user, '' without user identity.
    fuzzy_names, combined_times
        Whether the extended negotiation of the query classes switched these on.
    """

    calling_ae: str
    called_ae: str
    address: str
    implementation_version: str
    rule: DicomPeer | None = None
    user: str = ""
    tls_version: str = ""
    fuzzy_names: bool = False
    combined_times: bool = False
    channel: Channel | None = field(default=None, repr=False, compare=False)

    @property
    def agent(self) -> str:
        """Who the audit trail names: the AE title, with the user when there is one."""
        return f"{self.user}@{self.calling_ae}" if self.user else self.calling_ae


@dataclass(slots=True)
class Setup:
    """What a channel needs beside its connection.

    Attributes
    ----------
    handlers
        Command field of a request to the coroutine generator that yields its responses.
    prefix
        Bytes to put before a data set that arrives: the file header of an object.
    new_spool
        Opens a file for an object that is to be stored; None keeps it in memory.
    dropped
        Called with a request whose data set was dropped while it arrived, the peer, and why.
    lanes, store_here
        Threads that take whole associations while objects come, and what stores an object in them: it
        returns the answer, or None to leave the message to its handler. Without them the event loop reads.
    """

    limits: Limits
    budget: Budget
    handlers: Mapping[int, Handler]
    prefix: Callable[[Command, AcceptedContext], bytes]
    new_spool: Callable[[], Spool] | None = None
    dropped: Callable[[Message, Peer, str], Awaitable[None]] | None = None
    lanes: Keepers | None = None
    store_here: Callable[[Message, Peer, asyncio.AbstractEventLoop], Command | None] | None = None
