"""Code blocks of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """Sources of the fenced blocks in one language, in order."""
    return [body for name, body in _FENCE.findall(page.read_text(encoding="utf-8")) if name == language]


def name(page: Path) -> str:
    """Path of a page in the repository, for test ids."""
    return page.relative_to(ROOT).as_posix()
