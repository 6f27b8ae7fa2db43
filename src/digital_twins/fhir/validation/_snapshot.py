"""Snapshots of profiles that carry only their differences to a base (FHIR R4, profiling, section 5.1.0.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Element = dict[str, Any]
_BY_TYPE = {"discriminator": [{"type": "type", "path": "$this"}], "rules": "open"}


def completed(
    base: list[Element], differences: Iterable[Element], type_elements: Callable[[str], list[Element]]
) -> list[Element]:
    """Return the elements of a profile: those of its base, with its differences merged in.

    Parameters
    ----------
    base
        The reduced elements of the base definition.
    differences
        The reduced elements of the differential. One that has no place in the base is left out.
    type_elements
        Canonical URL or type name -> its reduced elements; empty where it is not known.
    """
    tree = _Tree({e["id"]: dict(e) for e in base}, type_elements)
    for difference in differences:
        name = tree.placed(difference)
        if name is not None:
            _merge(tree.elements[name], difference)
    return list(tree.elements.values())


def _merge(element: Element, difference: Element) -> None:
    rules = {rule[0]: rule for rule in (*element.get("constraint", ()), *difference.get("constraint", ()))}
    kept = {"id": element["id"], "path": element["path"]}
    name = element.get("sliceName")
    element.update({key: value for key, value in difference.items() if value is not None})
    element.update(kept)
    if name:
        element["sliceName"] = name
    if rules:
        element["constraint"] = list(rules.values())


class _Tree:
    """The elements so far, by id; those below a type are unfolded when a difference needs them."""

    def __init__(self, elements: dict[str, Element], type_elements: Callable[[str], list[Element]]) -> None:
        self.elements = elements
        self._type_elements = type_elements

    def placed(self, difference: Element) -> str | None:
        """Return the id under which a difference belongs, making the element where it is missing."""
        name = difference.get("id") or difference["path"]
        sliced = difference.get("sliceName")
        if sliced and ":" not in name.rpartition(".")[2]:
            name = f"{name}:{sliced}"
        return self._ensure(name)

    def _ensure(self, name: str) -> str | None:
        if name in self.elements:
            return name
        head, _, last = name.rpartition(".")
        parent = self._ensure(head) if head else None
        if parent is None:
            return None
        name = f"{parent}.{last}"
        if name in self.elements:
            return name
        if ":" in last:
            return self._slice(f"{parent}.{last.partition(':')[0]}", last.partition(":")[2])
        if not any(key.startswith(f"{parent}.") for key in self.elements):
            self._unfold(parent)
        return name if name in self.elements else self._choice(parent, last)

    def _slice(self, base: str, name: str) -> str | None:
        found = self._ensure(base)
        if found is None:
            return None
        made = f"{found}:{name}"
        inside = [(key, e) for key, e in self.elements.items() if key.startswith(f"{found}.")]
        copied = {key: value for key, value in self.elements[found].items() if key != "slicing"}
        self.elements[made] = {**copied, "id": made, "sliceName": name, "min": 0}
        for key, element in inside:
            other = made + key[len(found) :]
            self.elements[other] = {**element, "id": other}
        return made

    def _choice(self, parent: str, last: str) -> str | None:
        """Return the slice by type that a name such as ``valueQuantity`` means."""
        for key, element in list(self.elements.items()):
            stem = key.rpartition(".")[2].removesuffix("[x]")
            if key != f"{parent}.{stem}[x]" or not last.startswith(stem):
                continue
            types = [
                t for t in element.get("type", ()) if t["code"].casefold() == last[len(stem) :].casefold()
            ]
            if types:
                element.setdefault("slicing", _BY_TYPE)
                made = self._slice(key, last)
                if made is not None:
                    self.elements[made]["type"] = types
                return made
        return None

    def _unfold(self, parent: str) -> None:
        element = self.elements[parent]
        if "contentReference" in element:
            source = element.pop("contentReference").rpartition("#")[2]
            rows = [e for key, e in self.elements.items() if key.startswith(f"{source}.")]
            self._graft(parent, source, [dict(row) for row in rows])
            return
        types = element.get("type", ())
        if len(types) != 1:
            return
        for url in (*types[0].get("profile", ()), types[0]["code"]):
            rows = self._type_elements(url)
            if rows:
                self._graft(parent, rows[0]["id"], rows[1:])
                return

    def _graft(self, parent: str, root: str, rows: list[Element]) -> None:
        path = self.elements[parent]["path"]
        for row in rows:
            key = parent + row["id"][len(root) :]
            self.elements.setdefault(key, {**row, "id": key, "path": path + row["path"][len(root) :]})
