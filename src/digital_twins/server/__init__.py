"""The running node: HTTP and DICOM doors, workers, and the web pages."""

from typing import TYPE_CHECKING

from digital_twins._lazy import exports

if TYPE_CHECKING:
    from digital_twins.server._app import create_app as create_app
    from digital_twins.server._node import Node as Node, run_node as run_node

_WHERE = {
    "create_app": "digital_twins.server._app",
    **dict.fromkeys(("Node", "run_node"), "digital_twins.server._node"),
}

__getattr__, __dir__ = exports(__name__, _WHERE)
