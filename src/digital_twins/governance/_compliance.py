"""Part 11 in a few calls: an audit trail, functions that need a signature or a role, and the report."""

from __future__ import annotations

import functools
import json
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, overload

from digital_twins._errors import ConflictError, InputError
from digital_twins.audit import AuditEvent, AuditTrail
from digital_twins.auth import acting_principal, require_role
from digital_twins.governance._compliance_report import compliance_pdf
from digital_twins.governance.signatures._refusal import SignatureRequiredError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from digital_twins.governance.signatures._manifest import ElectronicSignature, Meaning
    from digital_twins.governance.signatures._signing import Signatures, SigningComponents

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Act:
    """Components that were shown for the next signed call."""

    components: SigningComponents
    given: list[ElectronicSignature]


_ACT: ContextVar[_Act | None] = ContextVar("signing", default=None)


class ComplianceManager:
    """Electronic records and signatures after a regulation.

    Parameters
    ----------
    regulation
        ``"21CFR11"``: the only one whose rules are known here.
    signatures
        Of a node with accounts; without it functions that need a signature are refused.

    Raises
    ------
    InputError
        Another regulation.

    Examples
    --------
    >>> compliance = ComplianceManager(regulation="21CFR11", signatures=signatures)
    >>> @compliance.require_signature
    ... def approve(plan, clinician): ...
    >>> with compliance.signing(SigningComponents(session, name="anna", password=..., code=...)):
    ...     approve(plan, clinician)
    """

    def __init__(self, regulation: str = "21CFR11", *, signatures: Signatures | None = None) -> None:
        if regulation != "21CFR11":
            raise InputError(
                "The compliance manager was not made.",
                f"The rules of '{regulation}' are not known here.",
                'Use regulation="21CFR11".',
            )
        self.regulation = "21 CFR Part 11"
        self._signatures = signatures
        self._trail: AuditTrail | None = None
        self._anchor: Path | None = None
        self._takes: frozenset[str] = frozenset()

    def enable_audit_trail(
        self,
        log_path: str | os.PathLike[str],
        *,
        include_user_actions: bool = True,
        include_data_access: bool = True,
        anchor: str | os.PathLike[str] | None = None,
    ) -> None:
        """Open the audit trail that this manager writes to and reports from, or make it.

        Parameters
        ----------
        log_path
            The trail's file; see `digital_twins.audit.AuditTrail` for what is beside it.
        include_user_actions
            Take events of actions that make, change, remove or run something.
        include_data_access
            Take events of reading.
        anchor
            Second file, out of reach of whoever can write the trail's folder.

        Raises
        ------
        ConflictError
            A trail is open already.
        StorageError
            The file cannot be made or written.
        """
        if self._trail is not None:
            raise ConflictError(
                "The audit trail was not opened.", "One is open.", "Call close() before, or use that one."
            )
        path = Path(log_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._trail = AuditTrail(path, anchor=anchor)
        self._anchor = None if anchor is None else Path(anchor)
        self._takes = frozenset(("CUDE" if include_user_actions else "") + ("R" * include_data_access))

    def record(
        self,
        action: Literal["C", "R", "U", "D", "E"],
        kind: str,
        *,
        entity: str | None = None,
        outcome: Literal["success", "refused", "failure"] = "success",
        detail: dict[str, str | int] | None = None,
    ) -> bool:
        """Write one event of who acts; return whether the trail takes events of this kind of action.

        Raises
        ------
        ConflictError
            No trail is open.
        InputError, StorageError
            As for `digital_twins.audit.AuditEvent` and `AuditTrail.append`.
        """
        trail = self._opened()
        if action not in self._takes:
            return False
        principal = acting_principal()
        agent = "library" if principal is None else principal.name
        event = AuditEvent(action, kind, outcome, agent, entity=entity, detail=detail or {})
        return trail.append([event]) == 1

    @contextmanager
    def signing(self, components: SigningComponents) -> Iterator[list[ElectronicSignature]]:
        """Let the one call inside of the block that needs a signature be signed with these components.

        Gives a list that holds the signature afterwards. A second such call needs a block of its own: a
        signature is an act for each record.
        """
        act = _Act(components, [])
        token = _ACT.set(act)
        try:
            yield act.given
        finally:
            _ACT.reset(token)

    @overload
    def require_signature(self, function: Callable[P, T], /) -> Callable[P, T]: ...

    @overload
    def require_signature(
        self, /, *, meaning: Meaning = ..., record: Callable[..., bytes] | None = ...
    ) -> Callable[[Callable[P, T]], Callable[P, T]]: ...

    def require_signature(
        self,
        function: Callable[P, T] | None = None,
        /,
        *,
        meaning: Meaning = "approval",
        record: Callable[..., bytes] | None = None,
    ) -> Any:
        """Let a function run only when its first argument is signed; bare or with parameters.

        The signature is durable before the function runs, and is about the content that the function gets.
        What the function does then is its own event: ``success`` or ``failure``.

        Parameters
        ----------
        function
            What needs the signature.
        meaning
            What the signature means.
        record
            Returns the bytes that are signed, from the call's arguments; by default those of the first one:
            bytes, text, a data class, what has ``to_json()``, or what JSON can hold.

        Raises
        ------
        SignatureRequiredError
            On the call: no act of signing is open, or it was used.
        NotSignedInError, AccessDeniedError, InputError, ConflictError
            On the call: as for `Signatures.sign`.
        """
        if function is None:
            return lambda inner: self._guarded(inner, meaning, record or _content)
        return self._guarded(function, meaning, record or _content)

    def require_role(self, *roles: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Let a function run only for somebody with a role; see `digital_twins.auth.require_role`."""
        return require_role(*roles)

    def generate_report(self, output_path: str | os.PathLike[str], *, period: str) -> Path:
        """Verify the trail and write the PDF about a period; the file appears whole or not at all.

        Parameters
        ----------
        output_path
            File to write; its folder is made where it is missing.
        period
            As for `digital_twins.audit.period_bounds`, e.g. ``"2026-Q1"``.

        Raises
        ------
        ConflictError
            No trail is open.
        InputError
            The period was not understood.
        StorageError
            The trail cannot be read.
        """
        target = Path(output_path)
        made = compliance_pdf(
            self._opened().path,
            period,
            regulation=self.regulation,
            anchor=self._anchor,
            signatures=self._signatures,
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_bytes(made)
        temporary.replace(target)
        return target

    def close(self) -> None:
        """Sign and close the trail."""
        if self._trail is not None:
            self._trail.close()
            self._trail = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> AuditTrail:
        if self._trail is None:
            raise ConflictError(
                "This is not possible yet.", "No audit trail is open.", "Call enable_audit_trail(...) first."
            )
        return self._trail

    def _guarded(
        self, function: Callable[P, T], meaning: Meaning, record: Callable[..., bytes]
    ) -> Callable[P, T]:
        name = getattr(function, "__qualname__", "function")

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            act = _ACT.get()
            if self._signatures is None or act is None or act.given:
                self._note(name, "refused")
                raise SignatureRequiredError(name)
            content = record(*args, **kwargs)
            act.given.append(
                self._signatures.sign(content, act.components, record=f"call:{name}", meaning=meaning)
            )
            try:
                answer = function(*args, **kwargs)
            except BaseException:
                self._note(name, "failure", act.given[0])
                raise
            self._note(name, "success", act.given[0])
            return answer

        return call

    def _note(
        self,
        name: str,
        outcome: Literal["success", "refused", "failure"],
        signature: ElectronicSignature | None = None,
    ) -> None:
        if self._trail is not None:
            detail: dict[str, str | int] = (
                {"signature": signature.manifest.signature_id} if signature else {"why": "signature"}
            )
            self.record("E", "governance.signed-call", entity=f"call:{name}", outcome=outcome, detail=detail)


def _content(*args: Any, **kwargs: Any) -> bytes:
    """Return the canonical bytes of the first argument."""
    value = args[0] if args else next(iter(kwargs.values()), None)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    to_json = getattr(value, "to_json", None)
    if callable(to_json):
        text = to_json()
        return text if isinstance(text, bytes) else str(text).encode()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    try:
        if value is None:
            raise TypeError
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InputError(
            "The record was not signed.",
            f"A {type(value).__name__} has no bytes of its own that could be signed.",
            "Give require_signature(record=...) a function that returns its bytes, or a to_json() to it.",
        ) from error
