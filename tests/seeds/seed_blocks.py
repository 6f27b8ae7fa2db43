"""Python blocks of the source documents, found by file number and the heading above them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HEADING = re.compile(r"^#{2,4} (?P<title>.+)$")


@dataclass(frozen=True)
class Block:
    """One fenced Python block with the heading it stands under."""

    document: str
    heading: str
    source: str

    def with_substitutions(self, names: dict[str, str]) -> str:
        """Replace host names and paths; each must occur, so that a changed document is noticed."""
        source = self.source
        for old, new in names.items():
            assert old in source, f"{old!r} no longer occurs in {self.document}, '{self.heading}'"
            source = source.replace(old, new)
        return source


def blocks(seeds: Path, number: str) -> list[Block]:
    """All Python blocks of the document whose name starts with ``number``."""
    (path,) = seeds.glob(f"{number}_*.txt")
    found: list[Block] = []
    heading, lines, inside = "", [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if not inside and (match := _HEADING.match(line)):
            heading = match["title"]
        elif line.strip() == "```python":
            inside, lines = True, []
        elif inside and line.strip() == "```":
            found.append(Block(path.name, heading, "\n".join(lines) + "\n"))
            inside = False
        elif inside:
            lines.append(line)
    return found


def block(seeds: Path, number: str, heading: str) -> Block:
    """The one block under ``heading``."""
    (found,) = [b for b in blocks(seeds, number) if b.heading == heading]
    return found
