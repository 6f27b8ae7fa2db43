"""Outlines of a lesion on its images, against pixel counts and highdicom's reading of the report."""

from __future__ import annotations

import numpy as np
import pytest

from ct_series import AXIAL, ball, ct_series
from digital_twins.imaging import as_mask, crop, key_regions, volume_from_series

SHAPE = (8, 40, 36)


def lesion_and_series():
    series = ct_series(np.zeros(SHAPE, np.int16), AXIAL)
    return as_mask(volume_from_series(series), ball(SHAPE, (4, 20, 18), 8.0)), series


def test_largest_slices_come_first_with_the_area_of_their_pixels():
    lesion, series = lesion_and_series()
    regions = key_regions(lesion, series, count=3)
    counts = sorted(lesion.array.sum(axis=(1, 2)).tolist(), reverse=True)[:3]
    pixel_mm2 = float(np.prod([float(v) for v in series[0].PixelSpacing]))
    assert [each.area_mm2 for each in regions] == pytest.approx([n * pixel_mm2 for n in counts], rel=1e-9)
    middle_mm = lesion.index_to_mm(np.array([4.0, 0.0, 0.0]))
    assert list(regions[0].image.ImagePositionPatient) == pytest.approx(middle_mm.tolist())


def test_points_are_pixel_corners_of_the_image():
    lesion, series = lesion_and_series()
    (region,) = key_regions(lesion, series)
    rows, columns = np.nonzero(lesion.array[4])
    assert region.points_px.min(axis=0) == pytest.approx([columns.min(), rows.min()])
    assert region.points_px.max(axis=0) == pytest.approx([columns.max() + 1, rows.max() + 1])
    assert np.array_equal(region.points_px[0], region.points_px[-1])
    cropped = crop(lesion, (slice(2, 7), slice(5, 38), slice(3, 33)))
    assert key_regions(cropped, series)[0].points_px == pytest.approx(region.points_px, abs=1e-6)


def test_nothing_to_outline():
    lesion, series = lesion_and_series()
    assert key_regions(as_mask(lesion, np.zeros(SHAPE, bool)), series) == []
    for image in series:
        del image.ImagePositionPatient
    assert key_regions(lesion, series) == []
