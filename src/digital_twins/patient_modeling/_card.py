"""A twin on one card, for a notebook or a terminal."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from digital_twins.calibration import Estimate
    from digital_twins.patient_modeling._predict import Prediction
    from digital_twins.patient_modeling._twin import PatientTwin

_CARD = (
    "border:1px solid #bbb;border-radius:6px;padding:10px 14px;display:inline-block;"
    "font-family:sans-serif;font-size:13px;color:#222;background:#fff;max-width:46em"
)
_CELL = "padding:1px 12px 1px 0;text-align:left;vertical-align:top"
_NOTE = "research use, not a medical device"


def one_line(twin: PatientTwin) -> str:
    """Describe a twin in one line, without the patient's identifier: representations end up in logs."""
    volume = twin.current_volume
    return (
        f"<PatientTwin {twin.twin_id[:8]} version {twin.version}, day {twin.origin_day:g}: "
        f"{volume.value:.2f} cm3 ({volume.low:.2f} to {volume.high:.2f}), "
        f"{_count(len(twin.visits), 'follow-up scan')}, {_count(len(twin.treatment_history), 'treatment')}>"
    )


def twin_card(twin: PatientTwin) -> str:
    """Describe a twin as HTML: who, when, how large, which parameters, from what."""
    baseline = "not known" if twin.baseline is None else f"{twin.baseline:%Y-%m-%d %H:%M} UTC"
    volume = twin.current_volume
    facts = [
        ("patient", twin.patient_id),
        ("twin", f"{twin.twin_id}, version {twin.version} of {twin.created_utc:%Y-%m-%d %H:%M} UTC"),
        ("baseline", f"{baseline}, {twin.baseline_volume_cm3:.2f} cm³"),
        (f"volume, day {twin.origin_day:g}", f"{_interval(volume)} cm³, {volume.source}"),
        ("follow-up", ", ".join(f"day {visit.day:g}" for visit in twin.visits) or "none"),
        ("treatments given", "; ".join(t.label for t in twin.treatment_history) or "none"),
    ]
    estimates = [
        (
            name,
            _interval(e),
            e.unit,
            "held fixed" if e.fixed else e.source if e.source == "calibrated" else "prior",
        )
        for name, e in twin.parameters.items()
    ]
    return (
        f'<div style="{_CARD}"><b>Patient twin</b>'
        f"{_table(facts)}"
        f"<b>Parameters</b>, with 95 % intervals{_table(estimates)}"
        f"{_remarks(twin)}"
        f'<div style="color:#777;font-size:11px">content {escape(twin.content_digest[:16])}…, '
        f"digital-twins {escape(twin.provenance.software_version)}, {_NOTE}</div></div>"
    )


def prediction_card(prediction: Prediction) -> str:
    """Describe a prediction as HTML: at most nine of its days."""
    step = max(1, -(-len(prediction.days) // 8))
    chosen = sorted({*range(0, len(prediction.days), step), len(prediction.days) - 1})
    rows = [
        (
            f"day {prediction.days[i]:g}",
            f"{prediction.volume_cm3[i]:.2f} cm³",
            f"{prediction.low_cm3[i]:.2f} to {prediction.high_cm3[i]:.2f}",
        )
        for i in chosen
    ]
    planned = "; ".join(t.label for t in prediction.treatments) or "no treatment"
    return (
        f'<div style="{_CARD}"><b>Prediction</b> from day {prediction.origin_day:g} on: {escape(planned)}'
        f"{_table(rows)}"
        f'<div style="color:#777;font-size:11px">median and {100 * prediction.interval:g} % interval of '
        f"{len(prediction.samples_cm3)} members, twin {escape(prediction.twin_id[:8])} version "
        f"{prediction.model_version}, {_NOTE}</div></div>"
    )


def _remarks(twin: PatientTwin) -> str:
    remarks = () if twin.calibration is None else twin.calibration.identifiability
    lines = "".join(f"<li>{escape(str(text))}</li>" for text in remarks)
    return f'<ul style="margin:4px 0;padding-left:18px">{lines}</ul>' if lines else ""


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = (
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(str(cell))}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f'<table style="border-collapse:collapse;margin:4px 0">{"".join(lines)}</table>'


def _interval(estimate: Estimate) -> str:
    if estimate.fixed:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
