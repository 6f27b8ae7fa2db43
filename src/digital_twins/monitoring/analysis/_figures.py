"""Figures of the analysis app as plain Plotly documents (data and layout), from the monitor's answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from digital_twins.monitoring.signals import COLUMN, VITALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Figure = dict[str, Any]
_WITHOUT, _WITH = "#0a57a4", "#b3400a"
_WITHOUT_BAND, _WITH_BAND = "rgba(10,87,164,0.18)", "rgba(179,64,10,0.18)"
_LIMIT = {"high": "#b3141c", "medium": "#8a6a00", "low": "#0b7f93"}
_NAMES = {
    "MAP": "Mean pressure, mmHg",
    "SYS": "Systolic pressure, mmHg",
    "DIA": "Diastolic pressure, mmHg",
}


def titled(code: str) -> str:
    """Return name and unit of a vital sign for people."""
    if code in _NAMES:
        return _NAMES[code]
    each = VITALS[COLUMN[code]]
    unit = {"mm[Hg]": "mmHg", "Cel": "°C"}.get(each.unit, each.unit)
    return f"{each.name}, {unit}"


def history_figure(history: Mapping[str, Any], rules: Iterable[Mapping[str, Any]]) -> Figure:
    """Return one panel a vital sign: the mean as a line, its extremes as a band, limits dashed with a label.

    Parameters
    ----------
    history
        Answer of ``GET history``.
    rules
        Rules of ``GET thresholds``; those of the shown signs are drawn.
    """
    series: Mapping[str, Mapping[str, Any]] = history["series"]
    data: list[dict[str, Any]] = []
    layout = _layout(len(series))
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    span = [_moment(history["since_s"]), _moment(history["until_s"])]
    rules = list(rules)
    for panel, (code, found) in enumerate(series.items()):
        x, y = _axes(layout, panel, len(series), titled(code))
        layout[f"xaxis{_number(panel)}"]["range"] = span
        at = [_moment(each) for each in found["t"]]
        common = {"x": at, "xaxis": x, "yaxis": y, "mode": "lines", "showlegend": False}
        edge = {**common, "line": {"width": 0}, "hoverinfo": "skip"}
        data += [
            {**edge, "y": found["low"], "name": f"{code} low"},
            {
                **edge,
                "y": found["high"],
                "name": f"{code} high",
                "fill": "tonexty",
                "fillcolor": _WITHOUT_BAND,
            },
            {**common, "y": found["mean"], "name": code, "line": {"color": _WITHOUT, "width": 1.5}},
        ]
        for rule in (each for each in rules if each["signal"] == code):
            shape, note = _limit(rule, x, y)
            shapes.append(shape)
            notes.append(note)
    return {"data": data, "layout": {**layout, "shapes": shapes, "annotations": notes}}


def outlook_figure(found: Mapping[str, Any], codes: Sequence[str]) -> Figure:
    """Return one panel a sign: solid without the action, dashed with it, bands from 5 % to 95 %.

    Parameters
    ----------
    found
        Answer of ``POST what-if``.
    codes
        Of `OBSERVED`.
    """
    data: list[dict[str, Any]] = []
    layout = _layout(len(codes))
    for panel, code in enumerate(codes):
        x, y = _axes(layout, panel, len(codes), titled(code))
        for name, colour, band, dash in (
            ("without", _WITHOUT, _WITHOUT_BAND, "solid"),
            ("with", _WITH, _WITH_BAND, "dash"),
        ):
            common = {"x": found[name]["minutes"], "xaxis": x, "yaxis": y, "mode": "lines"}
            edge = {**common, "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
            data += [
                {**edge, "y": found[name][code]["low"]},
                {**edge, "y": found[name][code]["high"], "fill": "tonexty", "fillcolor": band},
                {
                    **common,
                    "y": found[name][code]["median"],
                    "name": f"{name} the action",
                    "line": {"color": colour, "dash": dash, "width": 2},
                    "showlegend": panel == 0,
                },
            ]
    layout[f"xaxis{_number(len(codes) - 1)}"]["title"] = {"text": "minutes from now"}
    return {"data": data, "layout": layout}


def evaluation_figure(answer: Mapping[str, Any], measure: str) -> Figure:
    """Return predictors with their 95 % bootstrap intervals, a panel for each set of inputs.

    Parameters
    ----------
    answer
        What ``twin monitor evaluate --json`` printed.
    measure
        Such as ``auroc``.
    """
    data = []
    for number, (inputs, predictors) in enumerate(answer.items()):
        rows = {name: each[measure] for name, each in predictors.items()}
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [each["value"] for each in rows.values()],
                "y": [f"{name} ({inputs})" for name in rows],
                "name": inputs,
                "marker": {"symbol": ("circle", "diamond", "square")[number % 3], "size": 9},
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [each["high"] - each["value"] for each in rows.values()],
                    "arrayminus": [each["value"] - each["low"] for each in rows.values()],
                },
            }
        )
    layout = {
        **_layout(2),
        "xaxis": {"title": {"text": f"{measure}, 95 % interval"}},
        "yaxis": {"automargin": True},
    }
    return {"data": data, "layout": layout}


def _limit(rule: Mapping[str, Any], x: str, y: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the line of a limit across a panel, and its label: asterisks, direction and number."""
    colour, wide = _LIMIT[rule["priority"]], f"{x} domain"
    line = {"color": colour, "dash": "dash", "width": 1}
    ends = {"x0": 0, "x1": 1, "y0": rule["limit"], "y1": rule["limit"]}
    note = {
        "text": f"{rule['marks']} {rule['when']} {rule['limit']:g}",
        "x": 1,
        "xanchor": "right",
        "y": rule["limit"],
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 10, "color": colour},
    }
    shape = {"type": "line", "xref": wide, "yref": y, "line": line, **ends}
    return shape, {**note, "xref": wide, "yref": y}


def _layout(panels: int) -> dict[str, Any]:
    return {
        "height": 90 + 150 * panels,
        "margin": {"l": 60, "r": 20, "t": 30, "b": 40},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom"},
        "hovermode": "x unified",
    }


def _number(panel: int) -> str:
    return "" if panel == 0 else str(panel + 1)


def _axes(layout: dict[str, Any], panel: int, panels: int, title: str) -> tuple[str, str]:
    """Add the axes of a panel, the first on top; return their names."""
    n = _number(panel)
    top, gap = 1.0 - panel / panels, 0.18 / panels if panels > 1 else 0.0
    layout[f"xaxis{n}"] = {"anchor": f"y{n}", "showticklabels": panel == panels - 1}
    if panel:
        layout[f"xaxis{n}"]["matches"] = "x"
    layout[f"yaxis{n}"] = {
        "anchor": f"x{n}",
        "domain": [top - 1.0 / panels + gap, top],
        "title": {"text": title.replace(", ", "<br>"), "font": {"size": 11}},
    }
    return f"x{n}", f"y{n}"


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")[:-6]
