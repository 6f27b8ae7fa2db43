"""The one-page PDF: a typst template filled with data (strings are never markup)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import orjson

from digital_twins.plotting import cut, font_folder
from digital_twins.reports._figures import figures
from digital_twins.reports._model import PRELIMINARY, RESEARCH_USE

if TYPE_CHECKING:
    from digital_twins.records import Quantity
    from digital_twins.reports._model import TwinReport

_MOST_OPTIONS, _MOST_PARAMETERS, _MOST_INPUTS = 6, 7, 5
_PARAMETERS = {
    "diffusion_mm2_per_day": "Diffusion",
    "proliferation_per_day": "Proliferation",
    "alpha_per_gy": "Radiosensitivity alpha",
    "alpha_beta_gy": "Alpha/beta ratio",
    "clearance_half_life_days": "Half-life of dead cells",
    "drug_sensitivity": "Drug sensitivity",
}
_UNITS = {"cm3": "cm³", "/d": "/day", "mm2/d": "mm²/day", "/Gy": "/Gy", "1": ""}


def render_pdf(report: TwinReport) -> bytes:
    """Return the report as one A4 page, PDF/A-2a and PDF/UA-1 where its text allows.

    The same report gives the same bytes: the PDF's dates are those of ``report.created``. When a name
    needs a script that the embedded fonts lack, the page is written without the two standards, which
    forbid missing glyphs, with the system's fonts.

    Parameters
    ----------
    report
        What to say.

    Returns
    -------
    bytes
        A PDF file of one page with extractable text.
    """
    import typst

    template = files("digital_twins.reports").joinpath("twin_report.typ").read_bytes()
    inputs = {"report": orjson.dumps(_data(report)).decode()}
    common: dict[str, Any] = {
        "format": "pdf",
        "sys_inputs": inputs,
        "timestamp": int(report.created.timestamp()),
        "root": str(font_folder()),
    }
    try:
        pdf = typst.compile(
            template,
            font_paths=fonts(system=False),
            ignore_system_fonts=True,
            pdf_standards=["a-2a", "ua-1"],
            **common,
        )
    except typst.TypstError:
        pdf = typst.compile(template, font_paths=fonts(system=True), **common)
    return bytes(pdf)


@cache
def fonts(*, system: bool) -> Any:
    """Return the fonts of the documents, with those of the system or without."""
    import typst

    return typst.Fonts(
        include_system_fonts=system, include_embedded_fonts=True, font_paths=[str(font_folder())]
    )


def _data(report: TwinReport) -> dict[str, Any]:
    twin, software = report.twin, f"{report.software_name} {report.software_version}"
    return {
        "title": "Digital twin report",
        "subtitle": f"Twin {twin.twin_id}, version {twin.version}, model {twin.model.replace('_', ' ')}",
        "made": f"{software}, {report.created:%Y-%m-%d %H:%M %Z}",
        "software": software,
        "keywords": ["digital twin", "research use"],
        "status": PRELIMINARY,
        "research_use": RESEARCH_USE,
        "footer": f"Report {report.report_id}",
        "notices": list(report.notices),
        "banner": _banner(report),
        "key_numbers": _key_numbers(report),
        "figures": figures(report),
        "options": _options(report),
        "parameters": _parameters(report),
        "provenance": _provenance(report),
    }


def _banner(report: TwinReport) -> list[dict[str, str]]:
    record, study = report.record, report.study
    pairs = (
        ("Patient", (record.name or "").replace("^", ", ", 1).replace("^", " ").strip(", ")),
        ("Patient ID", record.patient_id),
        ("Born", record.birth_date.isoformat() if record.birth_date else None),
        ("Sex", record.sex),
        ("Diagnosis", record.diagnosis),
        ("Stage", record.stage),
        ("Study", study.description),
        ("Study date", study.study_date),
        ("Accession", study.accession_number),
        ("Modality", study.modality),
        ("Biomarkers", ", ".join(f"{k} {v}" for k, v in record.biomarkers.items())),
        ("Baseline", f"{report.twin.baseline:%Y-%m-%d}" if report.twin.baseline else None),
    )
    shown = [(label, _short(str(value or "-"), 60)) for label, value in pairs]
    return [{"label": label, "value": breakable(value, 14)} for label, value in shown]


def _key_numbers(report: TwinReport) -> list[dict[str, str]]:
    twin = report.twin
    items = [("Tumour volume, baseline", twin.volume), ("Growth rate (model estimate)", twin.growth_rate)]
    if twin.current_volume is not None:
        items.insert(1, (f"Volume, day {twin.current_day:g} (model)", twin.current_volume))
    elif twin.longest_diameter is not None:
        items.insert(1, ("Longest diameter", twin.longest_diameter))
    found = [
        {
            "label": label,
            "value": f"{number(q.value)} {_unit(q.unit)}",
            "interval": interval_text(q) if q.has_interval else "measured once, no interval",
        }
        for label, q in items
    ]
    best = min(report.options, key=lambda option: option.change.value)
    found.append(
        {
            "label": "Lowest predicted change",
            "value": f"{best.change.value:+.0f} %",
            "interval": f"{_short(best.label, 34)}, {interval_text(best.change)}",
        }
    )
    return found


def _options(report: TwinReport) -> dict[str, Any]:
    shown = report.options[:_MOST_OPTIONS]
    rows = [
        [
            _short(option.label, 64),
            f"{option.horizon_days:g}",
            f"{number(option.volume.value)} ({_limits(option.volume)})",
            f"{option.change.value:+.1f} ({option.change.low:+.1f} to {option.change.high:+.1f})",
            option.category.replace("_", " ") + _probability(option.probabilities.get(option.category)),
        ]
        for option in shown
    ]
    head = [
        "Option",
        "Day",
        "Volume, cm³ (interval)",
        "Change, % (interval)",
        "Predicted response (probability)",
    ]
    criteria = " / ".join(dict.fromkeys(o.criteria for o in shown))
    note = f"Medians with {100 * shown[0].change.level:g} % intervals; response category by {criteria}."
    if len(report.options) > len(shown):
        note += f" {len(report.options) - len(shown)} more options are in the structured report."
    assumptions = "; ".join(dict.fromkeys(text for option in shown for text in option.assumptions))
    note += f" Assumed: {cut(assumptions, 420)}" if assumptions else ""
    return {"head": head, "rows": rows, "note": note}


def _parameters(report: TwinReport) -> dict[str, Any]:
    parameters = report.twin.parameters
    rows = []
    for parameter in parameters[:_MOST_PARAMETERS]:
        q = parameter.estimate
        interval = "held fixed" if parameter.fixed else _limits(q)
        if not parameter.fixed and parameter.source != "calibrated":
            interval += " (prior)"
        name = _PARAMETERS.get(parameter.name, parameter.name.replace("_", " ").capitalize())
        rows.append([_short(name, 34), number(q.value), interval, _unit(q.unit) or "-"])
    note = "95 % intervals. A prior was not informed by this patient; a fixed value is from the literature."
    if len(parameters) > _MOST_PARAMETERS:
        note += f" {len(parameters) - _MOST_PARAMETERS} more are in the twin."
    return {"head": ["Parameter", "Value", "Interval", "Unit"], "rows": rows, "note": note}


def _provenance(report: TwinReport) -> list[dict[str, str]]:
    twin = report.twin
    inputs = list(twin.inputs.items())
    lines = [(_short(name, 30), f"sha256 {digest[:20]}") for name, digest in inputs[:_MOST_INPUTS]]
    if len(inputs) > _MOST_INPUTS:
        lines.append(("Further inputs", str(len(inputs) - _MOST_INPUTS)))
    lines += [
        ("Study UID", report.study.study_uid),
        ("Software", f"{report.software_name} {report.software_version}"),
        ("Random seed", "-" if twin.seed is None else str(twin.seed)),
        (
            "Volumes used",
            f"{len(twin.observed)}, of them simulated {sum(p.simulated for p in twin.observed)}",
        ),
    ]
    return [{"label": label, "value": breakable(_short(value, 64), 40)} for label, value in lines]


def number(value: float) -> str:
    """Return a number with three significant digits, as the page and the FHIR text write it."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def interval_text(quantity: Quantity) -> str:
    """Return e.g. ``"95 % interval 0.02 to 0.04"``."""
    return f"{100 * quantity.level:g} % interval {_limits(quantity)}"


def _limits(quantity: Quantity) -> str:
    if quantity.low is None or quantity.high is None:
        return "-"
    return f"{number(quantity.low)} to {number(quantity.high)}"


def _probability(share: float | None) -> str:
    return "" if share is None else f" ({100 * share:.0f} %)"


def _unit(unit: str) -> str:
    return _UNITS.get(unit, unit)


def breakable(text: str, every: int) -> str:
    """Put a zero-width space into words that would run over their column."""
    return " ".join(
        "\u200b".join(word[i : i + every] for i in range(0, len(word), every)) for word in text.split(" ")
    )


def _short(text: str, most: int) -> str:
    return cut(text, most) or "-"
