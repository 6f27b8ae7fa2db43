"""`twin doctor`: whether everything is here that a node needs."""

from typing import Annotated

import typer

from digital_twins.cli._options import ConfigFile, DataDir, Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    *,
    dicom: Annotated[
        str | None, typer.Option(help="Running node as HOST:PORT or AE@HOST:PORT.", show_default=False)
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="Running node as URL, e.g. http://127.0.0.1:8042.", show_default=False)
    ] = None,
    data: DataDir = None,
    config_file: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check this machine and, over the network, a node; exit code 1 if anything is wrong.

    Without --dicom and --http a node is started for the check, on free ports and with an empty data folder.
    """
    from dataclasses import asdict

    from digital_twins.cli import _checks, _node_checks, _output
    from digital_twins.config import load_settings

    results: list[_checks.Check] = []

    def report(check: _checks.Check) -> None:
        results.append(check)
        if as_json:
            return
        if check.ok:
            _output.write_lines([f"ok    {check.name}: {check.found}"])
        else:
            _output.write_lines(
                [f"FAIL  {check.name}: {check.what}", f"      why: {check.why}", f"      fix: {check.fix}"]
            )

    settings = load_settings(config_file=config_file, data_dir=data)
    report(_checks.run("versions", _checks.versions))
    if dicom is None:
        report(
            _checks.run(
                "DICOM port", lambda: _checks.port_free(settings.host, settings.dicom_port, "dicom_port")
            )
        )
    if http is None:
        report(
            _checks.run(
                "HTTP port", lambda: _checks.port_free(settings.host, settings.http_port, "http_port")
            )
        )
    report(_checks.run("storage", lambda: _checks.storage(settings.data_dir)))
    report(_checks.run("database", lambda: _checks.database(settings)))
    report(_checks.run("disk space", lambda: _checks.disk_space(settings.data_dir)))
    report(_checks.run("clock", _checks.clock))
    report(_checks.run("keys", lambda: _checks.keys(settings)))
    report(_checks.run("solver", _checks.solver))
    for check in _node_checks.run_all(dicom, http):
        report(check)
    ok = all(check.ok for check in results)
    if as_json:
        _output.write_json({"ok": ok, "checks": [asdict(check) for check in results]})
    if not ok:
        raise typer.Exit(1)
