"""FHIR R4 resources without their patients, by rules that are data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from digital_twins._errors import InputError
from digital_twins.fhir.fhirpath import Node
from digital_twins.governance.deidentification import _fhir_values as new
from digital_twins.governance.deidentification._fhir_rules import FhirRules, fhir_rules
from digital_twins.governance.deidentification._known_identifiers import KnownIdentifiers
from digital_twins.governance.deidentification._text import deidentify_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from digital_twins.governance.deidentification._identity import DeidentificationKey

FHIR_METHODS = {
    "safe_harbor": "years only, as 45 CFR 164.514(b)(2) asks",
    "expert_determination": "dates moved by the patient's own number of days, for an expert to judge",
}
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
_MASKED = {"extension": [{"url": _ABSENT, "valueCode": "masked"}]}
_LABEL = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "PSEUDED"}
_GONE: Any = object()


def known_identifiers(resources: Iterable[dict[str, Any]]) -> KnownIdentifiers:
    """Return names, numbers, telephone numbers and addresses of the people and places of FHIR resources.

    Parameters
    ----------
    resources
        Resources or Bundles of one record: those of the patient, the staff and the organisations.
    """
    rules = fhir_rules()
    names: set[str] = set()
    values: set[str] = set()
    for resource in resources:
        for each in filter(_is_resource, entries_of(resource)):
            names.update(str(value) for value in rules.names.evaluate(each))
            values.update(str(value) for value in rules.values.evaluate(each))
    return KnownIdentifiers.of(names, values)


def entries_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a resource, or the resources of a Bundle."""
    if resource.get("resourceType") != "Bundle":
        return [resource]
    inner = [entry.get("resource") for entry in resource.get("entry", ()) if isinstance(entry, dict)]
    return [each for one in inner if isinstance(one, dict) for each in entries_of(one)]


def patient_of(resource: dict[str, Any]) -> str:
    """Return the id of the patient whom a resource is about, in lower case; empty when it is about none."""
    if not _is_resource(resource) or resource["resourceType"] == "Bundle":
        return ""
    for found in fhir_rules().patient.evaluate(resource):
        return str(found).rpartition("/")[2].rpartition(":")[2].lower()
    return ""


def _is_resource(value: dict[str, Any]) -> bool:
    kind = value.get("resourceType")
    return isinstance(kind, str) and bool(Node(value, kind).names())


