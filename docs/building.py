"""What `mkdocs build` needs here: hooks for the pages, and a Griffe extension for the API pages."""

from __future__ import annotations

import ast
import json
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
_NOTEBOOK = re.compile(r"<!-- notebook: ([a-z-]+\.ipynb) -->")


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
    return _NOTEBOOK.sub(lambda found: notebook_page(found[1]), markdown)


def notebook_page(name: str) -> str:
    """Return a notebook of docs/tutorials as Markdown: its words, its code, and what it printed and drew."""
    cells = json.loads((_REPOSITORY / "docs" / "tutorials" / name).read_text(encoding="utf-8"))["cells"]
    parts = []
    for cell in cells:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts)


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return f"```text\n{''.join(output['text']).rstrip()}\n```"
    data = output["data"]
    if "image/png" in data:
        return f'<img alt="figure of the cell above" src="data:image/png;base64,{data["image/png"]}">'
    if "text/html" in data:
        return "".join(data["text/html"])
    return f"```text\n{''.join(data['text/plain'])}\n```"


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
