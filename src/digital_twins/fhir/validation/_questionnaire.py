"""A QuestionnaireResponse against its Questionnaire (FHIR R4, questionnaireresponse.html, section 12.26)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.validation._answers import answer_issues
from digital_twins.fhir.validation._enabled import enabled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from digital_twins.fhir.validation._validator import Validator

Items = list[tuple[dict[str, Any], str]]
_UNFINISHED = frozenset({"in-progress", "stopped", "entered-in-error"})


@dataclass(frozen=True, slots=True)
class _Form:
    """One check: who knows codes, the whole response, and whether an answer may still be missing."""

    validator: Validator
    response: Mapping[str, Any]
    unfinished: bool


def questionnaire_of(validator: Validator, response: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the questionnaire that a response names, contained or at hand; None where it is neither."""
    url = response.get("questionnaire")
    if not isinstance(url, str):
        return None
    if url.startswith("#"):
        inner = response.get("contained", ())
        return next((r for r in inner if isinstance(r, dict) and r.get("id") == url[1:]), None)
    return validator.definitions.questionnaire(url)


def response_issues(
    validator: Validator, response: Mapping[str, Any], questionnaire: Mapping[str, Any], path: str
) -> Iterator[Issue]:
    """Yield what is wrong with the answers of a response whose structure is sound."""
    form = _Form(validator, response, response.get("status") in _UNFINISHED)
    yield from _level(form, _list(questionnaire, "item"), _found(response, path), path)


def _list(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = holder.get(name, [])
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _found(holder: Mapping[str, Any], path: str) -> Items:
    return [(item, f"{path}.item[{i}]") for i, item in enumerate(_list(holder, "item"))]


def _level(form: _Form, asked: list[dict[str, Any]], found: Items, path: str) -> Iterator[Issue]:
    """Check the items of one level, each question with all of its answers."""
    known = {item.get("linkId") for item in asked}
    for item, at in found:
        if item.get("linkId") not in known:
            yield Issue("structure", "The linkId is not in the questionnaire at this place.", f"{at}.linkId")
    for question in asked:
        mine = [(item, at) for item, at in found if item.get("linkId") == question.get("linkId")]
        yield from _question(form, question, mine, path)


def _question(form: _Form, question: dict[str, Any], mine: Items, path: str) -> Iterator[Issue]:
    kind = question.get("type")
    if not enabled(question, form.response):
        for item, at in mine:
            if item.get("answer") or item.get("item"):
                yield Issue("structure", "There is an answer to an item that is not enabled.", at)
        return
    if not mine:
        if question.get("required") and not form.unfinished and kind != "display":
            yield Issue("required", "A required item has no answer.", path)
        return
    if len(mine) > 1 and not (kind == "group" and question.get("repeats")):
        yield Issue("structure", "Only one item with this linkId may be there.", mine[1][1])
    for item, at in mine:
        yield from _item(form, question, item, at)


def _item(form: _Form, question: dict[str, Any], item: dict[str, Any], at: str) -> Iterator[Issue]:
    kind = question.get("type")
    if kind in {"group", "display", "question"} and "answer" in item:
        yield Issue("structure", f"An item of type {kind} has no answers.", at)
    elif kind == "group":
        yield from _group(form, question, item, at)
    elif kind != "display":
        yield from _answers(form, question, item, at)


def _group(form: _Form, question: dict[str, Any], item: dict[str, Any], at: str) -> Iterator[Issue]:
    inside = _found(item, at)
    if question.get("required") and not inside and not form.unfinished:
        yield Issue("required", "A required group has no items.", at)
        return
    yield from _level(form, _list(question, "item"), inside, at)


def _answers(form: _Form, question: dict[str, Any], item: dict[str, Any], at: str) -> Iterator[Issue]:
    answers = _list(item, "answer")
    if question.get("required") and not answers and not form.unfinished:
        yield Issue("required", "A required item has no answer.", at)
    if _list(item, "item"):
        yield Issue("structure", "The items below a question stand below its answer.", at)
    if len(answers) > 1 and not question.get("repeats"):
        yield Issue("structure", "Only one answer may be given.", at)
    yield from answer_issues(form.validator, question, answers, at, form.unfinished)
    for index, answer in enumerate(answers):
        place = f"{at}.answer[{index}]"
        if "item" in question or "item" in answer:
            yield from _level(form, _list(question, "item"), _found(answer, place), place)
