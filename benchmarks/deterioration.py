"""Risk of in-hospital death on PhysioNet 2012 set-a, each fold of patients scored by the others (minutes)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from digital_twins.monitoring import cross_validate_death_risk, read_stays

Figure = tuple[str, float, str, float | None]
ROOT = Path(os.environ.get("TWIN_SHARED", Path(__file__).parents[2] / "shared"))
STAYS = ROOT / "data" / "monitor" / "physionet2012" / "set-a"


def figures() -> Iterator[Figure]:
    """The ratio is that to the logistic regression on the same inputs."""
    if not STAYS.is_dir():
        print("deterioration: needs ../shared/data/monitor/physionet2012/set-a", file=sys.stderr)
        return
    begin = time.process_time()
    found = cross_validate_death_risk(read_stays(STAYS))
    yield "cross_validation", time.process_time() - begin, "cpu_s", None
    for inputs, predictors in found.items():
        for who, row in predictors.items():
            for key, each in row.items():
                peer = predictors["logistic"][key]["value"]
                ratio = each["value"] / peer if who == "ours" and peer else None
                yield f"{inputs}.{who}.{key}", each["value"], "1", ratio
                yield f"{inputs}.{who}.{key}.low", each["low"], "1", None
                yield f"{inputs}.{who}.{key}.high", each["high"], "1", None
