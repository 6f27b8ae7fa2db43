"""``twin monitor analyse``: the analysis app of the extra ``streamlit``."""

from typing import Annotated

import typer


def analyse(
    *,
    monitor: Annotated[
        str, typer.Option(help="Address of the monitor: https, or http on this machine.")
    ] = "http://127.0.0.1:8043",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the app; 0 takes a free one.")] = 8501,
    exit_after: Annotated[
        float | None, typer.Option(help="End after that many seconds; default: Ctrl-C.", show_default=False)
    ] = None,
) -> None:
    """Show history, models, thresholds and what-if of a running monitor in the browser, on this machine only.

    Needs the extra streamlit. Whoever opens it types the token of the monitor's staff.
    """
    import signal
    import sys

    from digital_twins.cli import _output
    from digital_twins.monitoring import run_analysis

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the app's own process is ended too

    def ready(address: str) -> None:
        _output.write_lines([f"Analysis app: {address}"])

    run_analysis(monitor, port=port, exit_after_s=exit_after, ready=ready)
