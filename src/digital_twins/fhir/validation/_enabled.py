"""Whether a question is enabled by the answers to others (FHIR R4, Questionnaire.item.enableWhen)."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def enabled(question: Mapping[str, Any], response: Mapping[str, Any]) -> bool:
    """Whether the conditions of a question hold in a response; a question without any is enabled."""
    conditions = question.get("enableWhen")
    if not conditions:
        return True
    results = [_met(condition, response) for condition in conditions]
    return all(results) if question.get("enableBehavior") == "all" else any(results)


def _met(condition: Mapping[str, Any], response: Mapping[str, Any]) -> bool:
    given = list(_answers(response, condition.get("question")))
    wanted, how = value_of(condition, "answer"), condition.get("operator", "=")
    if how == "exists":
        return bool(given) is (wanted is not False)
    if how == "!=":
        return bool(given) and not any(_same(one, wanted) for one in given)
    if how == "=":
        return any(_same(one, wanted) for one in given)
    return any(_ordered(one, wanted, _ORDER[how]) for one in given if how in _ORDER)


def value_of(holder: Mapping[str, Any], stem: str) -> Any:
    """Return the value of a choice element, e.g. ``valueCoding`` for the stem ``value``."""
    names = (n for n in holder if n.startswith(stem) and n[len(stem) : len(stem) + 1].isupper())
    return next((holder[name] for name in names), None)


def _answers(holder: Any, link: Any) -> Iterator[Any]:
    """Yield the answers to a question wherever it stands."""
    for item in holder.get("item", ()):
        for answer in item.get("answer", ()):
            if item.get("linkId") == link:
                yield value_of(answer, "value")
            yield from _answers(answer, link)
        yield from _answers(item, link)


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(given, dict) and isinstance(wanted, dict):
        names = ("value", "code", "system") if "value" in wanted else ("code", "system")
        return all(given.get(name) == wanted.get(name) for name in names)
    return bool(given == wanted)


def _ordered(given: Any, wanted: Any, compare: Callable[[Any, Any], bool]) -> bool:
    if isinstance(given, dict) and isinstance(wanted, dict):
        given, wanted = given.get("value"), wanted.get("value")
    try:
        return compare(given, wanted)
    except TypeError:
        return False
