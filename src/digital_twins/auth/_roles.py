"""The role x action table, as data in ``_data/roles.json``; what is not in it is denied."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.auth._scopes import FhirScope, parse_fhir_scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody may do: actions of the node's doors, and scopes on FHIR resources."""

    actions: frozenset[str]
    fhir: tuple[FhirScope, ...]


def _rights(row: Mapping[str, Any], actions: Iterable[str]) -> Rights:
    scopes = [parse_fhir_scope(f"user/{text}") for text in row["fhir"]]
    found = frozenset(row["actions"])
    if None in scopes or not found <= set(actions):
        raise ValueError("roles.json names an unknown action or scope")
    return Rights(found, tuple(scope for scope in scopes if scope is not None))


@cache
def _table() -> tuple[Mapping[str, str], Mapping[str, Rights], Rights]:
    read = json.loads((files("digital_twins.auth") / "_data" / "roles.json").read_text(encoding="utf-8"))
    actions: dict[str, str] = read["actions"]
    roles = {name: _rights(row, actions) for name, row in read["roles"].items()}
    return actions, roles, _rights(read["emergency"], actions)


def known_actions() -> Mapping[str, str]:
    """Return every action with what it means."""
    return _table()[0]


def role_table() -> Mapping[str, Rights]:
    """Return the rights of every role, e.g. ``role_table()["clinician"].actions``."""
    return _table()[1]


def emergency_rights() -> Rights:
    """Return what somebody who broke the glass may do beside the rights of the roles."""
    return _table()[2]


def rights_of(roles: Iterable[str], *, emergency: bool = False) -> Rights:
    """Return the rights of several roles together; a role that the table does not have gives nothing."""
    table = role_table()
    rows = [table[name] for name in roles if name in table]
    if emergency:
        rows.append(emergency_rights())
    actions = frozenset().union(*(row.actions for row in rows))
    return Rights(actions, tuple(dict.fromkeys(scope for row in rows for scope in row.fhir)))


def check_roles(roles: Iterable[str]) -> tuple[str, ...]:
    """Return the roles sorted.

    Raises
    ------
    InputError
        One of them is not in the table.
    """
    names = tuple(sorted(set(roles)))
    unknown = [name for name in names if name not in role_table()]
    if unknown or not names:
        raise InputError(
            "The roles cannot be used.",
            f"Unknown: {', '.join(unknown)}." if unknown else "None was given.",
            f"Known roles: {', '.join(sorted(role_table()))}.",
        )
    return names
