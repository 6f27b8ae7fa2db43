"""Search criteria: ordinary parameters, chains, reverse chains and what every resource has."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from digital_twins.fhir._common_criteria import common_predicate, no_modifier
from digital_twins.fhir._composites import composite_predicate
from digital_twins.fhir._concepts import CONCEPT_MODIFIERS, concept_predicate
from digital_twins.fhir._conditions import Predicate, Test, key, matching
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._filter import filter_predicate
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._predicates import predicate
from digital_twins.fhir._word_search import words_predicate
from digital_twins.fhir._words import WORD_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from digital_twins.fhir._concepts import Concepts
    from digital_twins.fhir._definitions import SearchParameter
    from digital_twins.fhir._package_search import Extra

_HIERARCHIES = frozenset({"above", "below"})
_REFERENCE_MODIFIERS = _HIERARCHIES | {"identifier", "missing"}
MAX_STEPS = 6
"""References that one chain, or one ``_has`` in another, may follow."""

_KEPT_TEXT = 128


@lru_cache(maxsize=2048)
def _coded(kind: str, code: str, modifier: str, text: str) -> Predicate:
    """Return the predicate of a token parameter of R4: the same codes are asked for again and again."""
    known = definitions()
    return predicate(known.parameters[kind][code], modifier, text, types=known.types)


class Criteria:
    """Reads the criteria of a search over one resource type.

    Parameters
    ----------
    kind
        Resource type.
    concepts
        What the store knows of codes, for ``:in``, ``:above``, ``:below`` and ``:text``; None without.
    extra
        Search parameters of packages.
    depth
        References followed so far.
    """

    def __init__(
        self, kind: str, concepts: Concepts | None = None, extra: Extra | None = None, *, depth: int = 0
    ) -> None:
        self.kind = kind
        self.types = definitions().types
        self._concepts = concepts
        self.extra = extra or {}
        self._depth = depth
        self.chained = False
        """Whether a criterion that was read goes through other resources."""

    def parameter(self, code: str) -> SearchParameter | None:
        """Return the search parameter of this name."""
        known = definitions().parameters[self.kind].get(code)
        return known if known is not None or not self.extra else self.extra.get(self.kind, {}).get(code)

    def read(self, name: str, text: str) -> Predicate | None:
        """Return the predicate of ``name=text``; None when no such parameter is known.

        Raises
        ------
        FhirError
            400 for a modifier or a value that cannot be used.
        """
        if name[:1] != "_" and (plain := self.parameter(name)) is not None and plain.kind != "composite":
            return self._plain(plain, "", text)  # most criteria: no modifier, no chain
        if name.startswith("_has:"):
            return self._reverse_chain(name, text)
        head, dot, rest = name.partition(".")
        if dot:
            return self._chain(head, rest, text)
        code, _, modifier = name.partition(":")
        if (special := self._special(code, modifier, text)) is not None:
            return special
        parameter = self.parameter(code)
        if parameter is None:
            return None
        if parameter.kind == "composite":
            if modifier:
                raise bad_request("A composite search parameter has no modifiers.", code="not-supported")
            return composite_predicate(parameter, text)
        if parameter.kind == "token" and modifier in CONCEPT_MODIFIERS:
            return concept_predicate(self._concepts, parameter, modifier, text)
        return self._plain(parameter, modifier, text)

    def _plain(self, parameter: SearchParameter, modifier: str, text: str) -> Predicate:
        if parameter.kind == "reference" and modifier:  # a set of all types is not made for each search
            if modifier not in _REFERENCE_MODIFIERS and modifier not in self.types:
                raise no_modifier(parameter.code)
            self.chained = self.chained or modifier in _HIERARCHIES
        elif parameter.kind == "token" and not parameter.definition and len(text) <= _KEPT_TEXT:
            return _coded(self.kind, parameter.code, modifier, text)
        return predicate(parameter, modifier, text, types=self.types)

    def _special(self, code: str, modifier: str, text: str) -> Predicate | None:
        """Return the predicate of what is no parameter of one type; None for those that are."""
        if code in WORD_PARAMETERS and not modifier:
            if self._concepts is None or not self._concepts.words:
                raise bad_request(f"{code} cannot be used here, only in a search.", code="not-supported")
            return words_predicate(self.kind, code, text)
        if code == "_filter" and not modifier:
            return filter_predicate(self, text)
        found = common_predicate(code, modifier, text)
        self.chained = self.chained or (code == "_list" and found is not None)
        return found

    def _inner(self, kind: str) -> Criteria:
        if self._depth >= MAX_STEPS:
            raise bad_request(f"A chain follows at most {MAX_STEPS} references.", code="too-costly")
        self.chained = True
        return Criteria(kind, self._concepts, self.extra, depth=self._depth + 1)

    def _chain(self, head: str, rest: str, text: str) -> Predicate | None:
        code, _, wanted = head.partition(":")
        parameter = self.parameter(code)
        if parameter is None or parameter.kind != "reference":
            return None
        if wanted and wanted not in self.types:
            raise bad_request("The type in a chain is not a resource type of FHIR R4.", code="value")
        return self.through(parameter, lambda inner: inner.read(rest, text), wanted=wanted)

    def through(
        self, parameter: SearchParameter, read: Callable[[Criteria], Predicate | None], *, wanted: str = ""
    ) -> Predicate | None:
        """Return the resources whose reference points to what ``read`` finds among its types.

        None when none of the types knows the criterion; the refusal of the last when all of them refuse it.
        """
        kinds = [wanted] if wanted else list(parameter.targets) or sorted(self.types)
        tests, refused, known = [], None, False
        for kind in kinds:
            try:
                found = read(self._inner(kind))
            except FhirError as error:
                refused = error  # another type of the reference may have the parameter with these values
                continue
            known = known or found is not None
            if found is not None:
                sql, arguments = matching(kind, found)
                where, numbers = key(parameter)
                condition = (
                    f"{where} AND target IN (SELECT r.type||'/'||r.id FROM fhir_resource r WHERE {sql})"  # noqa: S608  (built from our own texts)  # nosec B608
                )
                tests.append(Test("fhir_reference", condition, (*numbers, *arguments)))
        if not tests and refused is not None:
            raise refused
        return Predicate(tuple(tests), rank=3) if known else None

    def _reverse_chain(self, name: str, text: str) -> Predicate | None:
        parts = name.split(":", 3)
        if len(parts) != 4:
            raise bad_request("_has is written _has:Type:reference:parameter.", code="value")
        return self.reverse_through(parts[1], parts[2], lambda inner: inner.read(parts[3], text))

    def reverse_through(
        self, kind: str, code: str, read: Callable[[Criteria], Predicate | None]
    ) -> Predicate | None:
        """Return the resources that a reference of what ``read`` finds among a type points to."""
        if kind not in self.types:
            raise bad_request("_has is written _has:Type:reference:parameter.", code="value")
        inner = self._inner(kind)
        parameter, found = inner.parameter(code), read(inner)
        if parameter is None or parameter.kind != "reference" or found is None:
            return None
        sql, arguments = matching(kind, found)
        where, numbers = key(parameter)
        condition = (
            f"r.type||'/'||r.id IN (SELECT target FROM fhir_reference WHERE {where} AND rid IN "  # noqa: S608  (built from our own texts)  # nosec B608
            f"(SELECT r.rid FROM fhir_resource r WHERE {sql}))"
        )
        return Predicate((Test("", condition, (*numbers, *arguments)),), rank=7)
