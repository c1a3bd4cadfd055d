"""Small plots as pictures: lines and matrices, in the same plain look."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image


def _drawn(figure: Any) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return Image.open(buffer).convert("RGB")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window, no global state
    return figure, figure.add_subplot()


def line(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str) -> Image.Image:
    """Lines by name: (x values, y values in [0, 1])."""
    figure, axes = _figure(5, 3.6)
    for name, (x, y) in series.items():
        axes.plot(x, y, marker="o", label=name)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend()
    return _drawn(figure)


def matrix(
    values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], x_label: str, y_label: str
) -> Image.Image:
    """Shares in [0, 1] as shaded cells with their percentages."""
    figure, axes = _figure(2.2 + 1.1 * len(columns), 1.6 + 0.7 * len(rows))
    axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=x_label, ylabel=y_label)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            axes.text(x, y, f"{value:.0%}", ha="center", va="center", color="white" if value > 0.6 else "black")
    return _drawn(figure)
