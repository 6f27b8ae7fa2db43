"""What `mkdocs build` needs here: hooks for the pages, and a Griffe extension for the API pages."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

from griffe import Extension, Module

_ROOT = "digital_twins."
_REPOSITORY = Path(__file__).parents[1]
_SOURCES = _REPOSITORY / "src"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+((?:tests|benchmarks|src)/[^)]+)\)")
_UNVERIFIED = "<!-- list of unverified values -->"


class Doors(Extension):
    """Names under ``if TYPE_CHECKING`` of a room are its public names (see ``digital_twins._lazy``)."""

    def on_module_members(self, *, mod: Module, **_: Any) -> None:
        """Set the exports of a room from the names that it takes from modules of this package."""
        if mod.is_init_module and mod.path.startswith(_ROOT):
            mod.exports = [
                name
                for name, member in mod.members.items()
                if member.is_alias and member.target_path.startswith(_ROOT) and name != "exports"
            ]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files outside the site instead of linking to them, and list the unverified values."""
    markdown = _OUTSIDE.sub(r"`\2`", markdown)
    if _UNVERIFIED in markdown:
        markdown = markdown.replace(_UNVERIFIED, "\n".join(unverified_values()))
    return markdown


def unverified_values() -> list[str]:
    """Return the lines of a list: every value marked as not verified, with its place."""
    if str(_SOURCES) not in sys.path:
        sys.path.insert(0, str(_SOURCES))
    from digital_twins.pharmacology import antibody_library, drug_library

    lines = [
        f"- {name}: {', '.join(drug.unverified)}"
        for library in (drug_library(), antibody_library())
        for name, drug in sorted(library.items())
        if drug.unverified
    ]
    for path in sorted(_SOURCES.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "[verify]" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "[verify]" in node.value:
                words = " ".join(node.value.split()).replace("[verify]", "(not verified)")
                lines.append(f"- `{path.relative_to(_SOURCES)}`: {words}")
    return lines
