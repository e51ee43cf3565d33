"""Five ways to say where a model looked, each a map on the picture and one on the text.

B pictures, h and w rows and columns of patches, T text tokens, L all tokens of a model.
Book: attention/maps.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vlmbook.attribution.target import Layer, Target


class Map(NamedTuple):
    """How much each patch, grid (B, h, w), and each token, tokens (B, T), had to do with a score.

    The unit is the method's own: compare within a map.
    """

    grid: Tensor
    tokens: Tensor


@torch.no_grad()
def attention(target: Target, layer: int | None = None, head: int | None = None) -> Map:
    """Where the lookers look: weights of one layer and head, or the mean over those left out.

    Layers are numbered among those in which lookers look at patches; the tokens' map is of the
    text's own layer of that number, or of its last.
    """
    layers = _forward(target)
    return _direct(target, [(a, a.weights) for a in layers], layer, head)


@torch.no_grad()
def heads(target: Target) -> Tensor:
    """attention() of every layer and head at once: grids (layers, heads, B, h, w)."""
    steps = _seeing(target, [(a, a.weights) for a in _forward(target)])
    found = [[_mean(target, [step], 0, head) for head in range(step[1].shape[1])] for step in steps]
    grids = torch.stack([torch.stack(row) for row in found])[..., target.patches]
    return grids.unflatten(-1, target.grid)


@torch.no_grad()
def rollout(target: Target) -> Map:
    """Attention multiplied through all layers; each passes on half of what it was given as it is.

    What a token is made of if a layer's output is half its input and half what it attends to.
    Abnar and Zuidema 2020, section 3; the mean of the heads.
    """
    layers = _forward(target)
    made_of = _identity(target)
    for weights, query, key in layers:
        mixed = weights.mean(1) @ made_of[:, key]
        made_of[:, query] = (made_of[:, query] + mixed) / 2
    return _read_off(target, made_of)


def grad_cam(target: Target, layer: int | None = None) -> Map:
    """Weights times their positive gradients, the mean of the heads.

    Of one layer, numbered as in attention(); left out, the last in which it makes a difference to
    the score where the lookers look. Selvaraju et al. 2017 for the idea, Li et al. 2021 (ALBEF),
    section 5, for attention in place of channels.
    """
    layers, gradients = _backward(target)
    steps = [(a, a.weights * g.clamp(min=0)) for a, g in zip(layers, gradients, strict=True)]
    if layer is None:
        layer = len(_seeing(target, steps)) - 1
        while layer > 0 and not _direct(target, steps, layer, None).grid.any():
            layer -= 1
    return _direct(target, steps, layer, None)


def relevance(target: Target, scaled: bool = False) -> Map:
    """Weights times gradients, the positive part, multiplied through all layers.

    Chefer et al. 2021b, equations 5 and 6, with all tokens in one sequence. With scaled, their
    equation 10 where tokens of one kind look at those of another: it brings in the relevances on
    either side, each row of them scaled to one.
    """
    layers, gradients = _backward(target)
    found = _identity(target)
    for (weights, query, key), gradient in zip(layers, gradients, strict=True):
        step, other = (weights * gradient).clamp(min=0).mean(1), found[:, key]
        if scaled and not torch.equal(query, key):
            own = _scaled(found[:, query][..., query])
            other[..., key] = _scaled(other[..., key])
            step = own.transpose(1, 2) @ step
        found[:, query] += step @ other
    return _read_off(target, found - _identity(target))


@torch.no_grad()
def occlusion(target: Target, side: int = 2) -> Map:
    """By how much the score falls when a window of side x side patches is painted over.

    Painted in the picture's mean colour; a patch has the mean over the windows that cover it. A
    token has what its own absence takes away. Zeiler and Fergus 2014, section 4.2.
    """
    rows, columns = target.grid
    if not 1 <= side <= rows:
        raise ValueError(f"a window of {side} patches does not fit; choose from 1 to {rows}")
    pixels = target.pixels
    seen = target.see(pixels)
    whole, _ = target.read(seen, None)
    mean = pixels.mean((2, 3), keepdim=True)
    high, wide = (size // n for size, n in zip(pixels.shape[2:], (rows, columns), strict=True))
    fallen = torch.zeros(len(pixels), rows, columns)
    covered = torch.zeros(rows, columns)
    for row in range(rows - side + 1):
        for column in range(columns - side + 1):
            painted = pixels.clone()
            painted[
                ..., row * high : (row + side) * high, column * wide : (column + side) * wide
            ] = mean
            window = (slice(row, row + side), slice(column, column + side))
            fall = whole - target.run(painted)[0]
            fallen[:, window[0], window[1]] += fall[:, None, None].cpu()
            covered[window] += 1
    tokens = torch.zeros(target.mask.shape)
    for place in range(target.mask.shape[1]):
        erased = torch.zeros_like(target.mask)
        erased[:, place] = target.mask[:, place]
        tokens[:, place] = (whole - target.read(seen, erased)[0]).cpu()
    return Map(fallen / covered, tokens)


METHODS = {
    "attention": attention,
    "rollout": rollout,
    "grad-cam": grad_cam,
    "relevance": relevance,
    "occlusion": occlusion,
}


def _forward(target: Target) -> list[Layer]:
    _, layers = target.run()
    return [layer._replace(weights=layer.weights.float().cpu()) for layer in layers]


def _backward(target: Target) -> tuple[list[Layer], list[Tensor]]:
    """The layers, and the gradient of the score with respect to each one's weights."""
    with torch.enable_grad():
        pixels = target.pixels.detach().clone().requires_grad_()
        score, layers = target.run(pixels)
        weights = [layer.weights for layer in layers]
        gradients = torch.autograd.grad(score.sum(), weights, allow_unused=True)
    filled = [
        torch.zeros_like(w) if g is None else g for w, g in zip(weights, gradients, strict=True)
    ]
    layers = [a._replace(weights=a.weights.detach().float().cpu()) for a in layers]
    return layers, [g.float().cpu() for g in filled]


