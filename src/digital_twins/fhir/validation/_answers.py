"""The answers to one question: their type, and what options and extensions of the question allow.

Extensions of FHIR R4 and SDC 3.0.0: minValue, maxValue, minLength, regex, maxDecimalPlaces, mimeType,
questionnaire-minOccurs, -maxOccurs, -unitOption, -unitValueSet, -referenceResource and -optionExclusive.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.fhirpath._types import resource_types
from digital_twins.fhir.validation._enabled import value_of
from digital_twins.fhir.validation._references import target_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from digital_twins.fhir.validation._validator import Validator

_TYPES = {
    "boolean": {"Boolean"}, "decimal": {"Decimal"}, "integer": {"Integer"}, "date": {"Date"},
    "dateTime": {"DateTime"}, "time": {"Time"}, "string": {"String"}, "text": {"String"}, "url": {"Uri"},
    "attachment": {"Attachment"}, "reference": {"Reference"}, "quantity": {"Quantity"},
    "choice": {"Coding", "String", "Date", "Time", "Integer", "Reference", "Quantity", "Uri"},
    "open-choice": {"Coding", "String", "Date", "Time", "Integer", "Reference", "Quantity", "Uri"},
}  # fmt: skip
_TYPED_URL = re.compile(r"https?://[^/]+/(?:.*/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def answer_issues(
    validator: Validator,
    question: Mapping[str, Any],
    answers: list[dict[str, Any]],
    at: str,
    unfinished: bool,
) -> Iterator[Issue]:
    """Yield what is wrong with the answers to a question."""
    extras = _extras(question)
    count = len(answers)
    low, high = extras.get("minOccurs", [0])[0], extras.get("maxOccurs", [None])[0]
    if count < low and not unfinished:
        yield Issue("required", f"At least {low} answers are needed.", at)
    if high is not None and count > high:
        yield Issue("structure", f"At most {high} answers are allowed.", at)
    exclusive = [
        value_of(option, "value") for option in question.get("answerOption", ()) if _exclusive(option)
    ]
    if count > 1 and any(_listed(value_of(answer, "value"), exclusive) for answer in answers):
        yield Issue("business-rule", "An exclusive option does not stand beside other answers.", at)
    for index, answer in enumerate(answers):
        place = f"{at}.answer[{index}]"
        name = next((n for n in answer if n.startswith("value")), None)
        if name is None:
            continue
        kind = str(question.get("type"))
        if kind in _TYPES and name.removeprefix("value") not in _TYPES[kind]:
            yield Issue("structure", f"The answer to an item of type {kind} has another type.", place)
            continue
        problem = (
            _option_problem(validator, question, answer[name])
            or value_problem(question, answer[name], extras)
            or _special_problem(validator, answer[name], kind, extras)
        )
        if problem is not None:
            yield Issue("value", problem, place)


def _extras(holder: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of extensions by the last part of their URL."""
    found: dict[str, list[Any]] = {}
    for extension in holder.get("extension", ()):
        name = (
            str(extension.get("url")).rpartition("/")[2].removeprefix("sdc-").removeprefix("questionnaire-")
        )
        found.setdefault(name, []).append(value_of(extension, "value"))
    return found


def _exclusive(option: Mapping[str, Any]) -> bool:
    return _extras(option).get("optionExclusive") == [True]


def _listed(value: Any, options: list[Any]) -> bool:
    if isinstance(value, dict):
        names = ("system", "code") if "code" in value else tuple(value)
        return any(isinstance(o, dict) and all(o.get(n) == value.get(n) for n in names) for o in options)
    return any(type(o) is type(value) and o == value for o in options)


