"""A PostgreSQL cluster of the tests' own: a folder, a socket, no port; ended and removed afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

_ACCOUNT = "postgres"


def programs() -> Path | None:
    """Return the folder with initdb and postgres; None when PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    return Path(other).resolve().parent if other else None


class PostgresServer:
    """A running server; `url` reaches it over its Unix socket."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        self._folder = Path(tempfile.mkdtemp(prefix="twin-pg-"))
        self._user = _ACCOUNT if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user, self._user)
        self._data = self._folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", self._data, "-U", "twin", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8")
        self.start()
        self._run("createdb", "-h", self._folder, "-U", "twin", "twin")

    @property
    def url(self) -> str:
        return f"postgresql://twin@/twin?host={self._folder}"

    @property
    def data(self) -> Path:
        """Folder with every file of the server: tables, indexes, log."""
        return self._data

    def dump(self, database: str) -> bytes:
        """Return what pg_dump writes of a database."""
        done = subprocess.run(
            [self._bin / "pg_dump", "-h", self._folder, "-U", "twin", "--inserts", database],
            cwd=self._folder,
            check=True,
            capture_output=True,
        )
        return done.stdout

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self._folder, "-c", "listen_addresses="],
                user=self._user,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        ready = [self._bin / "pg_isready", "-q", "-h", self._folder, "-U", "twin"]
        while subprocess.run(ready, check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def kill(self) -> None:
        """End server and sessions at once, as a power failure would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def close(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # immediate: nothing of it is kept
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._bin / program, *map(str, arguments)],
            user=self._user,
            cwd=self._folder,
            check=True,
            capture_output=True,
        )
