"""The peer: a hundred beds with numbers and live trends on a Streamlit page at 1 Hz, in the usual way."""

import numpy as np
import plotly.graph_objects as go
import streamlit as st

BEDS, SPAN, COLUMNS = 100, 300, 10
st.set_page_config(layout="wide")
state = st.session_state
if "heart" not in state:
    state.rng = np.random.default_rng(0)
    state.heart = 75.0 + state.rng.standard_normal((BEDS, SPAN))
    state.frames = 0


@st.fragment(run_every=1.0)
def ward() -> None:
    fresh = 75.0 + state.rng.standard_normal((BEDS, 1))
    state.heart = np.concatenate([state.heart[:, 1:], fresh], axis=1)
    state.frames += 1
    columns = st.columns(COLUMNS)
    for bed in range(BEDS):
        with columns[bed % COLUMNS]:
            st.metric(f"ICU-{bed + 1}", f"{state.heart[bed, -1]:.0f}", help="MAP 92, SpO2 97, RR 15, T 36.9")
            chart = go.Figure(go.Scatter(y=state.heart[bed], mode="lines"))
            chart.update_layout(height=60, margin={"l": 0, "r": 0, "t": 0, "b": 0})
            chart.update_xaxes(visible=False)
            chart.update_yaxes(visible=False)
            st.plotly_chart(chart, key=f"bed-{bed}", config={"displayModeBar": False})
    st.text(f"frame {state.frames}")  # the last of a frame: it is seen once all beds are there


ward()
