"""Each measurement of a space is its definition, and knows the spaces that one can draw."""

import math

import pytest
import torch
import torch.nn.functional as F

from vlmbook import geometry


def unit(num, seed=0, shift=0.0):
    made = torch.randn(num, 6, generator=torch.Generator().manual_seed(seed)) + shift
    return F.normalize(made, dim=1)


def around(*angles):
    """Points of the unit circle, angles in degrees."""
    turned = torch.tensor(angles) * math.pi / 180
    return torch.stack([turned.cos(), turned.sin()], dim=1)


def test_points_on_a_circle():
    right, left = around(0.0, 90.0), around(180.0, 270.0)
    assert geometry.modality_gap(right, left) == pytest.approx(math.sqrt(2))
    assert geometry.alignment(right, left) == pytest.approx(4)
    assert geometry.relative_gap(right, left) == pytest.approx(1 / (1 + 0.5))
    assert geometry.uniformity(around(0.0, 180.0)) == pytest.approx(-8)
    assert geometry.uniformity(around(0.0, 180.0), t=1.0) == pytest.approx(-4)
    assert geometry.tolerance(around(0.0, 60.0, 180.0), [1, 1, 2]) == pytest.approx(0.5)


def test_partners_that_coincide_have_no_gap():
    x = unit(20)
    assert geometry.modality_gap(x, x) == geometry.alignment(x, x) == 0
    assert geometry.relative_gap(x, x) == pytest.approx(0, abs=1e-6)


def test_the_gap_is_of_means_and_not_of_partners():
    x = unit(20)
    other = x.roll(1, 0)
    assert geometry.modality_gap(x, other) == pytest.approx(0, abs=1e-6)
    assert geometry.alignment(x, other) > 0.5 and geometry.relative_gap(x, other) > 0.3


def test_each_is_its_slow_definition():
    x, y = unit(7), unit(7, seed=1, shift=0.5)
    label = [0, 1, 0, 2, 1, 0, 3]
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    def d(a, b):
        return (1 - float(a @ b)) / 2

    within = (mean(d(x[i], x[j]) for i, j in pairs) + mean(d(y[i], y[j]) for i, j in pairs)) / 2
    pair = mean(d(a, b) for a, b in zip(x, y, strict=True))
    assert geometry.relative_gap(x, y) == pytest.approx(pair / (pair + within), rel=1e-4)
    spread = mean(math.exp(-2 * float((x[i] - x[j]).pow(2).sum())) for i, j in pairs)
    assert geometry.uniformity(x) == pytest.approx(math.log(spread), rel=1e-4)
    alike = mean(float(x[i] @ x[j]) for i, j in pairs if label[i] == label[j])
    assert geometry.tolerance(x, label) == pytest.approx(alike, rel=1e-4)
    assert geometry.tolerance(x, torch.tensor(label)) == pytest.approx(alike, rel=1e-4)
    assert geometry.alignment(x, y) == pytest.approx(4 * pair, rel=1e-4)


def test_evenly_spread_points_are_more_uniform_than_a_heap():
    assert geometry.uniformity(unit(50)) < geometry.uniformity(unit(50, shift=3.0)) - 0.5


def test_spaces_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match="1 point has no neighbours; pass two or more"):
        geometry.uniformity(unit(1))
    with pytest.raises(ValueError, match="1 point has no neighbours; pass two or more"):
        geometry.relative_gap(unit(1), unit(1))
    with pytest.raises(ValueError, match="no two points are of the same class"):
        geometry.tolerance(unit(3), [0, 1, 2])
