"""One look for every figure: colour-blind-safe colours, thin axes, fonts as outlines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from matplotlib import get_data_path, rc_context
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ImageFormat = Literal["svg", "png"]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, distinguishable with every common colour vision (jfly.uni-koeln.de/color)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One marker per colour, so that no meaning hangs on colour alone."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), "-")
INK = "#333333"
NOTE = "research use"
FONT = 7.5


def new_figure(
    size_mm: tuple[float, float], *, left_mm: float, right_mm: float, top_mm: float, bottom_mm: float
) -> Figure:
    """Return an empty figure with fixed margins; it belongs to no window and no global state.

    Fixed margins instead of a layout engine: an engine draws every figure twice.
    """
    width, height = size_mm
    figure = Figure(figsize=(width / 25.4, height / 25.4), facecolor="white")
    figure.subplots_adjust(
        left=left_mm / width,
        right=1.0 - right_mm / width,
        top=1.0 - top_mm / height,
        bottom=bottom_mm / height,
        wspace=0.04,
    )
    return figure


def cut(text: str, most: int) -> str:
    """Return the text in one line, cut to ``most`` characters (a long word is cut, never dropped)."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def dress(axes: Axes, *, xlabel: str, ylabel: str) -> None:
    """Label the axes with quantity and unit, and take away what carries no information."""
    axes.set_xlabel(xlabel, fontsize=FONT, color=INK)
    axes.set_ylabel(ylabel, fontsize=FONT, color=INK)
    axes.tick_params(labelsize=FONT - 0.5, colors=INK, width=0.5, length=2.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_linewidth(0.5)
        axes.spines[side].set_color(INK)


def add_note(figure: Figure, text: str = NOTE) -> None:
    """Write the note of every figure at its lower right corner."""
    figure.text(0.995, 0.005, text, fontsize=FONT - 2, color="#767676", ha="right", va="bottom")


class Picture(bytes):
    """The bytes of an SVG or PNG image, which a notebook shows by itself."""

    @property
    def image_format(self) -> ImageFormat:
        """``"png"`` or ``"svg"``."""
        return "png" if self.startswith(b"\x89PNG") else "svg"

    def save(self, path: str | Path) -> None:
        """Write the image to a file; its name should end in the image's format."""
        Path(path).write_bytes(self)

    def _repr_png_(self) -> bytes | None:
        return bytes(self) if self.image_format == "png" else None

    def _repr_svg_(self) -> str | None:
        return self.decode() if self.image_format == "svg" else None


def render(figure: Figure, image_format: ImageFormat, *, dpi: int = 150) -> Picture:
    """Return the figure's bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # the salt makes the ids inside an SVG reproducible; matplotlib offers no argument for it
    with rc_context({"svg.hashsalt": "digital-twins"}):
        if image_format == "svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        else:
            figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return Picture(buffer.getvalue())


def font_folder() -> Path:
    """Return the folder of the figures' fonts, DejaVu Sans, for documents that are to match them."""
    return Path(get_data_path()) / "fonts" / "ttf"
