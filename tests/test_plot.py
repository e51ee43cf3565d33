"""Figures show what they are given, on any background."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from vlmbook import plot
from vlmbook.evaluate import Estimate


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


def test_heatmaps_write_each_number_in_its_cell():
    figure = plot.heatmaps({"": np.array([[0.111, 0.9], [np.nan, 0.5]])}, digits=2, low=0, high=1)
    (ax,) = figure.axes  # numbers need no bar of colours
    written = {text.get_position(): text for text in ax.texts}
    told = {place: text.get_text() for place, text in written.items()}
    assert told == {(0, 0): "0.11", (1, 0): "0.90", (1, 1): "0.50"}  # (column, row)
    assert written[1, 0].get_color() == "white" != written[0, 0].get_color()


def test_a_matrix_fills_what_is_above_its_floor():
    values = np.array([[0.9, 0.52, np.nan], [0.995, 0.3, 0.6]])
    margins = np.array([[0.02, 0.04, np.nan], [0.0, 0.1, 0.05]])
    rows, columns = {"": ["a"], "more": ["b"]}, {"left": ["x", "y"], "right": ["z"]}
    ax = plot.matrix(values, margins, rows, columns, np.array([0.5, np.nan])).axes[0]
    texts = [text.get_text() for text in ax.texts]
    cells = [".90", "±.02", ".52", "±.04", ".99", "±.00", ".30", "±.10", ".60", "±.05"]
    assert texts == [*cells, "left", "right"]
    # .52 may be .5, the floor; without a floor everything is above it, and nan is no cell.
    assert len(ax.patches) == 4
    dark = [sum(patch.get_facecolor()[:3]) for patch in ax.patches]
    assert dark[1] < dark[0] < dark[3] < dark[2]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y", "z"]
    assert ax.get_xticks()[2] - ax.get_xticks()[1] > 1.2  # groups are apart
    assert ax.texts[0].get_color() == "white" != ax.texts[2].get_color()
    with pytest.raises(ValueError, match="2 rows and 3 columns"):
        plot.matrix(values[:1], margins[:1], rows, columns, np.zeros(1))


def test_heatmaps_share_one_scale_and_keep_their_places():
    first, second = torch.zeros(2, 3), torch.full((2, 3), 2.0)
    first[0, 2] = 1.0
    figure = plot.heatmaps({"a": first, "b": second}, ticks=(["r0", "r1"], ["x", "y", "z"]))
    images = [ax.images[0] for ax in figure.axes[:2]]
    assert [image.get_clim() for image in images] == [(0, 2), (0, 2)]
    assert images[0].get_array()[0, 2] == 1 and images[0].get_array().sum() == 1
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["r0", "r1"]
    assert len(figure.axes) == 3  # a scale of colours
    assert len(plot.heatmaps({"yes or no": first}).axes) == 1  # which two colours do not need


def test_lines_run_through_their_points():
    figure = plot.lines({"a": ([1, 10], [2, 3]), "b": ([1, 10], [4, 5])}, "x", "y", line=1.0)
    ax = figure.axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines[:2]] == [[2, 3], [4, 5]]
    assert ax.lines[2].get_ydata() == [1.0, 1.0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_xscale() == "linear"
    assert plot.lines({"a": ([1, 10], [2, 3])}, "x", "y", log="xy").axes[0].get_yscale() == "log"


def test_lines_have_a_dot_for_each_seed():
    curves = {"a": ([1, 2], [3.0, 4.0]), "b": ([1, 2], [0.0, 1.0])}
    ax = plot.lines(curves, "x", "y", dots={"b": np.array([[0, 0], [0, 2]])}).axes[0]
    assert [line.get_ydata().tolist() for line in ax.lines[2:]] == [[0, 0], [0, 2]]
    assert all(line.get_linestyle() == "None" for line in ax.lines[2:])


def test_a_logarithmic_axis_names_the_values_that_were_tried():
    ax = plot.lines({"a": ([1, 2, 16], [3, 4, 5]), "b": ([0.5], [3])}, "x", "y", log="x").axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0.5", "1", "2", "16"]
    many = plot.lines({"a": (range(1, 20), range(19))}, "x", "y", log="x").axes[0]
    assert len(many.get_xticks()) < 19
    long = plot.lines({"a": ([47.2651, 31175, 51835], range(3))}, "x", "y", log="x").axes[0]
    assert 47.2651 not in long.get_xticks()


def test_the_names_of_many_curves_stand_beside_them():
    curves = {name: ([1, 2], [3.0, 4.0]) for name in "abcd"}
    figure = plot.lines(curves, "x", "y")
    assert figure.axes[0].get_legend() is None
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(curves)


def test_histograms_have_equal_areas():
    groups = {"few": torch.linspace(0, 1, 50), "many": torch.linspace(0, 2, 5000)}
    ax = plot.histograms(groups, "value", bins=20).axes[0]
    filled = [p for p in ax.containers if len(p) == 20]
    areas = [sum(bar.get_height() * bar.get_width() for bar in bars) for bars in filled]
    assert areas == pytest.approx([1, 1])


def test_intervals_show_value_ends_and_seeds():
    estimates = {"a": Estimate(0.5, 0.4, 0.7, 100), "b": Estimate(0.2, 0.1, 0.3, 5)}
    figure = plot.intervals(estimates, "accuracy", line=0.25, dots={"b": [0.15, 0.25]})
    drawn = [line.get_xdata() for line in figure.axes[0].lines]
    assert [list(x) for x in drawn[:3]] == [[0.4, 0.7], [0.5], [0.1, 0.3]]
    assert [x[0] for x in drawn[4:6]] == [0.15, 0.25]
    assert figure.axes[0].yaxis_inverted()  # the first one at the top


def test_patches_are_cut_and_ordered_by_rows():
    pixels = torch.zeros(3, 4, 6)
    pixels[0, 0:2, 2:4] = 1.0  # patch 1 is red
    figure = plot.patches(pixels, 2)
    cut = figure.axes[1].images[0].get_array()
    assert cut.shape == (5, 8, 4) and (cut[:2, 3:5, 0] == 1).all() and cut[2, :, 3].sum() == 0
    assert [t.get_text() for t in figure.axes[2].texts] == ["0", "1", "2", "3", "4", "5"]
    assert figure.axes[2].texts[1].get_position() == (3, 1)


def test_a_token_table_pales_the_padding():
    ids = torch.tensor([[1, 7, 2], [1, 2, 0]])
    ax = plot.token_table(ids, ids != 0).axes[0]
    assert [t.get_text() for t in ax.texts] == ["1", "7", "2", "1", "2", "0"]
    shades = [box.get_alpha() for box in ax.patches]
    assert len(set(shades[:5])) == 1 and shades[5] < shades[0]


def test_circles_join_partners():
    first, second = torch.eye(2), -torch.eye(2)
    figure = plot.circles({"start": (first, second), "end": (first, first)})
    joined = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert [np.round(line.get_xydata(), 3).tolist() for line in joined] == [
        [[1, 0], [-1, 0]],
        [[0, 1], [0, -1]],
    ]
    assert [ax.get_title() for ax in figure.axes] == ["start", "end"]


def test_bad_input():
    with pytest.raises(ValueError, match="1 titles for 2 pictures"):
        plot.pictures(torch.rand(2, 3, 8, 8), ["one"])
    with pytest.raises(ValueError, match=r"shape \(2, 3, 8, 8\) can't be drawn"):
        plot.pictures(torch.rand(1, 2, 3, 8, 8))


def test_a_similarity_table_writes_each_score_and_marks_the_best_of_a_row():
    scores = torch.tensor([[0.9, 0.1, 0.25], [0.3, 0.2, 0.8]])
    figure = plot.similarity(torch.rand(2, 3, 8, 8), ["a", "b", "c"], scores)
    ax = figure.axes[0]
    said = {tuple(t.get_position()): (t.get_text(), t.get_weight()) for t in ax.texts}
    assert said[0, 0] == ("0.90", "bold") and said[2, 1] == ("0.80", "bold")
    assert said[2, 0] == ("0.25", "normal") and len(said) == 6
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    assert len(ax.images) == 3  # the table and two pictures
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 3 pictures and 2 texts; rows are"):
        plot.similarity(torch.rand(3, 3, 8, 8), ["a", "b"], scores)


def test_training_curves_show_each_step_its_mean_and_shares_beside():
    losses = list(np.linspace(4, 0, 50))
    figure = plot.training({"loss": losses}, {"accuracy": ([0, 50], [0.1, 0.9])}, smooth=10,
                           line=4.0, line_label="a guess")  # fmt: skip
    left, right = figure.axes
    raw, mean = left.lines[0].get_ydata(), left.lines[1]
    np.testing.assert_allclose(raw, losses)
    assert mean.get_xdata()[-1] == 49 and len(mean.get_ydata()) == 41
    assert mean.get_ydata()[-1] == pytest.approx(np.mean(losses[-10:]))
    assert right.get_ylabel() == "accuracy" and list(right.lines[0].get_ydata()) == [0.1, 0.9]
    assert "a guess" in [t.get_text() for t in left.texts]
    assert len(plot.training({"a": losses, "b": losses}).axes) == 1


def test_what_is_right_is_told_by_more_than_a_color():
    image = torch.rand(3, 8, 8)
    figure = plot.retrieved(["one", image], [[image, image], ["a text"]], [[True, False], [False]])
    hit, miss = (ax.spines["top"] for ax in figure.axes[1:3])
    assert hit.get_linewidth() > 2 * miss.get_linewidth()
    assert hit.get_linestyle() == "-" != miss.get_linestyle()
    assert not figure.axes[5].axison  # the second row found one thing only
    assert [ax.texts[0].get_text() for ax in figure.axes if ax.texts] == ["one", "a text"]


def test_groups_of_a_map_differ_in_their_marks_and_pairs_are_joined():
    points = {name: torch.rand(4, 2) for name in ("pictures", "texts")}
    ax = plot.embedding_map(points, ("pictures", "texts")).axes[0]
    shown = [scatter.get_offsets() for scatter in ax.collections]
    for given, there in zip(points.values(), shown, strict=True):
        np.testing.assert_allclose(given, there)
    marks = [scatter.get_paths()[0].vertices.shape for scatter in ax.collections]
    assert marks[0] != marks[1]
    ends = np.stack([line.get_xydata() for line in ax.lines])
    np.testing.assert_allclose(ends[:, 0], points["pictures"], rtol=1e-6)
    np.testing.assert_allclose(ends[:, 1], points["texts"], rtol=1e-6)
    assert len(plot.embedding_map(points).axes[0].lines) == 0


def test_what_a_decoder_chose_stands_out_among_what_it_could_have_chosen():
    offered = [[("a", 0.5), ("an", 0.01), ("the", 0.3)], [("red", 0.2), ("blue", 0.75)]]
    ax = plot.choices(["the", "blue"], offered, "two steps").axes[0]
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([0.5, 0.01, 0.3, 0.2, 0.75])
    assert [bar.get_x() for bar in ax.patches] == pytest.approx([0, 0.5, 0.51, 0, 0.2])
    assert [bar.get_alpha() == 1 for bar in ax.patches] == [False, False, True, False, True]
    places = [t.get_position() for t in ax.texts]
    assert np.ravel(places) == pytest.approx([0.25, 0, 0.66, 0, 0.1, 1, 0.575, 1])
    assert ax.yaxis_inverted() and ax.get_title() == "two steps"  # the first step stands above
    said = {t.get_text(): t.get_weight() for t in ax.texts}
    assert said == {"a": "normal", "the": "bold", "red": "normal", "blue": "bold"}  # "an": no room
    assert [t.get_text() for t in ax.get_yticklabels()] == ["the", "blue"]
    with pytest.raises(ValueError, match="1 chosen tokens for candidates of 2 steps"):
        plot.choices(["a"], offered)


def peak(row, column):
    grid = torch.zeros(4, 4)
    grid[row, column] = 2.0
    return grid


def test_a_map_is_hottest_where_it_is_highest_and_says_what_it_scores():
    pictures, masks = torch.full((2, 3, 32, 32), 0.5), torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[:, 4:12, 20:28] = True
    grids = torch.stack([peak(1, 2), peak(3, 0)])
    figure = plot.maps(pictures, grids, ["hit", "miss"], "found 0.5, random 0.1", masks)
    assert [t.get_text() for t in figure.texts] == ["found 0.5, random 0.1"]
    first, second = (ax for ax in figure.axes if ax.images)
    assert [first.get_title(), second.get_title()] == ["hit", "miss"]
    for ax, middle in ((first, (19.5, 11.5)), (second, (3.5, 27.5))):
        (cross,) = ax.lines[0].get_xydata().tolist()
        edge = [4 * (n < 4 or n > 28) for n in middle]  # a patch at the edge is flat towards it
        assert all(abs(a - b) <= 0.5 + e for a, b, e in zip(cross, middle, edge, strict=True))
    shown = np.asarray(first.images[0].get_array())
    changed = np.abs(shown - 0.5).sum(-1)
    assert np.unravel_index(changed.argmax(), changed.shape)[0] in range(8, 16)
    assert changed[8:16, 16:24].mean() > 3 * changed[24:, :8].mean()
    assert len(first.collections) == 1  # the outline


def test_the_unit_of_a_map_makes_no_difference_and_a_flat_one_is_told():
    picture = torch.rand(1, 3, 32, 32)
    grids = torch.stack([peak(1, 2), 1000 * peak(1, 2) - 7, torch.full((4, 4), 0.3)])
    own, *axes = plot.maps(picture, grids, ["a", "b", "c"], "note").axes
    np.testing.assert_allclose(own.images[0].get_array(), picture[0].permute(1, 2, 0))
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-4)
    assert axes[2].get_title() == "c (flat)" and not axes[2].lines
    gray = picture[0].mean(0).numpy()
    np.testing.assert_allclose(shown[2], np.repeat(gray[..., None], 3, -1), rtol=1e-5)
    assert np.abs(shown[0] - shown[2]).max() > 0.2


def test_maps_break_into_rows_and_refuse_what_does_not_fit():
    pictures, grids = torch.rand(5, 3, 16, 16), torch.rand(5, 4, 4)
    for given, num in ((pictures, 5), (pictures[:1], 6)):
        figure = plot.maps(given, grids, list("abcde"), "", columns=2)
        assert len(figure.axes) == 6 and sum(bool(ax.images) for ax in figure.axes) == num
    with pytest.raises(ValueError, match="5 maps, 2 titles and 1 pictures; pass a title for each"):
        plot.maps(torch.rand(1, 3, 16, 16), torch.rand(5, 4, 4), list("ab"), "")
    with pytest.raises(ValueError, match="3 maps, 3 titles and 2 pictures"):
        plot.maps(torch.rand(2, 3, 16, 16), torch.rand(3, 4, 4), list("abc"), "")


def test_an_attention_matrix_has_a_row_for_each_that_looks():
    weights = torch.tensor([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
    figure = plot.attention_matrix(weights, ["red", "cube"], ["a", "b", "c"], "a note")
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), weights)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["red", "cube"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in ax.texts] == [".20", ".80", ".00", "1.00", ".00", ".00"]
    assert figure.get_supxlabel() == "a note"
    patches = torch.rand(3, 3, 8, 8)
    ax = plot.attention_matrix(weights, ["red", "cube"], patches, "").axes[0]
    tiles = ax.images[1:]
    assert len(tiles) == 3
    np.testing.assert_allclose(tiles[1].get_array(), patches[1].permute(1, 2, 0))
    assert tiles[1].get_extent()[0] == pytest.approx(0.54)  # above its column
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for 2 rows and 2 columns"):
        plot.attention_matrix(weights, ["red", "cube"], ["a", "b"], "")
