"""Build the application from its commands, run it, and turn failures into three lines and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated

import typer

from digital_twins._errors import DigitalTwinError
from digital_twins.cli import (
    _audit,
    _auth,
    _build,
    _certs,
    _cite,
    _config,
    _deid,
    _demo,
    _dicom,
    _doctor,
    _fhir,
    _growth,
    _hl7,
    _keys,
    _login,
    _monitor,
    _report,
    _sample,
    _serve,
    _simulate,
)
from digital_twins.cli._events import with_events
from digital_twins.cli._output import write_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILED = 1
_USED_WRONGLY = 2
_INTERRUPTED = 130


def build_app() -> typer.Typer:
    """Return the application with every command."""
    app = typer.Typer(
        name="twin",
        help="Patient digital twins inside the hospital. Research software, not a medical device.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=True,
    )
    rooms = (
        *(_demo, _serve, _doctor, _config, _sample, _build, _simulate, _cite),
        *(_growth, _dicom, _fhir, _hl7, _deid, _monitor, _audit, _auth, _login, _certs, _keys, _report),
    )
    for room in rooms:
        room.register(app)
    with_events(app)
    app.callback(invoke_without_command=True)(_root)
    return app


def _root(
    *, version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False
) -> None:
    if version:
        from digital_twins import __version__

        sys.stdout.write(f"digital-twins {__version__}\n")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; default those of this process.

    Returns
    -------
    int
        0 done, 1 failed, 2 used wrongly, 130 interrupted by Ctrl-C. Errors go to standard error as three
        lines (what, why, fix), or as one JSON object if ``--json`` is among the words.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    if not logging.getLogger().handlers:
        # Without a handler Python would print the warnings of libraries, whose words may name a patient.
        logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = build_app()(words, prog_name="twin", standalone_mode=False)
    except DigitalTwinError as error:
        write_error(error.to_dict(), as_json=as_json)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nothing is wrong, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:  # noqa: BLE001  (process edge: three lines instead of a traceback)
        return _explain(error, words, as_json=as_json)
    return code if isinstance(code, int) else 0


def _explain(error: Exception, words: Sequence[str], *, as_json: bool) -> int:
    if type(error).__name__ == "Abort":
        return _INTERRUPTED
    format_message = getattr(error, "format_message", None)
    if format_message is not None:  # the usage errors of click, which typer has under its own or click's name
        command = " ".join(word for word in words[:1] if not word.startswith("-"))
        write_error(
            {
                "error": "UsageError",
                "what": "The command was used wrongly.",
                "why": str(format_message()),
                "fix": f"Run: {' '.join(filter(None, ('twin', command, '--help')))}",
            },
            as_json=as_json,
        )
        return _USED_WRONGLY
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in reversed(frames))
    write_error(
        {
            "error": type(error).__name__,
            "what": "The command failed in a way that nobody has foreseen.",
            "why": f"{type(error).__name__} at {places}; its text is left out, for it may name a patient.",
            "fix": "Report these lines and the output of 'twin doctor --json' as a bug.",
        },
        as_json=as_json,
    )
    return _FAILED