def _option_problem(validator: Validator, question: Mapping[str, Any], value: Any) -> str | None:
    options = [value_of(option, "value") for option in question.get("answerOption", ())]
    is_open = question.get("type") == "open-choice" and isinstance(value, str)
    if options and not is_open and not _listed(value, options):
        return "The answer is not one of the options."
    value_set = question.get("answerValueSet")
    if not isinstance(value_set, str) or is_open:
        return None
    if isinstance(value, dict):
        return (
            "The answer is not in the value set." if validator.coded_in(value, value_set) is False else None
        )
    return "The answer is not in the value set."


def value_problem(question: Mapping[str, Any], value: Any, extras: Mapping[str, list[Any]]) -> str | None:
    """Say whether an answer is too small, large, short, long or exact; None when it is not."""
    longest = question.get("maxLength")
    if isinstance(value, str) and question.get("type") in {"string", "text", "url"}:
        if isinstance(longest, int) and len(value) > longest:
            return "The answer is longer than is allowed."
        if len(value) < extras.get("minLength", [0])[0]:
            return "The answer is shorter than is allowed."
        pattern = extras.get("regex", [None])[0]
        if isinstance(pattern, str) and not _fits(pattern, value):
            return "The answer does not have the form that is asked for."
    places = extras.get("maxDecimalPlaces", [None])[0]
    number = value.get("value") if isinstance(value, dict) else value
    if isinstance(places, int) and isinstance(number, float) and _places(number) > places:
        return "The answer has more decimal places than are allowed."
    for name, sign in (("minValue", 1), ("maxValue", -1)):
        for bound in extras.get(name, extras.get(name.replace("Value", "Quantity"), ())):
            if _outside(value, bound, sign):
                return f"The answer is beyond the allowed {name[:3]}imum, or cannot be compared with it."
    return None


def _fits(pattern: str, value: str) -> bool:
    try:
        return len(value) > 10_000 or re.fullmatch(pattern, value) is not None
    except re.error:
        return True  # a dialect that is not known here


def _places(number: float) -> int:
    exponent = Decimal(repr(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _outside(value: Any, bound: Any, sign: int) -> bool:
    if isinstance(value, dict) and isinstance(bound, dict):
        units = [(each.get("system"), each.get("code")) for each in (value, bound)]
        if units[0] != units[1] or None in units[0]:
            return True
        value, bound = value.get("value"), bound.get("value")
    if isinstance(value, str) and isinstance(bound, str):
        size = min(len(value), len(bound))
        if value[:size] == bound[:size]:
            return len(value) != len(bound) and sign < 0 and len(value) > len(bound)
    try:
        return bool(value < bound if sign > 0 else value > bound)
    except TypeError:
        return False


def _special_problem(
    validator: Validator, value: Any, kind: str, extras: Mapping[str, list[Any]]
) -> str | None:
    """Say what is wrong with an attachment, a reference, a URL or a quantity."""
    if kind == "attachment" and "mimeType" in extras and value.get("contentType") not in extras["mimeType"]:
        return "The attachment has a type of content that is not allowed."
    if kind == "reference":
        absolute = _TYPED_URL.fullmatch(str(value.get("reference", "")))
        if absolute is not None and absolute[1] not in resource_types():
            return "The reference points to a type that R4 does not have."
        found, allowed = target_type(str(value.get("reference", ""))), extras.get("referenceResource")
        if allowed and found is not None and found not in allowed:
            return "The reference points to a type that is not allowed here."
    if kind == "url" and isinstance(value, str) and value.startswith("urn:uuid:"):
        return None if _UUID.fullmatch(value[9:]) else "The UUID is not valid."
    if kind == "quantity":
        return _unit_problem(validator, value, extras)
    return None


def _unit_problem(validator: Validator, value: Any, extras: Mapping[str, list[Any]]) -> str | None:
    unit = {name: value[name] for name in ("system", "code") if name in value}
    options = extras.get("unitOption")
    if options and not _listed(unit, options):
        return "The unit is not one of the options."
    for value_set in extras.get("unitValueSet", ()):
        if "code" not in unit or validator.coded_in(unit, value_set) is False:
            return "The unit is not in the value set."
    return None
