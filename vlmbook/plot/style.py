"""The look that all figures share, readable on light and dark pages, in print and on a phone.

Figures have no background of their own and gray labels, so that they suit both themes.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from torch import Tensor

GRAY = "#7d828a"  # readable on white and on black
COLORS = ("#3b82c4", "#e08a3c", "#4a9d6e", "#c25b7c", "#8a74c9", "#a8862f")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # beside colours, for who can't tell those apart

STYLE = {
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRAY,
    "axes.labelcolor": GRAY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "text.color": GRAY,
    "legend.frameon": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.dpi": 110,
    "savefig.dpi": 160,
}
matplotlib.rcParams.update(STYLE)

WIDTH = 7.2  # inches: the measure of a page


def channels_last(image: Tensor | np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim == 3 and image.shape[0] == 3:
        image = image.transpose(1, 2, 0)
    if image.ndim not in (2, 3):
        raise ValueError(
            f"a picture of shape {image.shape} can't be drawn; pass (3, H, W) or (H, W)"
        )
    return image.clip(0, 1) if image.ndim == 3 else image
