"""Who acts: carried with the request (and its writes) by a context variable, so no layer can forget it."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from digital_twins.auth._refusals import AccessDeniedError, NotSignedInError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from digital_twins.auth._scopes import FhirScope

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who signed in, or a client with a token.

    Attributes
    ----------
    name
        Agent of the audit trail: ``user:anna`` or ``client:app``, a user by an app ``user:anna client:app``.
    roles
        Roles of the user; empty for a client that acts for itself.
    actions
        Actions of the role table that it may do.
    scopes
        Rights on FHIR resources.
    patient
        Id of the Patient in context, to whom scopes of level ``patient`` are bound.
    session
        Digest of the session for somebody at the web pages, else empty.
    emergency
        Whether the glass is broken.
    """

    name: str
    roles: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    scopes: tuple[FhirScope, ...] = ()
    patient: str | None = None
    session: str = ""
    emergency: bool = False
    memo: dict[tuple[str, str], tuple[FhirScope, ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    free: dict[tuple[str, str], bool] = field(default_factory=dict, compare=False, repr=False)

    def scopes_for(self, kind: str, action: str) -> tuple[FhirScope, ...]:
        """Return the scopes that speak of an action (a letter of ``cruds``) on a resource type."""
        found = self.memo.get((kind, action))
        if found is None:
            found = tuple(scope for scope in self.scopes if scope.covers(kind, action))
            self.memo[kind, action] = found
        return found

    def free_for(self, kind: str, action: str) -> bool:
        """Whether the action is allowed on every resource of the type: no patient's bounds, no condition."""
        found = self.free.get((kind, action))
        if found is None:
            found = any(s.level != "patient" and s.condition is None for s in self.scopes_for(kind, action))
            self.free[kind, action] = found
        return found


NOBODY = Principal("anonymous")
"""A request without valid credentials on a node where people sign in: it may do nothing."""

_ACTING: ContextVar[Principal | None] = ContextVar("acting", default=None)


def acting_principal() -> Principal | None:
    """Return who acts here; None is the node itself, or a node where nobody signs in."""
    return _ACTING.get()


class acting_as:  # noqa: N801  (a context manager; a generator in its place would cost each request more)
    """Let what happens inside the block, and writes that it queues, count as done by somebody.

    ``acting_as(None)`` is for work of the node itself that a request only sets off.

    Parameters
    ----------
    principal
        Who acts.
    """

    __slots__ = ("_before", "_principal")

    def __init__(self, principal: Principal | None) -> None:
        self._principal = principal

    def __enter__(self) -> None:
        self._before = _ACTING.set(self._principal)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ACTING.reset(self._before)


def require_role(*roles: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function run only for somebody who has one of the roles; everybody else is refused.

    Raises
    ------
    NotSignedInError
        On the call: nobody acts here.
    AccessDeniedError
        On the call: who acts has none of the roles.

    Examples
    --------
    >>> @require_role("physicist", "clinician")
    ... def approve_plan(plan): ...
    """

    def guarded(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            principal = acting_principal()
            if principal is None or principal is NOBODY:
                raise NotSignedInError(
                    "The call was refused.",
                    "Nobody is signed in.",
                    "Sign in, or run it inside acting_as(...).",
                )
            if principal.roles.isdisjoint(roles):
                raise AccessDeniedError(
                    "The call was refused.",
                    f"It needs one of the roles {', '.join(sorted(roles))}.",
                    "Ask an administrator for the role.",
                )
            return function(*args, **kwargs)

        return call

    return guarded
