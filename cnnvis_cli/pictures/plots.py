"""Small plots as pictures: lines and matrices, in the same plain look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image


def blank(width: float, height: float, dpi: int = 120) -> Any:
    """An empty matplotlib figure of that many inches: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def drawn(figure: Any) -> Image.Image:
    """The figure as a picture."""
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = blank(width, height)
    return figure, figure.add_subplot()


def line(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_label: str, y_label: str) -> Image.Image:
    """Lines by name: (x values, y values in [0, 1])."""
    figure, axes = _figure(5, 3.6)
    for name, (x, y) in series.items():
        axes.plot(x, y, marker="o", label=name)
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)
    axes.legend()
    return drawn(figure)


def losses(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], floors: Mapping[str, float]) -> Image.Image:
    """Losses by name, (steps, values), on a logarithmic axis; `floors`: levels to compare with, dashed."""
    figure, axes = _figure(6, 3.8)
    for name, (x, y) in series.items():
        axes.plot(x, y, label=name.replace("_", " "))
    for number, (name, level) in enumerate(floors.items()):
        axes.axhline(level, linestyle="--", linewidth=1, color=f"C{number + len(series)}", label=name)
    axes.set(xlabel="step", ylabel="loss")
    if all(value > 0 for _, y in series.values() for value in y):
        axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return drawn(figure)


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
    return drawn(figure)


# The surest that a plot tells apart, as a doubt 1 - p, and the probabilities at each of its powers of ten.
_SUREST = 1e-5
_SHARES = ("0%", "90%", "99%", "99.9%", "99.99%", "99.999%")


def class_history(history: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Probabilities p (generations, classes) as a heat map, class by generation, with their median, least and greatest below.

    Both by 1 - p on a logarithmic scale: from 99% to 99.99% is as far as from nothing to 99%.
    """
    doubt = np.clip(1.0 - history, _SUREST, 1.0)
    tall = min(14.0, max(2.0, 0.16 * len(names)))
    figure = blank(8, tall + 3.2, dpi=100)
    heat, curve = figure.subplots(2, 1, sharex=True, height_ratios=(tall, 2.0))
    decades = -np.log10(doubt)
    cells = heat.imshow(decades.T, aspect="auto", vmin=0, vmax=-np.log10(_SUREST), cmap="inferno", interpolation="nearest")
    shown = range(0, len(names), max(1, math.ceil(len(names) / (tall * 7))))
    heat.set_yticks(list(shown), [names[k][:24] for k in shown], fontsize=7)
    bar = figure.colorbar(cells, ax=heat, label="probability", pad=0.01)
    bar.set_ticks(range(len(_SHARES)), labels=_SHARES)
    generations = np.arange(len(history))
    curve.fill_between(generations, doubt.min(1), doubt.max(1), alpha=0.2, linewidth=0)
    curve.plot(generations, np.median(doubt, 1), label="median (shaded: least to greatest)")
    curve.set_yscale("log")
    curve.set(xlabel="generation", ylabel="probability", ylim=(1.5, _SUREST / 1.5))
    curve.set_yticks([10.0**-decade for decade in range(len(_SHARES))], _SHARES)
    curve.grid(alpha=0.3)
    curve.legend(loc="upper left", fontsize=8, frameon=False)
    return drawn(figure)


def depths(layers: Sequence[str], distance: Sequence[float], similarity: Sequence[float]) -> Image.Image:
    """By layer: the normalised distance between codes (left axis, logarithmic) and SSIM (right axis; may be empty)."""
    figure, axes = _figure(max(5, 1.5 + 0.3 * len(layers)), 3.8)
    places = range(len(layers))
    axes.plot(places, [max(value, 1e-6) for value in distance], "o-", color="C3")
    axes.set_yscale("log")
    axes.set_ylabel("distance of codes, normalised", color="C3")
    axes.set_xticks(list(places), layers, rotation=60, ha="right")
    axes.grid(alpha=0.3)
    if similarity:
        right = axes.twinx()
        right.plot(places, similarity, "s--", color="C0")
        right.set_ylabel("SSIM with the picture", color="C0")
        right.set_ylim(-0.03, 1.03)
    return drawn(figure)


def ranked(names: Sequence[str], values: Sequence[float], x_label: str, y_label: str, named: int = 40) -> Image.Image:
    """Bars from the largest down; names below them where they are at most `named`."""
    figure, axes = _figure(7, 3.4)
    axes.bar(range(len(values)), values, width=1.0 if len(values) > named else 0.8, color="C0")
    if len(values) <= named:
        axes.set_xticks(range(len(values)), names, rotation=90, fontsize=7)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(x=0.01)
    return drawn(figure)