@dataclass(frozen=True)
class FhirDeidentifier:
    """De-identifies FHIR R4 resources; what no rule allows goes.

    Parameters
    ----------
    key
        Where new ids and numbers come from; the same key makes them the same in every file, and a patient
        number becomes the one that :class:`DicomDeidentifier` gives it.
    method
        ``"safe_harbor"``: of dates the year alone. ``"expert_determination"``: dates moved by the patient's
        own number of days, and none in free text; that is not Safe Harbor.
    known
        Identifiers of the record, beside those of the resource or Bundle itself.

    Raises
    ------
    InputError
        There is no such method.
    """

    key: DeidentificationKey
    method: str = "safe_harbor"
    known: KnownIdentifiers = field(default_factory=KnownIdentifiers)

    def __post_init__(self) -> None:
        if self.method not in FHIR_METHODS:
            raise InputError(
                f"There is no method '{self.method}' for FHIR.",
                "It is not one of those that this program knows.",
                f"Use one of {', '.join(FHIR_METHODS)}.",
            )

    def deidentify(self, resource: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
        """Return a new resource, and how many elements each action changed or removed.

        Narrative, names, telecoms, attachments' content, profiles, unknown elements and all extensions that
        the rules do not list go; what a resource must have and may not show says ``masked`` (extension
        data-absent-reason); ``meta.security`` gets PSEUDED.

        Parameters
        ----------
        resource
            A resource or a Bundle; stays as it is.

        Raises
        ------
        InputError
            It is no R4 resource, or a modifierExtension in it would be lost and change what it means.
        """
        own = known_identifiers([resource])
        known = KnownIdentifiers.of(self.known.names | own.names, self.known.values | own.values)
        counts: Counter[str] = Counter()
        return _Pass(self, known, fhir_rules(), counts).resource(resource, labelled=True), counts


@dataclass(slots=True)
class _Pass:
    """One resource on its way."""

    what: FhirDeidentifier
    known: KnownIdentifiers
    rules: FhirRules
    counts: Counter[str]
    marked: dict[tuple[int, str], str] = field(default_factory=dict)
    shift_days: int | None = None

    def resource(self, old: dict[str, Any], *, labelled: bool) -> dict[str, Any]:
        """Return the new resource; a contained one may carry no label (invariant dom-5)."""
        kind = old.get("resourceType")
        if not isinstance(kind, str) or not _is_resource(old):
            raise InputError(
                "It cannot be de-identified.",
                "It is no resource of FHIR R4.",
                "Give FHIR R4 resources as JSON.",
            )
        outer = self.marked, self.shift_days
        self.marked = self.marked | self.rules.marked(old)
        if self.what.method != "safe_harbor" and kind != "Bundle":
            self.shift_days = self._shift(old)
        kept = {"resourceType": kind} | self._object(old, kind)
        self.marked, self.shift_days = outer
        if "id" in old:
            kept["id"] = new.new_id(self.what.key, str(old["id"]))
        kept.pop("meta", None)
        return kept | ({"meta": {"security": [_LABEL]}} if labelled else {})

    def _shift(self, old: dict[str, Any]) -> int | None:
        patient = patient_of(old)
        return self.what.key.shift_days(patient) if patient else self.shift_days

    def _object(self, old: dict[str, Any], kind: str) -> dict[str, Any]:
        if "modifierExtension" in old:
            raise InputError(
                "A resource cannot be de-identified.",
                f"A {kind} has a modifierExtension, which may hold an identifier and changes what it means.",
                "Take the extension out if its meaning allows, or leave the resource out.",
            )
        kept: dict[str, Any] = {}
        types = {name: kind_of for rows in Node(old, kind).names().values() for name, kind_of in rows}
        for name, value in old.items():
            kind_of = types.get(name)
            if name == "resourceType" or (name == "id" and kind[0].isupper() and "resourceType" not in old):
                continue
            if kind_of is None:
                self.counts["unknown" if not name.startswith("_") else "extension"] += 1
                continue
            action = self.marked.get((id(old), name)) or self.rules.types.get(kind_of, "walk")
            action = "contained" if name == "contained" else action
            result = self._value(value, kind_of, action)
            if result is not _GONE:
                kept[name] = result
            elif kind_of[0].islower() and not isinstance(value, list):
                kept[f"_{name}"] = _MASKED
        return kept

    def _value(self, value: Any, kind: str, action: str) -> Any:
        if isinstance(value, list):
            results = [self._value(each, kind, action) for each in value]
            return [each for each in results if each is not _GONE] or _GONE
        if isinstance(value, dict) and "resourceType" in value:
            return self.resource(value, labelled=action != "contained")
        if action == "keep":
            return value if isinstance(value, (bool, int, float)) or kind == "time" else self._text(value)
        if action == "walk":
            if not isinstance(value, dict):
                return _GONE
            return self._object(value, kind) or _MASKED
        result = _ACTIONS[action](self, value)
        if result is _GONE or result != value:
            self.counts[action] += 1
        return result

    def _text(self, value: Any) -> Any:
        if not isinstance(value, str):
            return _GONE
        years = self.what.method == "safe_harbor"
        return deidentify_text(value, self.known, years=years).text.strip() or _GONE

    def _date(self, value: Any) -> Any:
        if self.what.method == "safe_harbor":
            return new.year_of(str(value)) or _GONE
        moved = None if self.shift_days is None else new.shifted(str(value), self.shift_days)
        return _GONE if moved is None else moved

    def _instant(self, value: Any) -> Any:
        # an instant must be exact: its year cannot stand alone
        return _GONE if self.what.method == "safe_harbor" else self._date(value)

    def _hash(self, value: Any) -> Any:
        return self.what.key.pseudonym(str(value))

    def _uid(self, value: Any) -> Any:
        return self.what.key.uid(str(value))

    def _age(self, value: Any) -> Any:
        return new.new_age(value) if isinstance(value, dict) else _GONE

    def _address(self, value: Any) -> Any:
        kept = new.new_address(value, self.rules.countries) if isinstance(value, dict) else {}
        return kept or _GONE

    def _identifier(self, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("value"), str):
            return _GONE
        kept = {name: value[name] for name in ("use", "type") if name in value}
        kept = self._object(kept, "Identifier")
        if value.get("system") == "urn:dicom:uid":
            kept["system"] = value["system"]
        return kept | {"value": new.pseudonym(self.what.key, value["value"])}

    def _reference(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return _GONE
        kept: dict[str, Any] = {}
        if isinstance(value.get("reference"), str):
            kept["reference"] = self._link(value["reference"])
        if "identifier" in value:
            kept["identifier"] = self._identifier(value["identifier"])
        return {name: each for name, each in kept.items() if each is not _GONE} or _MASKED

    def _link(self, value: Any) -> Any:
        return new.new_link(self.what.key, str(value)) or _GONE

    def _coding(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return _GONE
        kept = self._object({name: each for name, each in value.items() if name != "code"}, "Coding")
        system, code = str(value.get("system", "")), str(value.get("code", ""))
        if code:
            public = system.startswith(self.rules.systems) and not self.known.holds(code)
            kept["code"] = code if public else self.what.key.code(system, code)
        return kept or _GONE

    def _uri(self, value: Any) -> Any:
        text = str(value)
        if text.startswith(self.rules.systems):
            return text
        return "urn:uuid:" + new.new_id(self.what.key, text)

    def _attachment(self, value: Any) -> Any:
        kept = {name: value[name] for name in ("contentType", "language") if name in value}
        return self._object(kept, "Attachment") | _MASKED

    def _extension(self, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("url") not in self.rules.extensions:
            return _GONE
        kept = self._object({name: each for name, each in value.items() if name != "url"}, "Extension")
        return {"url": value["url"]} | kept

    def _removed(self, _: Any) -> Any:
        return _GONE


_ACTIONS: dict[str, Callable[[_Pass, Any], Any]] = {
    "remove": _Pass._removed,
    "text": _Pass._text,
    "date": _Pass._date,
    "instant": _Pass._instant,
    "hash": _Pass._hash,
    "uid": _Pass._uid,
    "age": _Pass._age,
    "address": _Pass._address,
    "identifier": _Pass._identifier,
    "reference": _Pass._reference,
    "link": _Pass._link,
    "coding": _Pass._coding,
    "uri": _Pass._uri,
    "attachment": _Pass._attachment,
    "extension": _Pass._extension,
}