def _direct(
    target: Target, steps: list[tuple[Layer, Tensor]], layer: int | None, head: int | None
) -> Map:
    """One step from the tokens that look to what they look at."""
    reading = _seeing(target, steps, target.text)
    grid = _mean(target, _seeing(target, steps), layer, head)[:, target.patches]
    at = None if layer is None else min(layer, len(reading) - 1)
    tokens = _mean(target, reading, at, head)[:, target.text]
    return Map(grid.unflatten(1, target.grid), tokens)


def _seeing(
    target: Target, steps: list[tuple[Layer, Tensor]], tokens: Tensor | None = None
) -> list[tuple[Layer, Tensor]]:
    """Of the layers, those in which lookers look at some tokens; left out, at patches."""
    tokens = target.patches if tokens is None else tokens
    return [
        (at, step)
        for at, step in steps
        if target.lookers[:, at.query].any() and torch.isin(at.key, tokens).any()
    ]


def _mean(
    target: Target, steps: list[tuple[Layer, Tensor]], layer: int | None, head: int | None
) -> Tensor:
    """(B, L): the mean over the chosen layers and heads, and over the tokens that look."""
    found = torch.zeros(target.rows.shape)
    if not steps:
        return found
    for at, step in steps if layer is None else [steps[_existing(layer, len(steps), "layer")]]:
        heads = step.shape[1]
        mixed = step.mean(1) if head is None else step[:, _existing(head, heads, "head")]
        looks = target.lookers[:, at.query].float()
        looks = looks / looks.sum(1, keepdim=True).clamp(min=1)
        found[:, at.key] += (looks[:, None] @ mixed)[:, 0]
    return found / (len(steps) if layer is None else 1)


def _existing(number: int, count: int, what: str) -> int:
    if not -count <= number < count:
        raise ValueError(f"{what} {number} does not exist; choose from 0 to {count - 1}")
    return number


def _read_off(target: Target, found: Tensor) -> Map:
    """What the rows of the score are made of, from (B, L, L)."""
    own = (target.rows[:, None].float() @ found)[:, 0]
    return Map(own[:, target.patches].unflatten(1, target.grid), own[:, target.text])


def _identity(target: Target) -> Tensor:
    return torch.eye(target.size).repeat(len(target.pixels), 1, 1)


def _scaled(found: Tensor) -> Tensor:
    """A square of relevances (B, K, K) without its identity, rows scaled to sum one, plus it."""
    identity = torch.eye(found.shape[1])
    rest = found - identity
    total = rest.sum(-1, keepdim=True)
    return torch.where(total > 0, rest / total.clamp(min=1e-30), 0) + identity
