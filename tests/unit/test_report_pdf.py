"""The PDF, read back: one page that holds every number, its interval and the labels."""

from __future__ import annotations

import dataclasses
import io
from datetime import datetime

import pytest
from pypdf import PdfReader

from digital_twins import InputError
from digital_twins.records import Quantity
from digital_twins.reports import RESEARCH_USE, render_pdf
from report_samples import sample_option, sample_report


def _text(pdf: bytes) -> str:
    reader = PdfReader(io.BytesIO(pdf))
    assert len(reader.pages) == 1
    return " ".join(reader.pages[0].extract_text().split())


@pytest.fixture(scope="module")
def page() -> str:
    return _text(render_pdf(sample_report()))


@pytest.mark.parametrize(
    "needle",
    [
        RESEARCH_USE,
        "PRELIMINARY - not reviewed, not signed",
        "twin-1, version 3",
        "digital-twins 0.1.0",
        "Miller, Ann",
        "P1",
        "Stage",
        "IIIA",
        "12.5 cm³",
        "95 % interval 0.0211 to 0.0433",
        "partial response (70 %)",
        "held fixed",
        "0.1 to 2.2 (prior)",
        "13.8 cm³",
        "95 % interval 12.6 to 15.1",
        "Assumed: Full dose is given.",
        "not a real patient's record",
        "Follow-up volumes marked 'simulated'",
        "a3a3a3a3a3a3a3a3a3a3",
        "1.2.3.7",
    ],
)
def test_page_holds(page, needle):
    assert needle in page


def test_every_option_stands_with_its_interval(page):
    for option in sample_report().options:
        assert option.label in page
        assert f"{option.change.low:+.1f} to {option.change.high:+.1f}" in page


def test_same_report_same_bytes():
    assert render_pdf(sample_report()) == render_pdf(sample_report())


def test_declares_pdf_a_and_pdf_ua():
    xmp = PdfReader(io.BytesIO(render_pdf(sample_report()))).xmp_metadata.stream.get_data().decode()
    assert "pdfaid:part>2<" in xmp
    assert "pdfuaid:part>1<" in xmp


def test_patient_strings_are_text_never_markup():
    name = '#panic("x") *bold* $1/0$ <label> @ref \\ "q" [c] `raw`'
    text = _text(render_pdf(sample_report(name=name)))
    assert '#panic("x") *bold*' in text


def test_a_name_without_glyphs_in_the_embedded_fonts_still_makes_a_page():
    pdf = render_pdf(sample_report(name="山田^太郎"))
    assert len(PdfReader(io.BytesIO(pdf)).pages) == 1


def test_without_images_and_without_sample_data():
    text = _text(render_pdf(sample_report(images=False, labels=())))
    assert "not a real patient" not in text
    assert RESEARCH_USE in text


def test_many_options_parameters_and_long_names_stay_on_one_page():
    report = sample_report(name="A" * 60 + "^" + "B" * 60)
    option, parameter = report.options[0], report.twin.parameters[0]
    twin = dataclasses.replace(
        report.twin,
        parameters=(parameter,) * 12,
        inputs={f"input {i} " + "x" * 80: "c" * 64 for i in range(12)},
    )
    many = tuple(
        sample_option(f"{i} " + "long protocol " * 8, -0.01, "stable_disease", predicted=option.predicted)
        for i in range(7)
    )
    text = _text(render_pdf(dataclasses.replace(report, options=many, twin=twin)))
    assert "1 more options" in text
    assert "A" * 59 + "…" in text.replace(" ", "").replace("\u200b", "")
    assert RESEARCH_USE in text


def test_report_without_interval_or_timezone_is_refused():
    report = sample_report()
    bare = dataclasses.replace(report.options[0], change=Quantity(-40.0, "%"))
    with pytest.raises(InputError):
        dataclasses.replace(report, options=(bare,))
    with pytest.raises(InputError):
        dataclasses.replace(report, created=datetime(2026, 1, 1))  # noqa: DTZ001  (what is refused)


def test_ids_depend_on_twin_version_and_options_only():
    report = sample_report()
    assert report.report_id == sample_report(name="Other^Name").report_id
    other = dataclasses.replace(report, twin=dataclasses.replace(report.twin, version=4))
    assert report.report_id != other.report_id
    assert report.report_id != dataclasses.replace(report, options=report.options[:1]).report_id
    assert report.tracking_uid == other.tracking_uid
