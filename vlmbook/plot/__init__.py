"""Every picture of the book: one look, readable on light and dark pages, in print and on a phone.

Functions take tensors or arrays and return a matplotlib Figure; pages hand it to page.figure.
"""

import matplotlib.pyplot as plt

from vlmbook.plot.curves import bars, histograms, intervals, lines, training
from vlmbook.plot.grids import outlines, patches, pictures, retrieved
from vlmbook.plot.maps import attention_matrix, maps
from vlmbook.plot.points import circles, embedding_map
from vlmbook.plot.tables import choices, heatmaps, matrix, similarity, token_table

__all__ = [
    "attention_matrix",
    "bars",
    "choices",
    "circles",
    "embedding_map",
    "heatmaps",
    "histograms",
    "intervals",
    "lines",
    "maps",
    "matrix",
    "outlines",
    "patches",
    "pictures",
    "plt",
    "retrieved",
    "similarity",
    "token_table",
    "training",
]
