"""Numbers along an axis: curves, bars, distributions, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook.plot.style import COLORS, GRAY, MARKS, WIDTH

if TYPE_CHECKING:
    from vlmbook.evaluate import Estimate


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    line: float | None = None,
    line_label: str = "",
    log: str = "",
    dots: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Curves {name: (x, y)}; the axes that log names, "x", "y" or "xy", are logarithmic.

    A dashed line marks a target; dots has single seeds, (num, len(x)), of curves that are means.
    """
    figure = plt.figure(figsize=(WIDTH, 2.9), layout="constrained")
    ax = figure.subplots()
    for k, (name, (x, y)) in enumerate(curves.items()):
        x, y = np.asarray(x), np.asarray(y)
        color, mark = COLORS[k % len(COLORS)], MARKS[k % len(MARKS)] if len(x) < 20 else None
        ax.plot(x, y, lw=1.6, marker=mark, ms=3.5, color=color, label=name)
        for seed in (dots or {}).get(name, ()):
            ax.plot(x, seed, ".", ms=4, color=color, alpha=0.45)
    if line is not None:
        ax.axhline(line, color=GRAY, ls="--", lw=1)
        ax.annotate(line_label, (0.01, line), (0, 3), ("axes fraction", "data"), "offset points")
    if "x" in log:
        ax.set_xscale("log")
        places = sorted({float(value) for x, _ in curves.values() for value in x})
        told = [f"{value:g}" for value in places]
        if len(places) < 9 and max(map(len, told)) < 5:  # as they are, not as powers of ten
            ax.set_xticks(places, told)
            ax.set_xticks([], minor=True)
    if "y" in log:
        ax.set_yscale("log")
    if len(curves) > 3:  # no room left among them
        figure.legend(loc="outside right")
    elif len(curves) > 1:
        ax.legend()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return figure


def training(
    losses: Mapping[str, Sequence[float]],
    shares: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    smooth: int = 20,
    line: float | None = None,
    line_label: str = "",
) -> Figure:
    """Loss against step, each run's own pale and its mean over smooth steps drawn, and, beside it,
    shares {name: (steps, values)} that were measured on the way.
    """
    figure = plt.figure(figsize=(WIDTH, 2.9), layout="constrained")
    left, *right = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
    for k, (name, values) in enumerate(losses.items()):
        values, color = np.asarray(values, dtype=float), COLORS[k % len(COLORS)]
        kernel = np.ones(min(smooth, len(values))) / min(smooth, len(values))
        means = np.convolve(values, kernel, mode="valid")
        left.plot(np.arange(len(values)), values, color=color, lw=0.5, alpha=0.3)
        left.plot(np.arange(len(means)) + len(values) - len(means), means, color=color, label=name)
    if line is not None:
        left.axhline(line, color=GRAY, ls="--", lw=1)
        left.annotate(line_label, (1, line), (0, 3), ("axes fraction", "data"), "offset points",
                      ha="right")  # fmt: skip
    left.set_xlabel("step")
    left.set_ylabel("loss")
    if len(losses) > 1:
        left.legend()
    for ax in right:
        for k, (name, (steps, values)) in enumerate(shares.items()):
            mark = MARKS[k % len(MARKS)]
            ax.plot(steps, values, color=COLORS[k % len(COLORS)], marker=mark, ms=3.5, label=name)
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("step")
        ax.set_ylabel("share" if len(shares) > 1 else next(iter(shares)))
        if len(shares) > 1:
            ax.legend()
    return figure


def bars(
    groups: Mapping[str, Mapping[str, float]],
    ylabel: str,
    line: float | None = None,
    line_label: str = "",
) -> Figure:
    """Bars in groups: {group: {bar: value}}; a dashed line marks chance or a target."""
    figure = plt.figure(figsize=(WIDTH, 2.9), layout="constrained")
    ax = figure.subplots()
    names = list(next(iter(groups.values())))
    width = 0.8 / len(names)
    for k, name in enumerate(names):
        values = [group.get(name, np.nan) for group in groups.values()]
        x = np.arange(len(groups)) + (k - (len(names) - 1) / 2) * width
        ax.bar(x, values, width * 0.92, label=name)
    if line is not None:
        ax.axhline(line, color=GRAY, ls="--", lw=1, label=line_label or None)
    ax.set_xticks(range(len(groups)), list(groups))
    ax.set_ylabel(ylabel)
    if len(names) > 1 or line_label:
        ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def histograms(groups: Mapping[str, Tensor | np.ndarray], xlabel: str, bins: int = 60) -> Figure:
    """Several distributions over one axis, each filled to the same area."""
    figure = plt.figure(figsize=(WIDTH, 2.6), layout="constrained")
    ax = figure.subplots()
    arrays = [np.asarray(values).ravel() for values in groups.values()]
    edges = np.linspace(min(a.min() for a in arrays), max(a.max() for a in arrays), bins + 1)
    for k, (name, values) in enumerate(zip(groups, arrays, strict=True)):
        color = COLORS[k % len(COLORS)]
        ax.hist(values, edges, density=True, alpha=0.35, color=color, label=name)
        ax.hist(values, edges, density=True, histtype="step", color=color, lw=1.2)
    ax.set_xlabel(xlabel)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.legend()
    return figure


def intervals(
    estimates: Mapping[str, Estimate],
    xlabel: str,
    line: float | None = None,
    line_label: str = "",
    dots: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """A row for each estimate: a point, its interval, and small dots for single seeds if given."""
    figure = plt.figure(figsize=(WIDTH, 0.34 * len(estimates) + 0.9), layout="constrained")
    ax = figure.subplots()
    for row, (name, e) in enumerate(estimates.items()):
        ax.plot([e.low, e.high], [row, row], color=COLORS[0], lw=3, alpha=0.45)
        ax.plot(e.value, row, "o", color=COLORS[0], ms=6)
        for value in (dots or {}).get(name, ()):
            ax.plot(value, row - 0.28, ".", color=COLORS[1], ms=5)
    if line is not None:
        ax.axvline(line, color=GRAY, ls="--", lw=1)
        ax.annotate(line_label, (line, 1), (4, -2), ("data", "axes fraction"), "offset points",
                    va="top")  # fmt: skip
    ax.set_yticks(range(len(estimates)), list(estimates))
    ax.set_ylim(len(estimates) - 0.5, -0.7)
    ax.set_xlabel(xlabel)
    return figure
