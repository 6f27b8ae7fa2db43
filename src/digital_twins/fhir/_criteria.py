"""Search criteria: ordinary parameters, chains, reverse chains and what every resource has."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from digital_twins._errors import InputError
from digital_twins.fhir._composites import composite_predicate
from digital_twins.fhir._concepts import CONCEPT_MODIFIERS, concept_predicate
from digital_twins.fhir._conditions import Predicate, Test, key, matching
from digital_twins.fhir._definitions import definitions
from digital_twins.fhir._outcome import FhirError, bad_request
from digital_twins.fhir._predicates import date_condition, predicate, split_values
from digital_twins.fhir._validate import ID

if TYPE_CHECKING:
    from digital_twins.fhir._concepts import Concepts
    from digital_twins.fhir._definitions import SearchParameter
    from digital_twins.fhir._package_search import Extra

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
        if name.startswith("_has:"):
            return self._reverse_chain(name, text)
        head, dot, rest = name.partition(".")
        if dot:
            return self._chain(head, rest, text)
        code, _, modifier = name.partition(":")
        if code == "_id":
            return _ids(text, modifier)
        if code == "_lastUpdated":
            return _updated(text, modifier)
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
            if modifier not in {"identifier", "missing"} and modifier not in self.types:
                raise _no_modifier(parameter.code)
        elif parameter.kind == "token" and not parameter.definition and len(text) <= _KEPT_TEXT:
            return _coded(self.kind, parameter.code, modifier, text)
        return predicate(parameter, modifier, text, types=self.types)

    def _inner(self, kind: str) -> Criteria:
        if self._depth >= MAX_STEPS:
            raise bad_request(f"A chain follows at most {MAX_STEPS} references.", code="too-costly")
        return Criteria(kind, self._concepts, self.extra, depth=self._depth + 1)

    def _chain(self, head: str, rest: str, text: str) -> Predicate | None:
        code, _, wanted = head.partition(":")
        parameter = self.parameter(code)
        if parameter is None or parameter.kind != "reference":
            return None
        if wanted and wanted not in self.types:
            raise bad_request("The type in a chain is not a resource type of FHIR R4.", code="value")
        kinds = [wanted] if wanted else list(parameter.targets) or sorted(self.types)
        tests, refused, known = [], None, False
        for kind in kinds:
            try:
                found = self._inner(kind).read(rest, text)
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
        if len(parts) != 4 or parts[1] not in self.types:
            raise bad_request("_has is written _has:Type:reference:parameter.", code="value")
        inner = self._inner(parts[1])
        parameter, found = inner.parameter(parts[2]), inner.read(parts[3], text)
        if parameter is None or parameter.kind != "reference" or found is None:
            return None
        sql, arguments = matching(parts[1], found)
        where, numbers = key(parameter)
        condition = (
            f"r.type||'/'||r.id IN (SELECT target FROM fhir_reference WHERE {where} AND rid IN "  # noqa: S608  (built from our own texts)  # nosec B608
            f"(SELECT r.rid FROM fhir_resource r WHERE {sql}))"
        )
        return Predicate((Test("", condition, (*numbers, *arguments)),), rank=7)


def _no_modifier(code: str) -> FhirError:
    return bad_request(f"The search parameter '{code}' has no modifier of this name.", code="not-supported")


def _ids(text: str, modifier: str) -> Predicate:
    values = [v for v in split_values(text) if ID.fullmatch(v)]
    if modifier and modifier != "not":
        raise _no_modifier("_id")
    marks = ",".join("?" * len(values))
    test = Test("", f"r.id IN ({marks})" if values else "1=0", tuple(values))
    return Predicate((test,), rank=-1, negated=modifier == "not")


def _updated(text: str, modifier: str) -> Predicate:
    if modifier:
        raise _no_modifier("_lastUpdated")
    tests = []
    for value in split_values(text):
        try:
            sql, arguments = date_condition(value)
        except InputError:
            raise bad_request("The value of '_lastUpdated' is not a date.", code="value") from None
        # A resource's moment has no width: it lies in [low, low].
        sql = sql.replace("high<=", "r.updated<").replace("high>", "r.updated>=").replace("low", "r.updated")
        tests.append(Test("", sql, arguments))
    return Predicate(tuple(tests), rank=9)
