"""The `twin` command: one file a command, each loaded with the libraries it needs when it runs."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.cli._main import main as main

_WHERE = {"main": "digital_twins.cli._main"}

__getattr__, __dir__ = exports(__name__, _WHERE)
