"""Figures: reproducible, labelled with units, honest about predictions."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from digital_twins import ConflictError, InputError
from digital_twins.plotting import (
    PALETTE,
    Curve,
    Outcome,
    VolumePoint,
    slice_triptych,
    treatment_comparison,
    volume_timeline,
)
from digital_twins.records import Quantity
from report_samples import sample_report


def _comments(svg: bytes) -> str:
    """Matplotlib writes each text that it outlines as a comment."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(svg, parser=parser)
    return " | ".join(e.text for e in root.iter() if e.tag is ET.Comment)


def _curve(label="option", n=5):
    days = np.arange(n) * 7.0
    return Curve(label, days, days + 10, days + 8, days + 13)


def test_timeline_names_units_interval_and_what_is_simulated():
    text = _comments(volume_timeline([VolumePoint(0, 10), VolumePoint(7, 12, simulated=True)], [_curve()]))
    for needle in ("tumour volume (cm³)", "time since baseline (days)", "95 % interval", "measured"):
        assert needle in text
    assert "simulated follow-up" in text
    assert "research use" in text


def test_same_figure_same_bytes():
    assert volume_timeline([], [_curve()]) == volume_timeline([], [_curve()])


def test_drawing_loads_no_pyplot():
    # In a process of its own: other tests' libraries load it.
    draw = (
        "import sys; from digital_twins.plotting import Outcome, treatment_comparison;"
        "from digital_twins.records import Quantity;"
        "treatment_comparison([Outcome('a', Quantity(-1.0, '%', -2.0, 0.0))], horizon_days=9);"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", draw], check=False).returncode == 0


def test_png_is_a_png():
    assert volume_timeline([], [_curve()], image_format="png").startswith(b"\x89PNG")


def test_every_option_has_its_own_colour():
    svg = volume_timeline([], [_curve(str(i)) for i in range(len(PALETTE))]).decode().lower()
    assert all(colour.lower() in svg for colour in PALETTE)


def test_too_many_curves_are_refused():
    with pytest.raises(InputError):
        volume_timeline([], [_curve()] * (len(PALETTE) + 1))


def test_curve_of_uneven_lengths_is_refused():
    with pytest.raises(InputError):
        Curve("x", np.arange(3.0), np.arange(2.0), np.arange(3.0), np.arange(3.0))


def test_comparison_shows_median_day_and_percent():
    text = _comments(
        treatment_comparison([Outcome("a", Quantity(-39.6, "%", -55, -18), "PR")], horizon_days=84)
    )
    assert "-40 %" in text
    assert "on day 84 (%)" in text


def test_comparison_without_interval_is_refused():
    with pytest.raises(InputError):
        treatment_comparison([Outcome("a", Quantity(-40, "%"))], horizon_days=84)


def test_triptych_calls_the_prediction_by_its_name():
    report = sample_report()
    day, mask = report.options[0].predicted[-1]
    text = _comments(slice_triptych(report.twin.image, report.twin.lesion, mask, predicted_day=day))
    assert "PREDICTED day 84, NOT ACQUIRED" in text
    assert "20 mm" in text


def test_triptych_of_a_vanished_tumour_says_so():
    report = sample_report()
    gone = report.twin.lesion.with_array(np.zeros_like(report.twin.lesion.array))
    text = _comments(slice_triptych(report.twin.image, report.twin.lesion, gone))
    assert "no tumour predicted on this slice" in text


def test_triptych_refuses_another_grid_and_an_empty_lesion():
    report = sample_report()
    image, lesion = report.twin.image, report.twin.lesion
    from digital_twins.imaging import as_mask, grid

    coarse = grid(image, spacing_mm=2.0)
    with pytest.raises(ConflictError):
        slice_triptych(image, as_mask(coarse, np.ones(coarse.shape, bool)), None)
    with pytest.raises(InputError):
        slice_triptych(image, lesion.with_array(np.zeros_like(lesion.array)), None)
