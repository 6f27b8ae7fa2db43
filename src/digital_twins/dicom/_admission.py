"""Who may associate: AE titles, networks, TLS, users and rates, before any service is spoken."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from digital_twins.audit import AuditEvent
from digital_twins.dicom._pdu import Rejection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from digital_twins.dicom._pdu import AssociateRequest, UserIdentity
    from digital_twins.dicom._peers import DicomPeer, PeerTable
    from digital_twins.dicom._users import UserTable

_CALLED_UNKNOWN = Rejection(1, 1, 7)
_CALLING_UNKNOWN = Rejection(1, 1, 3)
_NO_REASON = Rejection(1, 1, 1)
_CONGESTED = Rejection(2, 3, 1)
_LOCAL_LIMIT = Rejection(2, 3, 2)
_USER, _USER_AND_PASSCODE, _JWT = 1, 2, 5
_MINUTE_S = 60.0
_MAX_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class Admission:
    """What was found out about a peer that may associate."""

    rule: DicomPeer | None = None
    user: str = ""
    tls_version: str = ""
    identity_response: bytes | None = None


@dataclass(slots=True)
class Doorkeeper:
    """Decides on association requests.

    Attributes
    ----------
    table, ae_title
        The peers, and our own title.
    users, verify_token
        Who may sign in with a passcode; what turns a JSON web token into a user name, or None. Without
        them a user identity of that type is refused where the peer must give one, and ignored elsewhere.
    associations_of
        How many associations an AE title has open.
    record
        Writes an audit event.
    on_decided
        Called with calling AE title, address and whether it may associate; must not block.
    """

    table: PeerTable
    ae_title: str
    executor: Executor
    associations_of: Callable[[str], int]
    record: Callable[[AuditEvent], object]
    users: UserTable | None = None
    verify_token: Callable[[bytes], str | None] | None = None
    max_per_minute: int = 6000
    on_decided: Callable[[str, str, bool], None] | None = None
    _arrivals: dict[str, deque[float]] = field(default_factory=dict)
    _next_request: dict[str, float] = field(default_factory=dict)

    def decide(
        self, request: AssociateRequest, address: str, tls: object | None
    ) -> Admission | Rejection | Awaitable[Admission | Rejection]:
        """Return a decision, or a future of one when a passcode has to be checked."""
        decision = self._decide(request, address, tls)
        if self.on_decided is None:
            return decision
        if isinstance(decision, Admission | Rejection):
            self.on_decided(request.calling_ae, address, isinstance(decision, Admission))
            return decision
        return self._decided(request, address, decision)

    async def _decided(
        self, request: AssociateRequest, address: str, later: Awaitable[Admission | Rejection]
    ) -> Admission | Rejection:
        decision = await later
        if self.on_decided is not None:
            self.on_decided(request.calling_ae, address, isinstance(decision, Admission))
        return decision

    def _decide(
        self, request: AssociateRequest, address: str, tls: object | None
    ) -> Admission | Rejection | Awaitable[Admission | Rejection]:
        loop = asyncio.get_running_loop()
        if not self._paced(address, loop.time()):
            return _CONGESTED
        rule = self.table.peers.get(request.calling_ae)
        refusal = self._refusal(request, address, rule, tls)
        if refusal is not None:
            self._tell(request, refusal.text, address)
            return refusal
        version = _tls_version(tls)
        if version == "TLSv1.2":
            self._record(request, "dicom.tls", "success", {"version": version, "address": address})
        identity = request.identity
        if identity is None:
            if rule is not None and rule.require_user:
                self._tell(request, "no user identity", address)
                return _NO_REASON
            return Admission(rule, tls_version=version)
        return self._with_user(request, rule, version, address)

    def pause_s(self, title: str, rule: DicomPeer | None, now: float) -> float:
        """Return how long the next request of a peer must wait, and count it."""
        if rule is None or rule.max_requests_per_s <= 0:
            return 0.0
        turn = max(self._next_request.get(title, 0.0), now)
        self._next_request[title] = turn + 1.0 / rule.max_requests_per_s
        return turn - now

    def _paced(self, address: str, now: float) -> bool:
        arrivals = self._arrivals.setdefault(address, deque())
        while arrivals and arrivals[0] < now - _MINUTE_S:
            arrivals.popleft()
        if len(arrivals) >= self.max_per_minute:
            return False
        arrivals.append(now)
        if len(self._arrivals) > _MAX_ADDRESSES:
            recent = now - _MINUTE_S
            self._arrivals = {
                a: times for a, times in self._arrivals.items() if times and times[-1] >= recent
            }
        return True

    def _refusal(
        self, request: AssociateRequest, address: str, rule: DicomPeer | None, tls: object | None
    ) -> Rejection | None:
        if self.table.strict:
            if request.called_ae != self.ae_title:
                return _CALLED_UNKNOWN
            if rule is None:
                return _CALLING_UNKNOWN
        version = _tls_version(tls)
        if rule is None:
            return _NO_REASON if version == "TLSv1.2" else None
        if not rule.may_call_from(address):
            return _CALLING_UNKNOWN
        if (rule.tls and not version) or (version == "TLSv1.2" and not rule.tls_1_2):
            return _NO_REASON
        if rule.certificate_sha256 and _fingerprint(tls) != rule.certificate_sha256.lower().replace(":", ""):
            return _NO_REASON
        if self.associations_of(request.calling_ae) >= rule.max_associations:
            return _LOCAL_LIMIT
        return None

    async def _with_user(
        self, request: AssociateRequest, rule: DicomPeer | None, version: str, address: str
    ) -> Admission | Rejection:
        identity = request.identity
        assert identity is not None
        needed = rule is not None and rule.require_user
        checked = self._can_check(identity)
        if not checked and not needed:
            # PS3.7 D.3.3.7.3: an acceptor that does not support the type does not answer it.
            return Admission(rule, tls_version=version)
        loop = asyncio.get_running_loop()
        user = await loop.run_in_executor(self.executor, self._user, identity) if checked else None
        if user is None:
            self._tell(request, "user identity refused", address)
            return _NO_REASON
        self._record(request, "dicom.login", "success", {"type": identity.kind, "address": address}, user)
        answer = b"" if identity.response_requested else None
        return Admission(rule, user, version, answer)

    def _can_check(self, identity: UserIdentity) -> bool:
        if identity.kind in {_USER, _USER_AND_PASSCODE}:
            return self.users is not None
        return identity.kind == _JWT and self.verify_token is not None

    def _user(self, identity: UserIdentity) -> str | None:
        """Return the user's name, or None; a name alone (type 1) proves nothing and is refused."""
        if identity.kind == _JWT and self.verify_token is not None:
            return self.verify_token(identity.primary)
        name = identity.primary.decode("utf-8", "replace")
        known = self.users is not None and self.users.knows(name, identity.secondary)
        return name if known and identity.kind == _USER_AND_PASSCODE else None

    def _tell(self, request: AssociateRequest, why: str, address: str) -> None:
        self._record(request, "dicom.associate", "refused", {"why": why, "address": address})

    def _record(
        self,
        request: AssociateRequest,
        kind: str,
        outcome: str,
        detail: dict[str, str | int],
        user: str = "",
    ) -> None:
        agent = f"{user}@{request.calling_ae}" if user else request.calling_ae
        self.record(AuditEvent(action="E", kind=kind, outcome=outcome, agent=agent, detail=detail))  # type: ignore[arg-type]


def _tls_version(tls: object | None) -> str:
    version = getattr(tls, "version", None)
    return str(version() or "") if version is not None else ""


def _fingerprint(tls: object | None) -> str:
    certificate = getattr(tls, "getpeercert", lambda *_: None)(True)  # noqa: FBT003  (ssl's signature)
    return hashlib.sha256(certificate).hexdigest() if certificate else ""
