"""The analysis app: history, models, thresholds and what-if of a running monitor, in Streamlit and Plotly.

``twin monitor analyse`` runs it. It asks the monitor's HTTP API only, with the token of the person who reads.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import streamlit as st

from digital_twins._errors import DigitalTwinError
from digital_twins.monitoring.analysis._client import MonitorClient
from digital_twins.monitoring.analysis._figures import (
    evaluation_figure,
    history_figure,
    outlook_figure,
    titled,
)
from digital_twins.monitoring.signals import VITALS

if TYPE_CHECKING:
    from collections.abc import Callable

REFRESH_S = 3.0  # between two pictures of a live view: the rhythm of the demonstration
ADDRESS = "TWIN_MONITOR_URL"  # environment variable with the monitor's address
_FIRST = ("HR", "ART_MEAN", "SPO2", "RR")
_STATUS = {"critical": "*** critical", "warning": "** warning", "normal": "normal"}


def main() -> None:
    """Draw the page once, as Streamlit asks for."""
    st.set_page_config(page_title="Monitor analysis · Digital Twins", layout="wide")
    st.title("Monitor analysis")
    st.caption("Research use only: not a medical device. Live supervision belongs to the central station.")
    with st.sidebar:
        url = st.text_input("Monitor", os.environ.get(ADDRESS, "http://127.0.0.1:8043"))
        token = st.text_input("Your token", type="password")
        view = st.radio("View", list(_VIEWS))
    if not token:
        st.info("Type the token that the monitor knows you by.")
        return
    try:
        with MonitorClient(url, token=token) as monitor:
            who = monitor.session()
            if not who["name"]:
                st.error("The token is unknown. Ask who keeps the monitor's file of staff.")
                return
            if who["simulated"]:
                st.warning("SIMULATED PATIENTS.")
            st.sidebar.caption(f"{who['name']}, {who['role']}")
        _VIEWS[view](url, token)
    except DigitalTwinError as error:
        st.error(str(error))


def _told(url: str, token: str, draw: Callable[[MonitorClient], None]) -> None:
    """Draw now and every few seconds; an error is shown where the view would be."""

    def once() -> None:
        try:
            with MonitorClient(url, token=token) as monitor:
                draw(monitor)
        except DigitalTwinError as error:
            st.error(str(error))

    live = st.toggle("Refresh every 3 s", value=False, help="Draws anew from the monitor's latest readings.")
    st.fragment(once, run_every=REFRESH_S if live else None)()


def _ward(url: str, token: str) -> None:
    def draw(monitor: MonitorClient) -> None:
        tiles = monitor.patients()["patients"]
        rows = [
            {
                "bed": each["bed"],
                "patient": each["patient"],
                "status": _STATUS[each["status"]],
                **{titled(code): each["vitals"][code] for code in (*_FIRST, "TEMP")},
                "NEWS2": each["news2"],
                "open alerts": len(each["alerts"]),
            }
            for each in tiles
        ]
        st.dataframe(rows, hide_index=True)
        st.caption(f"{len(rows)} patients. An empty cell: no usable reading.")

    _told(url, token, draw)


def _patient(monitor: MonitorClient) -> str | None:
    names = {each["patient"]: each["bed"] for each in monitor.patients()["patients"]}
    if not names:
        st.info("No patient is monitored.")
        return None
    chosen: str = st.selectbox(
        "Patient", list(names), format_func=lambda each: f"{names[each] or 'no bed'} · {each}", key="patient"
    )
    return chosen


def _history(url: str, token: str) -> None:
    with MonitorClient(url, token=token) as monitor:
        patient = _patient(monitor)
    if patient is None:
        return
    left, right = st.columns([3, 1])
    codes = left.multiselect(
        "Vital signs", [each.code for each in VITALS], default=list(_FIRST), format_func=titled
    )
    minutes = right.selectbox("Span", (15, 60, 240, 1440, 10_080), index=1, format_func=_span)
    if not codes:
        st.info("Choose a vital sign.")
        return

    def draw(monitor: MonitorClient) -> None:
        now_s = monitor.patients()["at_s"]
        found = monitor.history(patient, codes, since_s=now_s - minutes * 60.0, until_s=now_s)
        st.plotly_chart(history_figure(found, monitor.thresholds()["rules"]), key="history")
        counts = ", ".join(f"{code} {each['readings']}" for code, each in found["series"].items())
        st.caption(f"Line: mean; band: lowest to highest; dashed: limits. UTC. Readings: {counts}.")
        for each in found["alerts"]:
            st.markdown(f"`{each['marks']} {each['priority']}` {each['text']}")

    _told(url, token, draw)


def _span(minutes: int) -> str:
    hours = minutes / 60
    return f"{minutes} min" if hours < 1 else f"{hours:g} h" if hours <= 24 else f"{hours / 24:g} days"


def _models(url: str, token: str) -> None:
    with MonitorClient(url, token=token) as monitor:
        answer = monitor.models()
    st.caption(answer["note"])
    for card in answer["models"]:
        with st.expander(card["name"], expanded=True):
            st.write(card["method"])
            st.write(f"**In:** {', '.join(card['inputs'])}")
            st.write(f"**Out:** {', '.join(card['outputs'])}")
            if card["settings"]:
                st.dataframe([card["settings"]], hide_index=True)
    st.subheader("Risk of in-hospital death: an evaluation")
    file = st.file_uploader("What `twin monitor evaluate --json` printed", type="json")
    if file is not None:
        _evaluation(file.getvalue())


def _evaluation(text: bytes) -> None:
    try:
        answer: dict[str, Any] = json.loads(text)
        measures = list(next(iter(next(iter(answer.values())).values())))
        measure = st.selectbox("Measure", measures)
        st.plotly_chart(evaluation_figure(answer, measure), key="evaluation")
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        st.error("The file is no output of `twin monitor evaluate --json`.")


def _thresholds(url: str, token: str) -> None:
    with MonitorClient(url, token=token) as monitor:
        answer = monitor.thresholds()
    st.subheader("Limits")
    st.dataframe(answer["rules"], hide_index=True)
    st.subheader("Own limits of patients")
    own = [
        {"patient": patient, "rule": rule, "limit": limit}
        for patient, limits in answer["own_limits"].items()
        for rule, limit in limits.items()
    ]
    if own:
        st.dataframe(own, hide_index=True)
    else:
        st.write("None.")
    st.subheader("Never suppressed")
    st.dataframe(answer["events"], hide_index=True)
    st.subheader("Escalation")
    st.dataframe(answer["escalation"], hide_index=True)
    st.caption(
        f"May acknowledge: {', '.join(answer['may_acknowledge'])}. The rules are changed in "
        "alert_thresholds.yaml and by a restart, not here."
    )


def _what_if(url: str, token: str) -> None:
    with MonitorClient(url, token=token) as monitor:
        patient = _patient(monitor)
        if patient is None:
            return
        with st.form("action"):
            fluid, over, tone, oxygen = st.columns(4)
            action = {
                "fluid_ml": fluid.number_input("Fluid, ml", 0, 3000, 500, 50),
                "fluid_minutes": over.number_input("over, min", 1, 240, 15),
                "vasopressor": tone.number_input("Vascular tone, factor", 0.5, 3.0, 1.0, 0.1),
                "oxygen_fraction": oxygen.number_input("Inspired oxygen, fraction", 0.21, 1.0, 0.21, 0.01),
            }
            asked = st.form_submit_button("Simulate 30 min")
        if asked:
            found = monitor.what_if(patient, action)
            st.plotly_chart(outlook_figure(found, ("MAP", "HR", "SPO2", "RR")), key="outlook")
            last = {name: found[name]["MAP"]["median"][-1] for name in ("without", "with")}
            st.write(
                f"In 30 minutes mean pressure {last['without']:.0f} mmHg without, {last['with']:.0f} mmHg "
                f"with the action. Bands: 5 % to 95 %. {found['with']['note']}"
            )


_VIEWS: dict[str, Callable[[str, str], None]] = {
    "Ward": _ward,
    "History": _history,
    "Models": _models,
    "Thresholds": _thresholds,
    "What if": _what_if,
}

if __name__ == "__main__":
    main()
