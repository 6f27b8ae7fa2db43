"""Write the requirements that the package carries, from docs/features.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "src/digital_twins/governance/requirements.json"
_LINK = re.compile(r"\[[^\]]*\]\(\.\./(tests/[^)#]+)\)")
_ANY_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def requirements() -> list[dict[str, object]]:
    """Return id, text, state, limits and tests of every row."""
    found = []
    for line in (ROOT / "docs/features.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and re.fullmatch(r"[A-K]\d+", cells[0]):
            found.append(
                {
                    "id": f"SRS-{cells[0]}",
                    "text": cells[1].replace("\\|", "|"),
                    "state": cells[2],
                    "limits": _ANY_LINK.sub(r"\1", cells[3]),
                    "tests": _LINK.findall(cells[4]),
                }
            )
    return found


if __name__ == "__main__":
    TARGET.write_text(json.dumps(requirements(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
