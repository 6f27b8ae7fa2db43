"""Write the list of safe private attributes (PS3.15 Table E.3.10-1) from the standard's text.

``python scripts/make-safe-private-table.py chapter_E.rst OUT.csv``: the source is part 15's chapter E in
reStructuredText as the repository chsasank/dicom_standard holds it (2020-08-07). Rows whose values nobody can
judge are left out: sequences, bytes, free text and those without a VR.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TAG = re.compile(r"\((\w{4}),xx(\w\w)\)")
UNJUDGED = {"", "OB", "SQ", "LT"}
HEAD = "# DICOM PS3.15 2020, Table E.3.10-1 without OB, SQ, LT and rows without VR"


def rows(text: str) -> list[list[str]]:
    """Return the cells of the table, of rows that may go over several lines."""
    found: list[list[str]] = []
    cells: list[list[str]] = []
    for line in text.split(".. table:: Safe Private Attributes", 1)[1].splitlines():
        plain = line.strip()
        if plain.startswith("+"):
            if cells:
                found.append([" ".join(cell) for cell in cells])
            cells = []
        elif plain.startswith("|"):
            parts = [part.strip() for part in plain.strip("|").split("|")]
            cells = cells or [[] for _ in parts]
            for cell, part in zip(cells, parts, strict=True):
                cell.extend([part] if part else [])
        elif plain:
            break
    return found[1:]


def main() -> None:
    """Write the table."""
    source, target = sys.argv[1:]
    lines = [HEAD, "group,element,creator,vr"]
    for tag, creator, vr, *_ in rows(Path(source).read_text("utf-8")):
        match = TAG.fullmatch(tag.replace(" ", ""))
        if match is not None and vr not in UNJUDGED:
            lines.append(f'{match[1].upper()},{match[2].upper()},"{creator}",{vr}')
    Path(target).write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
