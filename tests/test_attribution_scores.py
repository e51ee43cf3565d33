"""Scores of maps, on maps small enough to check by hand; and what a map should not survive."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from torch import nn

from vlmbook import attribution, blip, clip, tokenizer

BOOK = tokenizer.load()


def box(top, left, high, wide, size=32):
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + high, left : left + wide] = True
    return mask


def peak(row, column, side=4):
    grid = torch.zeros(side, side)
    grid[row, column] = 1.0
    return grid


@pytest.mark.parametrize(
    ("grid", "mask", "hit"),
    [
        (peak(1, 2), box(8, 16, 8, 8), True),  # the highest pixel is at 11, 19
        (peak(1, 2), box(11, 19, 1, 1), True),
        (peak(1, 2), box(11, 15, 1, 1), True),  # half a patch away
        (peak(1, 2), box(11, 14, 1, 1), False),
        (peak(1, 2), box(8, 16, 1, 1), False),  # by 3 and 3: further than 4
        (peak(1, 2) + 0.5 * peak(1, 3), box(11, 24, 1, 1), True),  # it leans to the right
        (peak(2, 1), box(8, 16, 8, 8), False),  # rows are rows
        (torch.ones(4, 4), torch.ones(32, 32, dtype=torch.bool), False),  # flat
        (peak(1, 2), box(0, 0, 0, 0), False),
    ],
)
def test_pointing(grid, mask, hit):
    assert attribution.pointing(grid[None], mask[None]).tolist() == [hit]
    both = attribution.pointing(
        torch.stack([grid, peak(0, 0)]), torch.stack([mask, box(0, 0, 8, 8)])
    )
    assert both.tolist() == [hit, True]


def test_near_is_a_disk():
    found = attribution.near(box(16, 16, 1, 1)[None], 4)[0]
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    assert found.equal((rows - 16) ** 2 + (columns - 16) ** 2 <= 16)


def test_mean_iou():
    mask = box(0, 0, 32, 16)
    left = torch.tensor([1.0, 1, 0, 0]).expand(4, 4)
    assert attribution.mean_iou(left[None], mask[None]).item() == pytest.approx(1)
    assert attribution.mean_iou(1 - left[None], mask[None]).item() == 0
    top = left.T  # a quarter right, a quarter wrong: 1/3 each
    assert attribution.mean_iou(top[None], mask[None]).item() == pytest.approx(1 / 3)
    flat = attribution.mean_iou(torch.zeros(1, 4, 4), mask[None])  # nothing found: 0 and 1/2
    assert flat.item() == pytest.approx(0.25)
    scaled = attribution.mean_iou(1000 * left[None] - 5, mask[None])
    assert scaled.item() == pytest.approx(1)  # the unit makes no difference


def test_average_precision():
    torch.manual_seed(0)
    mask = box(8, 16, 8, 8)
    grid = torch.rand(2, 4, 4)
    found = attribution.average_precision(grid, mask.expand(2, -1, -1))
    for one, score in zip(grid, found, strict=True):
        large = attribution.enlarged(one[None], (32, 32))[0]
        expected = average_precision_score(mask.flatten(), large.flatten())
        assert score.item() == pytest.approx(expected)
    stripe = torch.tensor([0.0, 0, 0, 1]).expand(1, 4, 4)
    found = attribution.average_precision(stripe, box(0, 24, 32, 8)[None])
    assert found.item() == pytest.approx(1)
    found = attribution.average_precision(1 - stripe, box(0, 24, 32, 8)[None])
    assert found.item() < 1 / 4
    flat = attribution.average_precision(torch.ones(1, 4, 4), mask[None])
    assert flat.item() == pytest.approx(1 / 16)


def test_a_map_is_specific_where_it_finds_both():
    masks = box(0, 0, 8, 8)[None].expand(3, -1, -1), box(16, 16, 8, 8)[None].expand(3, -1, -1)
    first = torch.stack([peak(0, 0), peak(0, 0), peak(2, 2)])
    second = torch.stack([peak(2, 2), peak(0, 0), peak(2, 2)])
    assert attribution.specific((first, second), masks).tolist() == [True, False, False]


def test_curves_take_away_and_give_the_highest_first():
    pixels = torch.zeros(2, 3, 32, 32)
    pixels[0, :, 8:16, 16:24] = 1.0
    pixels[1, :, :8, :8] = 1.0

    def bright(p):
        return p.amax((1, 2, 3))

    grid = torch.stack([peak(1, 2) + 0.1 * torch.rand(4, 4), 1 - peak(0, 0)])
    gone, come = attribution.curves(bright, pixels, grid, steps=16)
    mean = 1 / 16
    assert gone[0].tolist() == pytest.approx([1] + [mean] * 16)
    assert come[0].tolist() == pytest.approx([mean] + [1] * 16)
    assert gone[1].tolist() == pytest.approx([1] * 16 + [mean])  # the worst map finds it last
    assert come[1].tolist() == pytest.approx([mean] * 16 + [1])


def test_the_centre_is_a_hill_in_the_middle():
    hill = attribution.centre(2, (8, 8))
    assert hill.shape == (2, 8, 8) and hill[0].argmax().item() == 4 * 8 + 4
    assert (hill[0, 4, 4:].diff() < 0).all() and (hill[0, :4, 4].diff() > 0).all()


@pytest.mark.parametrize(
    ("grid", "mask", "message"),
    [
        (torch.rand(4, 4), box(0, 0, 8, 8)[None], "can't be scored against masks of shape"),
        (torch.rand(2, 4, 4), box(0, 0, 8, 8)[None], r"pass \(B, h, w\) and \(B, H, W\)"),
        (torch.full((1, 4, 4), torch.nan), box(0, 0, 8, 8)[None], "numbers that are not finite"),
    ],
)
@pytest.mark.parametrize("score", ["pointing", "mean_iou", "average_precision"])
def test_what_is_no_map_is_refused(score, grid, mask, message):
    with pytest.raises(ValueError, match=message):
        getattr(attribution, score)(grid, mask)


def test_agreement_is_spearmans():
    torch.manual_seed(0)
    a, b = torch.rand(3, 4, 4), torch.rand(3, 4, 4)
    b[0] = a[0].exp()  # the same order
    b[2, 0] = 0.5  # ties
    found = attribution.agreement(a, b)
    for row in range(3):
        expected = spearmanr(a[row].flatten(), b[row].flatten()).statistic
        assert found[row].item() == pytest.approx(expected, abs=1e-6)
    assert attribution.agreement(a, torch.zeros(3, 4, 4)).tolist() == [0, 0, 0]


def models():
    sizes = {"image_width": 32, "image_heads": 2, "text_width": 32, "text_heads": 2, "size": 24}
    return {
        "clip": clip.build(clip.Config(len(BOOK), **sizes)),
        "blip": blip.build(blip.Config(len(BOOK), **sizes)),
    }


@pytest.mark.parametrize("name", ["clip", "blip"])
def test_a_cascade_goes_from_the_output_to_the_input(name):
    model = models()[name]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    names, changed = [], set()
    for part, copy in attribution.cascade(model):
        names.append(part)
        now = {k for k, v in copy.named_parameters() if not v.equal(before[k])}
        assert now >= changed and {k for k in now - changed if not k.startswith(part)} == set()
        changed = now
        for key, weight in copy.named_parameters():  # the same numbers
            assert weight.flatten().sort().values.equal(before[key].flatten().sort().values)
    assert names == attribution.parts(model)
    text = [n for n in names if n.startswith("text.blocks")]
    image = [n for n in names if n.startswith("image.")]
    assert text == sorted(text, reverse=True) and image[-1] in (
        "image.stem",
        "image.class_token",
        "image.place",
    )
    matrices = {k for k, v in model.named_parameters() if v.dim() > 1}
    assert matrices <= changed  # nothing is left
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())  # the model itself is


def test_everything_can_be_randomised_in_another_way_each_time():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    one, other = attribution.randomised(model, 0), attribution.randomised(model, 1)
    again = attribution.randomised(model, 0)
    assert one[0].weight.equal(again[0].weight) and not one[0].weight.equal(other[0].weight)
    assert not one[0].weight.equal(model[0].weight)
