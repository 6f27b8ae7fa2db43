"""Which command of `twin` writes which audit event."""

import functools
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import typer

    from digital_twins.server import Services

NODE = "node"
"""The command opens the node's folder for something of patients: the room that does it writes its event.

Where it fails before the room wrote one, an event of the command itself tells of the failure.
"""
FILES = "files"
"""The command works on files or peers: it writes an event of its own when `audit_commands` is set."""

COMMANDS: dict[str, str] = {
    "demo": "starts a node, which writes its own events, on a sample patient",
    "serve": "runs a node, which writes its own events",
    "doctor": "touches no patient",
    "config": "touches no patient",
    "sample": "writes a sample patient that comes with the package",
    **dict.fromkeys(("build", "simulate", "cite", "deid", "growth fit"), FILES),
    "dicom echo": "touches no patient",
    **dict.fromkeys((f"dicom {name}" for name in ("store", "find", "move", "get", "worklist")), FILES),
    "dicom user": "touches no patient",
    "dicom conformance": "touches no patient",
    **dict.fromkeys((f"dicom {name}" for name in ("retention", "hold", "release", "holds")), NODE),
    **dict.fromkeys((f"dicom {name}" for name in ("reject", "restore", "merge", "unmerge")), NODE),
    "dicom queue list": "shows numbers of objects",
    **dict.fromkeys((f"dicom queue {name}" for name in ("pause", "resume", "replay")), NODE),
    **dict.fromkeys((f"fhir {name}" for name in ("view", "path", "validate", "load")), FILES),
    "fhir package add": "touches no patient",
    "fhir package list": "touches no patient",
    "hl7 send": FILES,
    "hl7 parse": FILES,
    "monitor demo": "shows recorded or simulated patients that come with the package",
    "monitor serve": "runs a monitor, which writes its own events",
    "monitor worker": "watches parts of a monitored ward, which writes its own events",
    "monitor analyse": "shows what a monitor answers, which writes its own events",
    "monitor train": FILES,
    "monitor evaluate": FILES,
    **dict.fromkeys(
        (f"audit {name}" for name in ("verify", "prove", "export", "tail", "timestamp")),
        "reads the trail, which names no patient",
    ),
    **dict.fromkeys(
        (f"auth user {name}" for name in ("add", "disable", "roles", "password", "revoke")), NODE
    ),
    "auth user list": "shows staff",
    "auth client add": NODE,
    "auth client disable": NODE,
    "auth client list": "shows programs",
    "auth rotate": NODE,
    **dict.fromkeys(("login", "logout", "whoami", "token"), "names staff; the node writes its own events"),
    "certs init": "touches no patient",
    "certs issue": "touches no patient",
    "keys status": "counts keys",
    "keys encrypt": NODE,
    "keys rotate": NODE,
    "keys erase": NODE,
    "report compliance": "reads the trail, which names no patient",
    "report documents": FILES,
    "report sign": NODE,
    "report verify": FILES,
    "report key": "shows a public key",
}
"""Every command: `NODE`, `FILES`, or why it writes none."""


def with_events(app: "typer.Typer", before: str = "") -> None:
    """Let each command on files or peers write its event; KeyError for one that `COMMANDS` does not name."""
    for command in app.registered_commands:
        if command.callback is None:
            continue
        path = f"{before}{command.name or command.callback.__name__}"
        if COMMANDS[path] in (FILES, NODE):
            event = command_event if COMMANDS[path] == FILES else failure_event
            command.callback = _audited(path, command.callback, event)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_events(group.typer_instance, f"{before}{group.name} ")


def _audited(
    path: str, function: "Callable[..., Any]", event: "Callable[..., AbstractContextManager[None]]"
) -> "Callable[..., Any]":
    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        with event(path, data=options.get("data"), config_file=options.get("config_file")):
            return function(*args, **options)

    return run


@contextmanager
def command_event(
    path: str, *, data: Path | None = None, config_file: Path | None = None
) -> "Iterator[None]":
    """Write the one event of a command when `audit_commands` is set; the trail is opened before the work.

    Raises
    ------
    NotFoundError
        Events are wanted, but no node has run on the data folder.
    """
    from digital_twins.cli._node_folder import open_node
    from digital_twins.config import load_settings

    settings = load_settings(config_file=config_file, data_dir=data)
    if not settings.audit_commands:
        yield
        return
    with open_node(settings, "The command was not run: audit_commands is set.") as services:
        outcome = "failure"
        try:
            yield
            outcome = "success"
        except BaseException as error:
            outcome = _outcome(error)
            raise
        finally:
            _write(services, path, outcome)


@contextmanager
def failure_event(
    path: str, *, data: Path | None = None, config_file: Path | None = None
) -> "Iterator[None]":
    """Write the event of a command on the node's folder that fails before its room wrote one.

    Where the folder cannot be opened for it, as there is none or its key is missing, nothing of a patient was
    reached; the log then says that the event is missing, and the command fails as it would have.
    """
    from digital_twins.audit import noted_events

    with noted_events() as noted:
        try:
            yield
        except BaseException as error:
            if getattr(error, "exit_code", None) != 0:
                _write_failure(path, _outcome(error), noted, data=data, config_file=config_file)
            raise


def _write_failure(
    path: str, outcome: str, noted: "list[str]", *, data: Path | None, config_file: Path | None
) -> None:
    from digital_twins._errors import DigitalTwinError
    from digital_twins._logging import get_logger
    from digital_twins.audit import any_recorded, any_waits
    from digital_twins.cli._node_folder import has_run, open_node
    from digital_twins.config import load_settings

    try:
        settings = load_settings(config_file=config_file, data_dir=data)
        if not has_run(settings):
            return
        with open_node(settings, "The event was not written.") as services:
            known = bool(noted) and (
                any_waits(services.database, noted)
                or (settings.audit_file.exists() and any_recorded(settings.audit_file, noted))
            )
            if not known:
                _write(services, path, outcome)
    except (DigitalTwinError, OSError) as error:
        get_logger(__name__).warning("cli.event.missing", command=path, error=type(error).__name__)


def _write(services: "Services", path: str, outcome: str) -> None:
    auditor = services.auditor.acting(_user())
    services.audit(auditor.event("E", f"cli.{path.replace(' ', '.')}", outcome=outcome))  # type: ignore[arg-type]


def _outcome(error: BaseException) -> str:
    from digital_twins._errors import InputError, NotFoundError

    if getattr(error, "exit_code", None) == 0:
        return "success"
    return "refused" if isinstance(error, InputError | NotFoundError) else "failure"


def _user() -> str:
    import getpass

    try:
        return f"{getpass.getuser()}@cli"
    except (KeyError, OSError):  # no such user in the system's list, as in some containers
        return "cli"
