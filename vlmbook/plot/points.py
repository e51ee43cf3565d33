"""Points of a space, on a circle or on a map."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook.plot.style import COLORS, GRAY, MARKS, WIDTH


def circles(
    stages: Mapping[str, tuple[Tensor, Tensor]], labels: tuple[str, str] = ("image", "text")
) -> Figure:
    """Pairs of points (n, 2) on the unit circle, a circle for each stage, a line for each pair."""
    figure = plt.figure(figsize=(WIDTH, WIDTH / len(stages) + 0.35), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(stages)))
    turn = np.linspace(0, 2 * np.pi, 200)
    for ax, (title, sides) in zip(axes, stages.items(), strict=True):
        first, second = (np.asarray(side) for side in sides)
        ax.plot(np.cos(turn), np.sin(turn), color=GRAY, lw=0.8, alpha=0.6)
        for k, (a, b) in enumerate(zip(first, second, strict=True)):
            color = COLORS[k % len(COLORS)]
            ax.plot([a[0], b[0]], [a[1], b[1]], color=color, lw=1)
            ax.plot(*a, "o", color=color, ms=7)
            ax.plot(*b, "s", color=color, ms=7, mfc="none", mew=1.6)
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_axis_off()
    marks = [
        plt.Line2D([], [], marker=m, color=GRAY, ls="", mfc=f, label=label)
        for m, f, label in (("o", GRAY, labels[0]), ("s", "none", labels[1]))
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    return figure


def embedding_map(
    groups: Mapping[str, Tensor | np.ndarray], pairs: tuple[str, str] | None = None
) -> Figure:
    """Points (n, 2) in groups, each with a colour and a mark of its own.

    pairs names two groups whose rows belong together; a thin line joins each pair.
    """
    figure = plt.figure(figsize=(WIDTH * 0.75, WIDTH * 0.6), layout="constrained")
    ax = figure.subplots()
    if pairs is not None:
        ends = np.stack([np.asarray(groups[name]) for name in pairs], axis=1)
        ax.plot(*ends.transpose(2, 1, 0), color=GRAY, lw=0.4, alpha=0.5, zorder=0)
    for k, (name, points) in enumerate(groups.items()):
        ax.scatter(*np.asarray(points).T, s=16, color=COLORS[k % len(COLORS)], alpha=0.8,
                   marker=MARKS[k % len(MARKS)], lw=0, label=name)  # fmt: skip
    ax.set_aspect("equal", "datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
