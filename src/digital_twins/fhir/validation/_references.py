"""References: what they may point to, and what a bundle asks of them (FHIR R4, references and bundle)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from digital_twins.fhir._outcome import Issue
from digital_twins.fhir.fhirpath._types import resource_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from digital_twins.fhir.fhirpath import Node

Resolve = Callable[[str], "dict[str, Any] | None"]

TARGET = "http://hl7.org/fhir/StructureDefinition/"
_RELATIVE = re.compile(r"([A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_URL_TYPE = re.compile(r"^(https?://\S+?)/([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})$")


local_id = re.compile(r"[A-Za-z0-9\-.]{1,64}").fullmatch


def resolver(root: dict[str, Any]) -> Resolve:
    """Return a look-up of references among the entries of a bundle and the contained resources."""
    found: dict[str, dict[str, Any]] = {}
    for entry in root.get("entry", ()) if root.get("resourceType") == "Bundle" else ():
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            continue
        url = entry.get("fullUrl")
        if isinstance(url, str):
            found.setdefault(url, resource)
        found.setdefault(f"{resource.get('resourceType')}/{resource.get('id')}", resource)
    for inner in root.get("contained", ()) if isinstance(root.get("contained"), list) else ():
        if isinstance(inner, dict):
            found.setdefault(f"#{inner.get('id')}", inner)
    return found.get


def target_type(reference: str) -> str | None:
    """Return the resource type that a reference names, or None where it names none."""
    match = _RELATIVE.fullmatch(reference)
    kind = match[1] if match else None
    if kind is None:
        absolute = _URL_TYPE.match(reference.partition("/_history/")[0])
        kind = absolute[2] if absolute else None
    return kind if kind in resource_types() else None


def reference_issue(node: Node, targets: list[str], resolve: Resolve | None) -> str | None:
    """Say what is wrong with a Reference, or None.

    Parameters
    ----------
    node
        The Reference.
    targets
        Profiles that its target may have; any where empty.
    resolve
        Look-up of references among what is at hand.
    """
    text = node.value.get("reference")
    if not isinstance(text, str):
        return None
    if text.startswith("#"):
        return (
            None
            if text == "#" or _contained(node, text[1:])
            else "A contained resource that is referred to is missing."
        )
    if _ABSOLUTE.match(text) is None and _RELATIVE.fullmatch(text) is None and "?" not in text:
        return "A relative reference has the form Type/id."
    kind = target_type(text)
    if kind is None:
        found = resolve(text) if resolve is not None else None
        kind = str(found.get("resourceType")) if found else None
    allowed = {url.removeprefix(TARGET) for url in targets}
    bases = {name for name in allowed if name in resource_types() or name == "Resource"}
    if kind is None or not targets or len(bases) < len(allowed) or "Resource" in bases:
        return None
    stated = node.value.get("type")
    if isinstance(stated, str) and stated in resource_types() and stated != kind:
        return "The reference says another type than it points to."
    return None if kind in bases else "The reference points to a type that is not allowed here."


def _contained(node: Node, wanted: str) -> bool:
    at: Node | None = node
    while at is not None:
        value = at.value
        if isinstance(value, dict) and "resourceType" in value:
            inner = value.get("contained", ())
            if any(isinstance(r, dict) and r.get("id") == wanted for r in inner if isinstance(inner, list)):
                return True
        at = at.parent
    return False


def bundle_issues(bundle: dict[str, Any], path: str) -> Iterator[Issue]:
    """Yield what the rules of bundles find that invariants do not say (FHIR R4, section 2.36)."""
    entries = bundle.get("entry", [])
    entries = entries if isinstance(entries, list) else []
    relations = [link.get("relation") for link in bundle.get("link", ()) if isinstance(link, dict)]
    for relation in ("self", "first", "last", "next", "previous"):
        if relations.count(relation) > 1:
            yield Issue("invalid", "A link relation occurs twice.", f"{path}.link")
    kind = bundle.get("type")
    for index, entry in enumerate(entries):
        if isinstance(entry, dict):
            yield from _entry_issues(entry, kind, f"{path}.entry[{index}]")
    yield from _ambiguous_issues(entries, path)
    if kind in {"document", "message"}:
        yield from _first_entry_issues(bundle, entries, path)


def _entry_issues(entry: dict[str, Any], kind: Any, path: str) -> Iterator[Issue]:
    url, resource = entry.get("fullUrl"), entry.get("resource")
    if isinstance(url, str):
        yield from _full_url_issues(url, resource, f"{path}.fullUrl")
    elif isinstance(resource, dict) and kind in {"document", "message"}:
        yield Issue("invalid", "An entry has no fullUrl.", path)
    if not isinstance(resource, dict):
        return
    outcome = resource.get("resourceType") == "OperationOutcome"
    if kind == "searchset" and not outcome and "id" not in resource:
        yield Issue("invalid", "A resource in a search result has an id.", f"{path}.resource")
    search = entry.get("search")
    if isinstance(search, dict) and search.get("mode") == "outcome" and not outcome:
        yield Issue("invalid", "An entry of mode outcome is an OperationOutcome.", f"{path}.resource")


def _full_url_issues(url: str, resource: Any, path: str) -> Iterator[Issue]:
    if _ABSOLUTE.match(url) is None:
        yield Issue("invalid", "A fullUrl is an absolute URL.", path)
    match = _URL_TYPE.match(url)
    if match is None or match[2] not in resource_types() or not isinstance(resource, dict):
        return
    if "id" in resource and (match[2], match[3]) != (resource.get("resourceType"), resource["id"]):
        yield Issue("invalid", "A fullUrl and the id of its resource disagree.", path)


def _ambiguous_issues(entries: list[Any], path: str) -> Iterator[Issue]:
    """Find references without a version that several versions in the bundle answer."""
    urls = [e["fullUrl"] for e in entries if isinstance(e, dict) and isinstance(e.get("fullUrl"), str)]
    twice = {url for url in urls if urls.count(url) > 1} if len(set(urls)) < len(urls) else set()
    for index, entry in enumerate(entries if twice else ()):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if any(url == text or url.endswith(f"/{text}") for text in _references(resource) for url in twice):
            text = "A reference without a version has several matches in the bundle."
            yield Issue("not-found", text, f"{path}.entry[{index}].resource")


def _first_entry_issues(bundle: dict[str, Any], entries: Any, path: str) -> Iterator[Issue]:
    first = entries[0].get("resource") if entries and isinstance(entries[0], dict) else None
    wanted = "Composition" if bundle.get("type") == "document" else "MessageHeader"
    if not isinstance(first, dict) or first.get("resourceType") != wanted:
        yield Issue("invalid", f"The first entry is a {wanted}.", f"{path}.entry")
        return
    inside = resolver(bundle)
    for text in _references(first):
        local = text.startswith("urn:uuid:") or _RELATIVE.fullmatch(text) is not None
        found = inside(text.partition("/_history/")[0]) is not None or _by_suffix(entries, text)
        if local and not found:
            where = f"{path}.entry[0]"
            yield Issue("not-found", "A reference of the first entry is not in the bundle.", where)


def _by_suffix(entries: Any, text: str) -> bool:
    return any(isinstance(e, dict) and str(e.get("fullUrl", "")).endswith(f"/{text}") for e in entries)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "reference" and isinstance(inner, str):
                yield inner
            elif name != "contained":
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
