"""``twin monitor``: the live patient monitor, and its demonstration."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digital_twins.cli import _monitor_analyse, _monitor_models, _monitor_serve, _monitor_worker
from digital_twins.cli._options import Json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from digital_twins.monitoring import PatientMonitor, VirtualWard

_ExitAfter = Annotated[
    float | None,
    typer.Option(help="End after that many seconds; default: at the end, or Ctrl-C.", show_default=False),
]
_Thresholds = Annotated[
    Path | None, typer.Option(help="Alert rules instead of the bundled ones.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the command and its parts."""
    monitor = typer.Typer(no_args_is_help=True, help="Live patient monitor. Research use only.")
    monitor.command("demo")(demo)
    _monitor_serve.register(monitor)
    monitor.command("worker")(_monitor_worker.worker)
    monitor.command("analyse")(_monitor_analyse.analyse)
    _monitor_models.register(monitor)
    app.add_typer(monitor, name="monitor")


def demo(
    *,
    exit_after: _ExitAfter = None,
    minutes: Annotated[int, typer.Option(min=1, max=240, help="Simulated minutes.")] = 20,
    speed: Annotated[
        float, typer.Option(min=0, help="Simulated seconds a second; 0: as fast as it goes.")
    ] = 20.0,
    profiles: Annotated[
        Path | None, typer.Option(help="Patient profiles instead of the bundled ones.", show_default=False)
    ] = None,
    thresholds: _Thresholds = None,
    record: Annotated[
        Path | None, typer.Option(help="WFDB numerics header to replay afterwards.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch three virtual patients, one of whom deteriorates, then the replay of a record.

    A reading comes every three seconds of the patients' time. Everything is simulated, except a record that
    you name with --record.
    """
    import asyncio
    import time

    from digital_twins.cli import _output
    from digital_twins.monitoring import VirtualWard, load_profiles, load_thresholds, replay_record

    ward = VirtualWard(load_profiles(profiles), thresholds=load_thresholds(thresholds))
    end = time.monotonic() + exit_after if exit_after is not None else float("inf")
    if not as_json:
        _output.write_lines(["SIMULATED patients. Research use only, not a medical device."])
    played = _play(ward, minutes * 60, speed=speed, end=end, quiet=as_json)
    updates, alerts = asyncio.run(played)
    tiles = ward.view()
    replayed = _replayed(replay_record(record), end)
    if as_json:
        _output.write_json(
            {
                "synthetic": True,
                "updates": updates,
                "interval_s": 3,
                "patients": tiles,
                "alerts": alerts,
                "record": {"synthetic": record is None, **replayed},
            }
        )
        return
    _table(tiles, ward.now_s)
    kind = "record" if record is not None else "SIMULATED record"
    _output.write_lines([f"Replay of a {kind}, {replayed['minutes']:.0f} minutes:"])
    for each in replayed["alerts"]:
        _output.write_lines(_lines([each], each["raised_s"]))


async def _play(
    ward: "VirtualWard", seconds: float, *, speed: float, end: float, quiet: bool
) -> tuple[int, list[dict[str, Any]]]:
    """Let the ward live, on the central station where a person may watch; return updates and alerts."""
    import asyncio
    import contextlib
    import time

    from digital_twins.cli import _output
    from digital_twins.monitoring import open_ward

    told: set[int] = set()
    alerts: list[dict[str, Any]] = []
    updates = 0
    async with contextlib.AsyncExitStack() as stack:
        if speed and not quiet:
            address = await stack.enter_async_context(open_ward(ward))
            _output.write_lines([f"Central station, as long as the patients live: {address}"])
        while ward.now_s < seconds and time.monotonic() < end:
            ward.step()
            updates += 1
            new = _news(ward.monitor, told)
            alerts += new
            if not quiet:
                _output.write_lines(_lines(new, ward.now_s))
                if updates % 20 == 0:
                    _table(ward.view(), ward.now_s)
            if speed:
                await asyncio.sleep(min(3.0 / speed, max(end - time.monotonic(), 0.0)))
    return updates, alerts


def _replayed(frames: "Iterable[tuple[float, PatientMonitor]]", end: float) -> dict[str, Any]:
    import time

    told: set[int] = set()
    alerts: list[dict[str, Any]] = []
    minutes = 0.0
    for minute, monitor in frames:
        minutes = minute
        alerts += _news(monitor, told)
        if time.monotonic() > end + 5.0:
            break
    return {"minutes": minutes, "alerts": alerts}


def _news(monitor: "PatientMonitor", told: set[int]) -> list[dict[str, Any]]:
    new = [each for each in monitor.alerts.open_alerts() if each.id not in told]
    told |= {each.id for each in new}
    return [each.to_dict() for each in new]


def _lines(alerts: list[dict[str, Any]], now_s: float) -> list[str]:
    return [
        f"{now_s / 60:6.1f} min  {each['marks']:<3} {each['priority']:<6} {each['patient']}: {each['text']}"
        for each in alerts
    ]


def _table(tiles: list[dict[str, Any]], now_s: float) -> None:
    from digital_twins.cli import _output

    rows = []
    for tile in tiles:
        vitals = tile["vitals"]
        ahead = tile["forecast_15_min"]["ART_MEAN"]
        rows.append(
            [
                f"{now_s / 60:.1f}",
                tile["patient"],
                tile["status"].upper(),
                *("-" if vitals[code] is None else vitals[code] for code in _SHOWN),
                f"{tile['news2']:.0f}",
                f"{ahead['low']:.0f} to {ahead['high']:.0f}",
                f"{tile['isolation_forest']:.1f} / {tile['one_class_svm']:.1f}",
                tile["condition"],
            ]
        )
    _output.write_table(
        [
            "min",
            "patient",
            "status",
            "HR",
            "MAP",
            "SpO2",
            "RR",
            "T",
            "NEWS2",
            "MAP in 15 min",
            "forest / SVM",
            "condition",
        ],
        rows,
    )


_SHOWN = ("HR", "ART_MEAN", "SPO2", "RR", "TEMP")
