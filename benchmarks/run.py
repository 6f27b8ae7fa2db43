"""Run benchmark areas: ``python benchmarks/run.py [AREA|all]`` prints ``area.name value unit ratio-to-peer``.

An area is a module of this folder with a function ``figures()`` that yields ``(name, value, unit, ratio)``;
the ratio is this program's value over a peer's, measured in the same run, or None where no peer can run.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def areas() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run" and path.stem[0] != "_")


def main(arguments: list[str]) -> int:
    wanted = arguments or ["all"]
    chosen = areas() if wanted == ["all"] else wanted
    unknown = [name for name in chosen if name not in areas()]
    if unknown:
        print(f"No benchmark area {', '.join(unknown)}; there are: {', '.join(areas())}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(HERE))
    for area in chosen:
        for name, value, unit, ratio in importlib.import_module(area).figures():
            print(f"{area}.{name} {value:.4g} {unit} {'-' if ratio is None else f'{ratio:.3g}'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
