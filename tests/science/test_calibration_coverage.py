"""Do 95 % intervals hold the truth in 95 % of patients? On 32 x 32 x 32 phantoms with noisy outlines."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scipy import stats

from image_phantom import ImagePatient, image_patient
from tumour_phantom import CHEMOTHERAPY, RADIATION

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTORIES = ([], [RADIATION], [CHEMOTHERAPY])
CHANCE = 0.01


def patients(count: int, *, astray: bool) -> Iterator[tuple[ImagePatient, list]]:
    """The first so many whose tumour stays large enough to be outlined."""
    found, index = 0, 10_000 if astray else 0
    while found < count:
        history = list(HISTORIES[index % (2 if astray else 3)])
        made = image_patient(index, history=history, astray=astray)
        index += 1
        if made is not None:
            found += 1
            yield made, history


def hits(count: int, *, astray: bool) -> dict[str, list[bool]]:
    inside: dict[str, list[bool]] = defaultdict(list)
    for made, history in patients(count, astray=astray):
        twin, now, later = made.twin, made.true_volumes_cm3[-2], made.true_volumes_cm3[-1]
        result = twin.calibrate(made.scans, history)
        assert result.observations == ("volume",)
        for name in twin.snapshot.belief.calibrated:
            estimate = result.estimates[name]
            inside[name.split(":")[0]].append(estimate.low <= made.truth[name] <= estimate.high)
        inside["volume now"].append(twin.current_volume.low <= now <= twin.current_volume.high)
        forecast = twin.predict(42.0, output_interval_days=42.0)
        inside["volume in 6 weeks"].append(forecast.low_cm3[-1] <= later <= forecast.high_cm3[-1])
    return inside


def reported(inside: dict[str, list[bool]], title: str) -> str:
    lines = [
        f"{title}, {name}: {sum(x)} of {len(x)}, {100 * sum(x) / len(x):.1f} %" for name, x in inside.items()
    ]
    if target := os.environ.get("TWIN_COVERAGE_FILE"):
        with Path(target).open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return "\n".join(lines)


@pytest.mark.timeout(5400)
def test_intervals_cover_what_obeys_the_model(full: bool) -> None:
    """Each share is compatible with 90 to 98 %: no binomial chance below 1 in 100 at the nearer end."""
    inside = hits(100 if full else 10, astray=False)
    text = reported(inside, "obeys")
    for share in inside.values():
        count, held = len(share), sum(share)
        assert stats.binom.cdf(held, count, 0.90) > CHANCE, text
        assert stats.binom.sf(held - 1, count, 0.98) > CHANCE or not full, text


@pytest.mark.timeout(5400)
def test_intervals_of_what_does_not_obey_are_stated_as_they_are(full: bool) -> None:
    """Gompertz growth on a finer grid, outlines a voxel off: docs/science/calibration.md has the figures.

    k means something else under another law, and a shifted outline moves every volume: only D can be
    asked for. The others are counted and printed.
    """
    inside = hits(100 if full else 10, astray=True)
    text = reported(inside, "does not obey")
    share = inside["diffusion_mm2_per_day"]
    assert sum(share) >= 0.5 * len(share), text
    assert inside.keys() >= {"baseline_volume_scale", "volume now"}
