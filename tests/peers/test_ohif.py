"""The prebuilt OHIF viewer in headless Chromium opens what our DICOMweb server gives it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

from browser import browser
from ct_series import AXIAL, ball, ct_series
from dicom_support import file_bytes, open_store
from digital_twins.dicom import DicomStore
from digital_twins.imaging import as_mask, seg_from_masks, volume_from_series
from digital_twins.reports import documents
from foreign import missing_peer
from ohif import DIST, ohif
from report_samples import sample_report, sample_series

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]
SHAPE = (12, 64, 64)


def phantom(modality: str, number: int) -> tuple[list[Any], Any]:
    """A bright ball in a dim box, as a series and its mask."""
    lesion = ball(SHAPE, (6, 30, 34), 8)
    array = np.full(SHAPE, 200, np.int16)
    array[:, 8:56, 8:56] = 900
    array[lesion] = 1500
    series = ct_series(array, AXIAL, intercepts=0 if modality == "MR" else -1024)
    for slice_number, ds in enumerate(series, 1):
        ds.Modality = modality
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.826.{number}", f"1.2.826.{number}.1"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.{number}.1.{slice_number}"
        ds.FrameOfReferenceUID, ds.InstanceNumber, ds.SeriesNumber = f"1.2.826.{number}.9", slice_number, 1
        if modality == "MR":
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
            for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
                if keyword in ds:
                    delattr(ds, keyword)
    return series, as_mask(volume_from_series(series), lesion)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DicomStore, str]]:
    if not (DIST / "index.html").is_file():
        missing_peer("npm package @ohif/app")
    with open_store(tmp_path_factory.mktemp("node")) as store:
        for number, modality in enumerate(("CT", "MR"), 1):
            series, mask = phantom(modality, number)
            store.ingest_many(file_bytes(ds) for ds in series)
            seg = seg_from_masks([mask], series, series_description="Lesion", series_number=50)
            store.ingest(file_bytes(seg))
        with ohif(store) as base:
            yield store, base


def open_study(page: Any, base: str, study: str, wait_for: str) -> np.ndarray[Any, Any]:
    """Open a study, put what is in the way aside, and return the first viewport's picture."""
    page.goto(f"{base}/viewer?StudyInstanceUIDs={study}")
    page.wait_for_selector("canvas", timeout=120_000)
    page.wait_for_selector(f"text={wait_for}", timeout=120_000)
    for text, patience_ms in (("Skip all", 60_000), ("Confirm and hide", 2_000)):
        with suppress(TimeoutError):
            page.get_by_text(text).first.click(timeout=patience_ms)
            page.get_by_text(text).first.wait_for(state="hidden", timeout=10_000)
    page.mouse.move(5, 995)
    return settled(page)


def settled(page: Any) -> Any:
    """The viewport's picture once it does not change any more."""
    last = b""
    for _ in range(40):
        shot = page.screenshot()
        if shot == last:
            break
        last = shot
        page.wait_for_timeout(1_500)
    folder = os.environ.get("OHIF_SHOTS")
    if folder:
        Path(folder, f"{len(list(Path(folder).glob('*.png')))}.png").write_bytes(last)
    return np.asarray(Image.open(BytesIO(last)).convert("RGB")).astype(int)


def coloured(picture: Any) -> int:
    """Pixels of the viewport in which red outweighs blue, as no grey and nothing of the page does."""
    view = picture[160:940, 300:1380]
    return int((view[..., 0] - view[..., 2] > 10).sum())


def coloured_more_than(page: Any, count: int) -> bool:
    """Wait until the viewer, which has to fetch and decode first, has drawn in colour."""
    for _ in range(60):
        if coloured(settled(page)) > count:
            return True
        page.wait_for_timeout(1_000)
    return False


def test_ct_and_segmentation(viewer: tuple[DicomStore, str]) -> None:
    with browser() as chromium, chromium.page() as page:
        plain = open_study(page, viewer[1], "1.2.826.1", "CT")
        grey = plain[500, 840]
        assert grey.min() > 200, "the ball is bright"
        assert 100 < plain[300, 600].max() < 200, "the box is dim"
        assert coloured(plain) < 100
        page.get_by_text("Lesion").first.dblclick()
        assert coloured_more_than(page, 1_000), "the segmentation is drawn"
        assert not [text for text in chromium.complaints if "Failed to load resource" in text]


def test_mr(viewer: tuple[DicomStore, str], full: bool) -> None:
    if not full:
        pytest.skip("one image type is enough without TWIN_TEST_FULL=1")
    with browser() as chromium, chromium.page() as page:
        assert open_study(page, viewer[1], "1.2.826.2", "MR")[500, 840].min() > 200


def test_structured_report(viewer: tuple[DicomStore, str], full: bool) -> None:
    if not full:
        pytest.skip("one image type is enough without TWIN_TEST_FULL=1")
    store, base = viewer
    series = sample_series()
    store.ingest_many(file_bytes(ds) for ds in series)
    seg = seg_from_masks([sample_report().twin.lesion], series, series_description="Lesion", series_number=50)
    made = documents(sample_report(), series, segmentation=seg)
    for document in (seg, *made.dicom):
        store.ingest(file_bytes(document))
    answers: list[tuple[str, int]] = []
    with browser() as chromium, chromium.page() as page:
        page.on("response", lambda answer: answers.append((answer.url, answer.status)))
        open_study(page, base, str(series[0].StudyInstanceUID), "SR")
        page.get_by_text("SR", exact=True).first.dblclick()
        # The viewer shows the numbers beside the measured outline, in the drawing itself and as SVG text.
        for text in ("Volume: 12.50 cm3", "Area: 96.53 mm2"):
            page.get_by_text(text).first.wait_for(timeout=120_000)
        settled(page)
        assert page.get_by_text("Digital twin analysis").count() > 0
        assert page.get_by_text("Something went wrong").count() == 0
        assert not [text for text in chromium.complaints if "Error" in text]
    report = f"series/{made.dicom[2].SeriesInstanceUID}"
    assert any(report in url and status == 200 for url, status in answers)
    assert not [url for url, status in answers if status >= 400 and "/dicom-web/" in url]


@pytest.mark.shared
def test_structure_set(viewer: tuple[DicomStore, str], shared_data: Path, full: bool) -> None:
    if not full:
        pytest.skip("one image type is enough without TWIN_TEST_FULL=1")
    store, base = viewer
    folder = shared_data / "dicom/rt/rt-utils/mock_data"
    study = ""
    for name in ("ct_1.dcm", "ct_2.dcm", "rt.dcm"):
        study = store.ingest((folder / name).read_bytes()).study_uid
    with browser() as chromium, chromium.page() as page:
        plain = open_study(page, base, study, "RTSTRUCT")
        page.get_by_text("RTSTRUCT", exact=True).first.dblclick()
        assert coloured_more_than(page, coloured(plain) + 200)
