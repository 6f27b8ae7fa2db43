"""Structured logging without patient data: JSON lines on standard error, field names from an allow-list."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

FIELDS = frozenset(
    {
        "ae_title",
        "attempts",
        "bytes",
        "calling_ae",
        "command",
        "count",
        "days",
        "error",
        "event_id",
        "file",
        "fix",
        "host",
        "http_status",
        "instances",
        "job_id",
        "kind",
        "method",
        "model_version",
        "name",
        "outcome",
        "path_template",
        "peer",
        "pid",
        "port",
        "progress",
        "reason",
        "request_id",
        "resource_type",
        "route",
        "seconds",
        "setting",
        "size",
        "state",
        "status",
        "step",
        "transfer_syntax",
        "twin_id",
        "url",
        "version",
        "what",
        "where",
        "why",
        "worker",
    }
)
"""Names that a log line may use. None of them is to hold anything that names or describes a patient: UIDs of
studies, series and objects, resource ids, names, dates and message texts are left out on purpose."""

_RESERVED = frozenset({"at_utc", "level", "event", "logger"})
_ROOT = "digital_twins"
Value = str | int | float | bool | None


class Logger:
    """Writes events: a name in dots, and fields from `FIELDS`.

    Examples
    --------
    >>> log = get_logger(__name__)
    >>> log.info("dicom.stored", instances=3, seconds=0.2)

    Raises
    ------
    TypeError
        A field name is not on the list, or a value is not a string, number, bool or None: fail in the tests
        of the caller, not in a hospital's log.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Value) -> None:
        """Write an event that only a developer wants to see."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Value) -> None:
        """Write an event of normal operation."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Value) -> None:
        """Write an event that an operator should know of."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Value) -> None:
        """Write an event that an operator should act on."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, *, error: BaseException, **fields: Value) -> None:
        """Write an error by its type and the places in the code that it passed, never by its text.

        The text of an exception may quote input, hence a patient; a DigitalTwinError may not, so its
        what/why/fix are kept.
        """
        known = {name: getattr(error, name) for name in ("what", "why", "fix") if _is_ours(error)}
        self._write(
            logging.ERROR,
            event,
            {"error": type(error).__qualname__, "where": _places(error.__traceback__)} | known | fields,
        )

    def _write(self, level: int, event: str, fields: dict[str, Value]) -> None:
        for name, value in fields.items():
            if name not in FIELDS:
                raise TypeError(f"the field '{name}' is not on the allow-list of digital_twins._logging")
            if not isinstance(value, str | int | float | bool | None):
                raise TypeError(f"the field '{name}' must be a string, a number, a bool or None")
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields})


def get_logger(name: str) -> Logger:
    """Return the logger of a module; call it with ``__name__``."""
    return Logger(name)


def setup_logging(level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Send this package's log as JSON lines to standard error; other packages' records by type only.

    Called once by the command line and by the node. A second call replaces the first.

    Parameters
    ----------
    level
        Least level that is written: DEBUG, INFO, WARNING or ERROR.
    stream
        Where to write instead of standard error.
    """
    handler = logging.StreamHandler(stream) if stream else _StandardError()
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, _JsonLines)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level.upper())


class _StandardError(logging.Handler):
    """Writes to standard error as it is now: a program that redirects it may close the former one."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001  (as logging's own handlers do: a log line is never an error)
            self.handleError(record)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Value] = {
            "at_utc": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {"event": str(record.msg)} | fields
        else:
            # A library's own words may quote a patient's data: only the place they come from is kept.
            line |= {"event": "library.message", "where": f"{record.module}:{record.lineno}"}
            if record.exc_info and record.exc_info[0]:
                line["error"] = record.exc_info[0].__qualname__
        return json.dumps(line, ensure_ascii=False)


def _is_ours(error: BaseException) -> bool:
    return any(kind.__name__ == "DigitalTwinError" for kind in type(error).__mro__)


def _places(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-6:]
    return " < ".join(
        f"{'/'.join(frame.filename.rsplit('/', 2)[-2:])}:{frame.lineno}" for frame in reversed(frames)
    )
