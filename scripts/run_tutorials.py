"""Run the tutorial notebooks and store what they print and draw: `scripts/run_tutorials.py [NAME ...]`.

No Jupyter is needed: a cell is plain Python, and what stands on its last line is shown, as a notebook would.
`--check` runs them without writing. tests/docs/test_tutorials.py compares what is stored with a fresh run.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"


def run_cell(source: str, namespace: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Run one cell and return its outputs in the notebook format (nbformat 4)."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    shown: Any = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines(printed.getvalue())})
    if shown is not None:
        outputs.append({"output_type": "display_data", "metadata": {}, "data": displayed(shown)})
    return outputs


def displayed(value: Any) -> dict[str, Any]:
    """Return a value by the richest of the representations that notebooks know."""
    png = getattr(value, "_repr_png_", lambda: None)()
    if png is not None:
        return {"image/png": base64.b64encode(png).decode(), "text/plain": ["<picture>"]}
    page = getattr(value, "_repr_html_", lambda: None)()
    if page is not None:
        return {"text/html": lines(page), "text/plain": lines(repr(value))}
    return {"text/plain": lines(repr(value))}


def lines(text: str) -> list[str]:
    """Split as the notebook format wants it, keeping the ends."""
    return text.splitlines(keepends=True)


def run_notebook(path: Path) -> dict[str, Any]:
    """Run a notebook in an empty folder and return it with its outputs."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "__tutorial__"}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            count = 0
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    count += 1
                    source = "".join(cell["source"])
                    cell["outputs"] = run_cell(source, namespace, f"{path.name} cell {count}")
                    cell["execution_count"] = count
        finally:
            os.chdir(here)
    return notebook


def main(words: list[str]) -> int:
    """Run the named notebooks, or all."""
    check = "--check" in words
    names = [word for word in words if not word.startswith("-")]
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = run_notebook(path)
        if not check:
            text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
            path.write_text(text + "\n", encoding="utf-8")
        print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
