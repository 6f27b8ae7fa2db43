"""A small volume of its own, for tests that need a disk that is full or read-only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


class SmallVolume:
    """A tmpfs of its own, mounted by calling it with mount options."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False

    def __call__(self, options: str) -> Path:
        self.folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(self.folder)]
        if (
            shutil.which("mount") is None
            or subprocess.run(command, capture_output=True, check=False).returncode != 0
        ):
            pytest.skip("needs the right to mount a tmpfs (root)")
        self.mounted = True
        return self.folder

    def fill(self, ballast: Path) -> None:
        """Write a file until nothing more fits, also while others write."""
        descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        try:
            while free := os.fstatvfs(descriptor).f_bavail * os.fstatvfs(descriptor).f_frsize:
                with contextlib.suppress(OSError):  # somebody took some of it in between: ask again
                    os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, free)
        finally:
            os.close(descriptor)

    def remount(self, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True, capture_output=True)
