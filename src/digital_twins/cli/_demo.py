"""`twin demo`: the main job on a real tumour study, with embedded parts only."""

import os
import sys
import tempfile
import webbrowser
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins.cli._options import Json

if TYPE_CHECKING:
    from digital_twins.cli._demo_run import DemoNode, DemoResult

_DOCUMENT_NAMES = {"sr": "DICOM SR (TID 1500)", "seg": "DICOM SEG", "pdf": "Encapsulated PDF"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    patient: Annotated[str, typer.Option(help="Sample patient: lung or brain.")] = "lung",
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder for the node's data; a new temporary one when not given."),
    ] = None,
    http_port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.")] = 0,
    dicom_port: Annotated[int, typer.Option(help="DICOM port; 0 takes a free one.")] = 0,
    exit_after: Annotated[bool, typer.Option("--exit", help="Stop when the answers are there.")] = False,
    browser: Annotated[bool, typer.Option(help="Open the patient's page in a browser.")] = True,
    as_json: Json = False,
) -> None:
    """Send a real tumour study and a record to a node; show the twin, the treatments and the documents.

    The images are real (pyradiomics test cases); the follow-up visits are simulated and the clinical facts
    invented, and labelled so. The node listens on 127.0.0.1 and runs until Ctrl-C, or stops with --exit.
    """
    from digital_twins.cli import _output
    from digital_twins.cli._demo_run import run_demo, running_node

    with ExitStack() as stack:
        folder = data or Path(tempfile.mkdtemp(prefix="twin-demo-"))
        with _output.steps() as step:
            with step("a node starts on 127.0.0.1"):
                node = stack.enter_context(running_node(folder, dicom_port=dicom_port, http_port=http_port))
            result = run_demo(node, patient, step=step)
        result.data = str(folder)
        if as_json:
            _output.write_json(asdict(result))
        else:
            _show(result)
        if not exit_after:
            _stay(node, result, browser=browser)


def _stay(node: "DemoNode", result: "DemoResult", *, browser: bool) -> None:
    from digital_twins.cli import _output

    _output.write_progress(f"\nThe page stays open at {result.url}  (Ctrl-C ends the demo)")
    if browser and (sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
        webbrowser.open(result.url)
    node.process.wait()


def _show(result: "DemoResult") -> None:
    from digital_twins.cli import _output

    volume, rate = result.twin["current_volume_cm3"], result.twin["proliferation_rate_per_day"]
    _output.write_lines(
        [
            "",
            f"Twin {result.twin['twin_id']}, version {result.twin['version']}",
            f"  tumour volume       {_with_interval(volume, 1)} cm3",
            f"  proliferation rate  {_with_interval(rate, 4)} per day",
            "  follow-up visits are SIMULATED, clinical facts invented",
            "",
        ]
    )
    _output.write_table(
        ("treatment", "volume change, % (95 % interval)", "response"),
        [
            (label, _with_interval(r["volume_change_percent"], 0), r["response_category"].replace("_", " "))
            for label, r in result.responses.items()
        ],
    )
    _output.write_lines([""])
    _output.write_table(
        ("document", "identifier"),
        [(_DOCUMENT_NAMES.get(kind, kind), identifier) for kind, identifier in result.documents.items()],
    )
    forecast = result.forecast
    _output.write_lines(
        [
            "",
            f"Forecast of real xenografts, {forecast['mice']} mice of the unseen {forecast['arm']} dose, "
            "mean CRPS in cm3:",
            f"  model {forecast['crps_model']:.3f}, {forecast['baseline']} {forecast['crps_baseline']:.3f}",
            "",
            f"Documents: {Path(result.data) / 'documents'}",
            f"Node's data: {result.data} (start it again with: twin serve --data {result.data})",
            f"Page: {result.url}",
            "Decision support for research use only; not a certified medical device.",
        ]
    )


def _with_interval(value: dict[str, float], digits: int) -> str:
    return f"{value['value']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
