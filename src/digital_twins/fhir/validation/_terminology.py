"""Whether a code belongs to a value set, as far as the code systems at hand tell."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digital_twins.fhir.validation._definitions import DefinitionSet

_GRAMMARS = {
    "urn:ietf:bcp:47": re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*"),
    "urn:ietf:bcp:13": re.compile(r"[\w!#$&^+.-]+/[\w!#$&^+.-]+(;.*)?"),
}
_DEEPEST = 20


class Terminology:
    """Membership of value sets.

    Parameters
    ----------
    definitions
        Where code systems and value sets are looked up.
    """

    def __init__(self, definitions: DefinitionSet) -> None:
        self._definitions = definitions
        self._cached = lru_cache(maxsize=100_000)(self._member)

    def contains(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a value set holds a code; None where that cannot be told here.

        Parameters
        ----------
        system
            The code's system, or None for an element of type ``code``, whose system the value set implies.
        """
        return self._cached(value_set, system, code, 0)

    def known(self, system: str, code: str) -> bool | None:
        """Whether a code system has a code; None where it is not at hand or not complete."""
        grammar = _GRAMMARS.get(system.partition("|")[0])
        if grammar is not None:
            return grammar.fullmatch(code) is not None
        found = self._definitions.code_system(system)
        if found is None:
            return None
        if code in found["codes"] or (found["caseless"] and code.casefold() in _folded(found)):
            return True
        return False if found["complete"] else None

    def has_value_set(self, url: str) -> bool:
        """Whether a value set is at hand."""
        composed = self._definitions.value_set(url)
        return composed is not None and "include" in composed

    def subsumes(self, system: str, ancestor: str, code: str) -> bool | None:
        """Whether a code is another one or below it; None where the code system is not at hand."""
        if self._definitions.code_system(system) is None:
            return None
        return self._below(system, code, ancestor)

    def display(self, system: str, code: str) -> str | None:
        """Return the display of a code, where it is at hand."""
        found = self._definitions.code_system(system)
        row = found["codes"].get(code) if found else None
        return row[0] if row else None

    def displayed(self, system: str, code: str, display: str) -> bool:
        """Whether a display is not known to differ from the code system's; case and spaces are ignored."""
        known = self.display(system, code)
        return known is None or " ".join(known.split()).casefold() == " ".join(display.split()).casefold()

    def _member(self, value_set: str, system: str | None, code: str, depth: int) -> bool | None:
        composed = self._definitions.value_set(value_set)
        if composed is None or "include" not in composed or depth > _DEEPEST:
            return None
        included = _any(self._in_part(part, system, code, depth) for part in composed["include"])
        if included is not True:
            return included
        excluded = _any(self._in_part(part, system, code, depth) for part in composed.get("exclude", ()))
        return None if excluded is None else not excluded

    def _in_part(self, part: dict[str, Any], system: str | None, code: str, depth: int) -> bool | None:
        answers: list[bool | None] = [
            self._cached(url, system, code, depth + 1) for url in part.get("valueSet", ())
        ]
        if "system" in part:
            if system is not None and system != part["system"]:
                return False
            answers.append(self._in_system(part, code))
        return _all(answers)

    def _in_system(self, part: dict[str, Any], code: str) -> bool | None:
        if "codes" in part:
            return code in part["codes"]
        system = f"{part['system']}|{part['version']}" if "version" in part else part["system"]
        known = self.known(system, code)
        if known is not True or "filter" not in part:
            return known
        return _all([self._passes(system, code, *rule) for rule in part["filter"]])

    def _passes(self, system: str, code: str, name: str, operator: str, value: str | None) -> bool | None:
        if (
            value is None
            or name not in {"concept", "code"}
            or operator
            not in {
                "is-a",
                "descendent-of",
                "is-not-a",
                "=",
                "regex",
            }
        ):
            return None
        if operator == "=":
            return code == value
        if operator == "regex":
            return re.fullmatch(value, code) is not None
        below = self._below(system, code, value)
        if operator == "descendent-of":
            return below and code != value
        return below if operator == "is-a" else not below

    def _below(self, system: str, code: str, ancestor: str) -> bool:
        found = self._definitions.code_system(system)
        codes = found["codes"] if found else {}
        at: str | None = code
        for _ in range(len(codes) + 1):
            if at == ancestor:
                return True
            if at is None or at not in codes:
                return False
            at = codes[at][1]
        return False


def _folded(system: dict[str, Any]) -> set[str]:
    if "folded" not in system:
        system["folded"] = {code.casefold() for code in system["codes"]}
    folded: set[str] = system["folded"]
    return folded


def _any(answers: Any) -> bool | None:
    """Three-valued or."""
    seen = list(answers)
    return True if True in seen else None if None in seen else False


def _all(answers: list[bool | None]) -> bool | None:
    """Three-valued and."""
    return False if False in answers else None if None in answers else True
