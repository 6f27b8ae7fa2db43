"""The analysis app by Streamlit's own AppTest, on a monitor behind its HTTP API, and the routes for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from digital_twins._errors import InputError
from digital_twins.monitoring import (
    AssociationLog,
    Intake,
    MonitorClient,
    MonitorRefusedError,
    PatientMonitor,
)
from foreign import python_package
from served_monitor import NOW_S, READINGS, ServedMonitor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedMonitor]:
    made = ServedMonitor(tmp_path_factory.mktemp("monitor"))
    yield made
    made.close()


@pytest.fixture
def client(served: ServedMonitor) -> Iterator[MonitorClient]:
    with MonitorClient(served.url, token="n") as made:
        yield made


def test_history_joins_files_and_memory_without_gap_or_repetition(
    served: ServedMonitor, client: MonitorClient
) -> None:
    assert list(served.service.history.folder.glob("*.parquet"))
    found = client.history("SIM-1", ["HR", "NIBP_MEAN"], since_s=NOW_S - 3600, until_s=NOW_S)
    heart = found["series"]["HR"]
    assert heart["readings"] == READINGS
    np.testing.assert_array_equal(heart["t"], NOW_S - READINGS + 1 + np.arange(READINGS))
    np.testing.assert_allclose(heart["mean"], served.heart, atol=0.006)
    part = client.history("SIM-1", ["HR"], since_s=NOW_S - 900, until_s=NOW_S - 890)
    assert part["series"]["HR"]["readings"] == 11
    assert client.history("gone", ["HR"], since_s=0, until_s=1)["series"]["HR"]["readings"] == 0


def test_history_of_many_readings_hides_no_peak() -> None:
    from digital_twins.monitoring.station._review import MOST_POINTS, history_view

    time_s = np.arange(50_000.0) + 0.5
    values = np.sin(time_s / 700.0)
    values[12_345], values[40_000] = 9.0, -9.0
    monitor = PatientMonitor(Intake(AssociationLog()), capacity=1)
    filed = {"HR": (time_s, values)}
    found = history_view(monitor, filed, patient="P", since_s=0.0, until_s=50_000.0)["series"]["HR"]
    assert found["readings"] == 50_000
    assert len(found["t"]) == len(found["mean"]) == MOST_POINTS
    assert (max(found["high"]), min(found["low"])) == (9.0, -9.0)
    blocks = values.reshape(MOST_POINTS, -1)
    np.testing.assert_allclose(found["mean"], blocks.mean(axis=1), atol=0.0051)
    np.testing.assert_allclose(found["t"], time_s.reshape(MOST_POINTS, -1).mean(axis=1))


def test_routes_need_a_token_and_a_usable_span(served: ServedMonitor, client: MonitorClient) -> None:
    for path in ("/history", "/thresholds", "/models"):
        assert httpx.get(f"{served.url}{path}").status_code == 401
    spans: tuple[tuple[list[str], float, float], ...] = (
        (["HR"], NOW_S, NOW_S),
        (["HR"], 0.0, 1e9),
        (["HR"], float("nan"), NOW_S),
        (["NONE"], NOW_S - 1, NOW_S),
    )
    for codes, since_s, until_s in spans:
        with pytest.raises(MonitorRefusedError):
            client.history("SIM-1", codes, since_s=since_s, until_s=until_s)
    answer = httpx.get(f"{served.url}/history", headers={"Authorization": "Bearer n"})
    assert answer.status_code == 400
    with (
        MonitorClient(served.url, token="wrong") as stranger,
        pytest.raises(MonitorRefusedError, match="Not allowed"),
    ):
        stranger.patients()
    for url in ("http://elsewhere", "ftp://127.0.0.1", "nothing"):
        with pytest.raises(InputError):
            MonitorClient(url, token="n")


def test_rules_and_models_are_those_in_force(served: ServedMonitor, client: MonitorClient) -> None:
    told = client.thresholds()
    rules = served.service.monitor.thresholds.rules
    assert [each["id"] for each in told["rules"]] == [each.id for each in rules]
    assert told["own_limits"] == {}
    served.service.monitor.conditions.set_limits(served.service.monitor.row_of("SIM-1"), {rules[0].id: 33.0})
    assert client.thresholds()["own_limits"] == {"SIM-1": {rules[0].id: 33.0}}
    served.service.monitor.conditions.set_limits(
        served.service.monitor.row_of("SIM-1"), {rules[0].id: rules[0].limit}
    )
    assert {"asystole", "vf", "vt", "apnoea"} <= {each["event"] for each in told["events"]}
    names = [each["name"] for each in client.models()["models"]]
    assert names == ["Trend filter", "Physiological twin", "NEWS2", "Isolation Forest"]


@pytest.fixture
def app(served: ServedMonitor, monkeypatch: pytest.MonkeyPatch) -> Any:
    python_package("streamlit")
    python_package("plotly")
    from streamlit.testing.v1 import AppTest

    from digital_twins.monitoring.analysis._start import ANALYSIS_APP

    monkeypatch.setenv("TWIN_MONITOR_URL", served.url)
    made = AppTest.from_file(str(ANALYSIS_APP), default_timeout=120).run()
    assert not made.exception
    assert "token" in made.info[0].value
    made.sidebar.text_input[1].set_value("n")
    return made


def view(app: Any, name: str) -> Any:
    app.sidebar.radio[0].set_value(name).run()
    assert not app.exception
    assert not app.error
    return app


def chart(app: Any) -> dict[str, Any]:
    (found,) = app.get("plotly_chart")
    return dict(json.loads(found.proto.spec))


def test_ward_and_history(app: Any, served: ServedMonitor) -> None:
    ward = view(app, "Ward").dataframe[0].value
    assert list(ward["patient"]) == ["SIM-1"]
    assert ward["status"][0] == "** warning"
    history = view(app, "History")
    lines = [each for each in chart(history)["data"] if each.get("name") == "HR"]
    assert len(lines[0]["y"]) == READINGS
    assert max(lines[0]["y"]) == 119.0
    labels = [each["text"] for each in chart(history)["layout"]["annotations"]]
    assert any("* below" in each or "* above" in each for each in labels)
    assert "HR 1200" in history.caption[1].value
    history.multiselect[0].set_value(["NIBP_MEAN"]).run()
    assert {each["name"] for each in chart(history)["data"]} == {
        "NIBP_MEAN",
        "NIBP_MEAN low",
        "NIBP_MEAN high",
    }


def test_models_and_thresholds(app: Any, served: ServedMonitor) -> None:
    models = view(app, "Models")
    assert [each.label for each in models.expander][:3] == ["Trend filter", "Physiological twin", "NEWS2"]
    thresholds = view(app, "Thresholds")
    ids = [each.id for each in served.service.monitor.thresholds.rules]
    assert list(thresholds.dataframe[0].value["id"]) == ids


def test_what_if_shows_what_the_monitor_answers(app: Any, client: MonitorClient) -> None:
    page = view(app, "What if")
    assert not page.get("plotly_chart")
    page.number_input[2].set_value(2.0)
    page.button[0].click().run()
    assert not page.exception
    action = {"fluid_ml": 500, "fluid_minutes": 15, "vasopressor": 2.0, "oxygen_fraction": 0.21}
    told = client.what_if("SIM-1", action)
    last = {name: told[name]["MAP"]["median"][-1] for name in ("without", "with")}
    assert last["with"] > last["without"] + 5
    assert f"{last['with']:.0f} mmHg with the action" in page.markdown[-1].value
    medians = [each for each in chart(page)["data"] if each.get("name") == "with the action"]
    assert medians[0]["y"] == told["with"]["MAP"]["median"]


def test_wrong_token_and_silent_monitor_are_said(app: Any) -> None:
    app.sidebar.text_input[1].set_value("wrong").run()
    assert "token is unknown" in app.error[0].value
    app.sidebar.text_input[0].set_value("http://127.0.0.1:9").run()
    assert "does not answer" in app.error[0].value
    app.sidebar.text_input[0].set_value("http://elsewhere").run()
    assert "https" in app.error[0].value
    assert not app.exception


def test_evaluation_is_drawn_with_its_intervals() -> None:
    from digital_twins.monitoring.analysis._figures import evaluation_figure

    figure = {"value": 0.8, "low": 0.7, "high": 0.85}
    drawn = evaluation_figure({"vitals": {"ours": {"auroc": figure}}}, "auroc")["data"][0]
    assert drawn["x"] == [0.8]
    assert drawn["y"] == ["ours (vitals)"]
    assert drawn["error_x"]["array"] == [pytest.approx(0.05)]
    assert drawn["error_x"]["arrayminus"] == [pytest.approx(0.1)]


def test_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from digital_twins._errors import MissingExtraError
    from digital_twins.monitoring import run_analysis

    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as raised:
        run_analysis("http://127.0.0.1:1")
    assert raised.value.fix == "pip install 'digital-twins[streamlit]'"
