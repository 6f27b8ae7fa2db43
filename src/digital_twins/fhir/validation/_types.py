"""What is asked of single resource types beyond their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.validation._questionnaire import questionnaire_of, response_issues
from digital_twins.fhir.validation._references import bundle_issues

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.fhir.validation._validator import Validator


def issues_of_type(
    validator: Validator, resource: dict[str, Any], path: str, *, sound: bool
) -> Iterator[Issue]:
    """Yield what a bundle, a questionnaire response or a value set has wrong with it as a whole.

    Parameters
    ----------
    sound
        Whether the resource has no error so far: the answers of a broken response are not judged.
    """
    match resource.get("resourceType"):
        case "Bundle":
            yield from bundle_issues(resource, path)
        case "QuestionnaireResponse" if sound:
            yield from _response(validator, resource, path)
        case "ValueSet" if sound:
            for index, part in enumerate(resource.get("compose", {}).get("include", ())):
                if str(part.get("system")).startswith("#"):
                    where = f"{path}.compose.include[{index}].system"
                    yield Issue("value", "A code system is named by an absolute URI.", where)


def _response(validator: Validator, resource: dict[str, Any], path: str) -> Iterator[Issue]:
    asked = questionnaire_of(validator, resource)
    if asked is not None:
        yield from response_issues(validator, resource, asked, path)
    elif validator.definitions.value_set(str(resource.get("questionnaire"))) is not None:
        yield Issue("structure", "What is named as questionnaire is a value set.", f"{path}.questionnaire")
