"""Figures show what they are given, on any background."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vlmbook import plot


@pytest.fixture(autouse=True)
def close():
    yield
    plot.plt.close("all")


def drawn(figure):
    """The figure as it is saved for a page: (H, W, 4) in [0, 255]."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGBA"))


def test_each_picture_has_its_place():
    colors = torch.eye(3)[:, :, None, None].expand(3, 3, 8, 8)  # a red, a green and a blue picture
    image = drawn(plot.pictures(colors, ["r", "g", "b"], columns=3))
    third = image.shape[1] // 3
    row = image[image.shape[0] * 3 // 5]
    middles = [row[third // 2 + k * third] for k in range(3)]
    assert [m[:3].argmax() for m in middles] == [0, 1, 2]


def test_rows_break_after_the_columns():
    figure = plot.pictures(torch.rand(5, 3, 8, 8), columns=2)
    assert len(figure.axes) == 6
    assert sum(bool(ax.images) for ax in figure.axes) == 5


def test_the_background_is_clear_and_the_labels_are_seen_on_both():
    image = drawn(plot.bars({"a": {"x": 1.0, "y": 2.0}}, "value", line=1.5, line_label="chance"))
    assert image[0, 0, 3] == 0
    opaque = image[image[..., 3] == 255][:, :3].astype(int)
    luma = opaque.mean(1)
    assert len(opaque) > 1000
    assert luma.min() > 40 and luma.max() < 235


def test_outlines_follow_the_masks():
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 2:8, 2:8] = masks[1, 9:14, 9:14] = True
    figure = plot.outlines(torch.rand(3, 16, 16), masks, ["first", "second"])
    assert [ax.get_title() for ax in figure.axes] == ["picture", "first", "second"]
    cut = figure.axes[1].images[0].get_array()
    assert np.allclose(cut[12, 12], 0.92) and not np.allclose(cut[4, 4], 0.92)


def test_bad_input():
    with pytest.raises(ValueError, match="1 titles for 2 pictures"):
        plot.pictures(torch.rand(2, 3, 8, 8), ["one"])
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8\) can't be drawn"):
        plot.pictures(torch.rand(1, 2, 3, 8, 8))
