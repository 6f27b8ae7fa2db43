"""What `twin doctor` looks at: one small function a check, each with its own way to say what is wrong."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from digital_twins._errors import DigitalTwinError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from digital_twins.config import Settings

_LEAST_FREE_BYTES = 2**30
_PACKAGES = ("numpy", "numba", "scipy", "pydicom", "highdicom", "apsw-sqlite3mc", "fastapi", "typst")


@dataclass(frozen=True, slots=True)
class Check:
    """Outcome of one check: what was found, or what is wrong with why and fix."""

    name: str
    ok: bool
    found: str = ""
    what: str = ""
    why: str = ""
    fix: str = ""


def run(name: str, check: Callable[[], str]) -> Check:
    """Run one check; whatever it raises becomes its finding."""
    try:
        return Check(name, ok=True, found=check())
    except DigitalTwinError as error:
        return Check(name, ok=False, what=error.what, why=error.why, fix=error.fix)
    except Exception as error:  # noqa: BLE001  (process edge: one broken part must not hide the other checks)
        return Check(
            name,
            ok=False,
            what=f"The check '{name}' could not be carried out.",
            why=f"{type(error).__name__}: {error}",
            fix="Reinstall digital-twins with its locked requirements, then report this as a bug.",
        )


def versions() -> str:
    """Python and the libraries that results depend on."""
    from digital_twins import __version__

    found = [f"digital-twins {__version__}", f"Python {platform.python_version()}", platform.platform()]
    return ", ".join(found + [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES])


def port_free(host: str, port: int, setting: str) -> str:
    """Whether a port can be opened."""
    if port == 0:
        return "a free one is taken at the start"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise DigitalTwinError(
                f"The port {port} on {host} cannot be opened.",
                f"{error.strerror}: another program, or a node, listens there.",
                f"End it, set {setting} to another port, or test a running node with --dicom and --http.",
            ) from None
    return f"{host}:{port} is free"


def storage(data_dir: Path) -> str:
    """Whether the data folder can be written, and how long a durable write takes."""
    folder = _existing(data_dir)
    milliseconds = []
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            for _ in range(20):
                start = time.perf_counter()
                os.pwrite(file.fileno(), bytes(4096), 0)
                os.fsync(file.fileno())
                milliseconds.append((time.perf_counter() - start) * 1000)
            skew = abs(time.time() - os.fstat(file.fileno()).st_mtime)
    except OSError as error:
        raise StorageError(
            f"The data folder '{data_dir}' cannot be written.",
            f"The system answered: {error.strerror}.",
            "Give this user write permission, free space on the volume, or choose another data_dir.",
        ) from error
    if skew > 5:
        raise StorageError(
            f"The data folder '{data_dir}' stamps files with another time.",
            f"The volume's clock and this machine's differ by {skew:.0f} s.",
            "Let the file server and this machine follow the same NTP server.",
        )
    return f"'{folder}' is writable, fsync takes {sorted(milliseconds)[10]:.2f} ms (median of 20)"


def database(settings: Settings) -> str:
    """Which database keeps index, resources, jobs and audit, and whether it keeps what it acknowledges."""
    if not settings.database:
        import apsw

        return f"SQLite {apsw.sqlite_lib_version()} in '{settings.data_dir}'"
    from digital_twins.storage import server_state

    state = server_state(settings.database)
    if state.unsafe:
        raise StorageError(
            "The PostgreSQL server may lose what it has acknowledged.",
            f"It runs with {', '.join(state.unsafe)}.",
            "Switch these on in postgresql.conf and restart the server.",
        )
    return f"PostgreSQL {state.version}, a durable write takes {state.commit_ms:.2f} ms (median of 20)"


def disk_space(data_dir: Path) -> str:
    """Whether there is room for studies."""
    usage = shutil.disk_usage(_existing(data_dir))
    if usage.free < _LEAST_FREE_BYTES:
        raise StorageError(
            f"The volume of '{data_dir}' has {usage.free / 2**20:.0f} MiB left.",
            "A single CT study takes up to several hundred MiB.",
            "Free at least 1 GiB, or choose another data_dir.",
        )
    return f"{usage.free / 2**30:.0f} GiB of {usage.total / 2**30:.0f} GiB are free"


def clock() -> str:
    """Whether wall-clock time is plausible, runs as fast as the monotonic clock, and knows its zone."""
    wall, monotonic = time.time(), time.monotonic()
    time.sleep(0.2)
    drift = abs((time.time() - wall) - (time.monotonic() - monotonic))
    now = datetime.now(tz=UTC)
    if now.year < 2025 or drift > 0.05:
        raise DigitalTwinError(
            f"The clock of this machine says {now:%Y-%m-%d %H:%M} UTC and jumped by {drift:.2f} s.",
            "Times of scans, treatments and audit events depend on it.",
            "Set the clock by NTP (systemctl status systemd-timesyncd or chronyc tracking).",
        )
    offset = f"{now.astimezone():%z}"
    return f"{now:%Y-%m-%d %H:%M:%S} UTC, local offset {offset}, drift {drift * 1000:.1f} ms in 0.2 s"


def keys(settings: Settings) -> str:
    """Whether the node's keys are readable by their owner alone."""
    if not settings.pseudonym_key_file.exists():
        return "none yet: the first start makes them"
    from digital_twins.audit import load_pseudonym_key

    load_pseudonym_key(settings.pseudonym_key_file)
    return f"'{settings.pseudonym_key_file.name}' is readable by its owner alone"


def solver() -> str:
    """Whether the compiled solver moves a Fisher wave at its analytic speed."""
    from digital_twins.models import fisher_wave_check

    wave = fisher_wave_check()
    if abs(wave.relative_error) > 0.03:
        raise DigitalTwinError(
            f"The solver moves a Fisher wave at {wave.speed_mm_per_day:.4f} mm/day,"
            f" not at {wave.analytic_mm_per_day:.4f}.",
            "The compiled code does not compute on this machine what it should.",
            "Delete __pycache__ of digital_twins, reinstall numba and numpy, and run this again.",
        )
    return (
        f"Fisher wave {wave.speed_mm_per_day:.4f} mm/day, analytic {wave.analytic_mm_per_day:.4f}"
        f" ({wave.relative_error:+.1%})"
    )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder
