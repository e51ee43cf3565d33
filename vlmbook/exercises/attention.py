"""The exercises of the chapter on attention, page by page. Book: attention.md and its pages."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmbook.exercises import Exercise, Mistake, Result, judge


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- attention.md ---------------------------------------------------------------------------------


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v


ATTEND = Exercise(
    right=_attend,
    trials=lambda: [
        (_random(3, 4), _random(5, 4, seed=1), _random(5, 2, seed=2)),
        (3 * _random(2, 9, seed=3), _random(4, 9, seed=4), _random(4, 9, seed=5)),
    ],
    mistakes=(
        Mistake(
            "not scaled",
            lambda q, k, v: (q @ k.T).softmax(1) @ v,
            "the scores are not divided by the root of the width.",
        ),
        Mistake(
            "divided by the width",
            lambda q, k, v: (q @ k.T / q.shape[1]).softmax(1) @ v,
            "the scores are divided by the width itself, not by its root.",
        ),
        Mistake(
            "the number of keys",
            lambda q, k, v: (q @ k.T / len(k) ** 0.5).softmax(1) @ v,
            "the root is that of the number of keys. It should be that of a query's width.",
        ),
        Mistake(
            "along the columns",
            lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5).softmax(0) @ v,
            "the weights of a key add up to one. Those of a query should.",
        ),
        Mistake(
            "no softmax",
            lambda q, k, v: q @ k.T / q.shape[1] ** 0.5 @ v,
            "scores are no weights yet. The softmax is missing.",
        ),
        Mistake(
            "the best key",
            lambda q, k, v: v[(q @ k.T).argmax(1)],
            "each query takes the value of its best key alone. A mean is asked for.",
        ),
    ),
)


def _prefix(num_image: int, lengths: Tensor) -> Tensor:
    size = num_image + int(lengths.max())
    mask = torch.ones(size, size, dtype=torch.bool).tril()
    mask[:num_image, :num_image] = True
    there = torch.arange(size) < num_image + lengths[:, None]
    return mask & there[:, None]


def _triangle(num_image: int, lengths: Tensor) -> Tensor:
    size = num_image + int(lengths.max())
    mask = torch.ones(size, size, dtype=torch.bool).tril()
    return mask & (torch.arange(size) < num_image + lengths[:, None])[:, None]


def _all_see_all(num_image: int, lengths: Tensor) -> Tensor:
    size = num_image + int(lengths.max())
    there = torch.arange(size) < num_image + lengths[:, None]
    return there[:, None].expand(-1, size, -1).clone()


PREFIX = Exercise(
    right=_prefix,
    trials=lambda: [(3, torch.tensor([2, 4])), (2, torch.tensor([3, 1, 2]))],
    mistakes=(
        Mistake(
            "causal",
            _triangle,
            "image tokens don't see those that come after them in the row.",
        ),
        Mistake(
            "everything",
            _all_see_all,
            "text tokens see what comes after them, so there is nothing left to guess.",
        ),
        Mistake(
            "padding is seen",
            lambda n, lengths: (
                _prefix(n, lengths.max().expand(1)).expand(len(lengths), -1, -1).clone()
            ),
            "padding is looked at. Take its columns out of each text's mask.",
        ),
        Mistake(
            "the other way round",
            lambda n, lengths: _prefix(n, lengths).transpose(1, 2),
            "rows and columns are exchanged: the row looks, the column is looked at.",
        ),
        Mistake(
            "lengths count the image",
            lambda n, lengths: (
                _prefix(n, lengths)
                & (torch.arange(n + int(lengths.max())) < lengths[:, None])[:, None]
            ),
            "the lengths are those of the texts. The image tokens come before them.",
        ),
        Mistake(
            "the picture reads the text",
            lambda n, lengths: (
                _prefix(n, lengths)
                | (
                    _all_see_all(n, lengths)
                    & (torch.arange(n + int(lengths.max())) < n)[None, :, None]
                )
            ),
            "image tokens see the text, and tell it to all who look at them.",
        ),
    ),
)


def _heads(q: Tensor, k: Tensor, v: Tensor, h: int) -> Tensor:
    parts = zip(*(x.chunk(h, dim=1) for x in (q, k, v)), strict=True)
    return torch.cat([_attend(*part) for part in parts], dim=1)


def _woven(q: Tensor, k: Tensor, v: Tensor, h: int) -> Tensor:
    """Heads of every h-th number."""
    found = torch.empty(len(q), v.shape[1])
    for n in range(h):
        found[:, n::h] = _attend(q[:, n::h], k[:, n::h], v[:, n::h])
    return found


def _heads_scaled(q: Tensor, k: Tensor, v: Tensor, h: int, width: float) -> Tensor:
    parts = zip(*(x.chunk(h, dim=1) for x in (q, k, v)), strict=True)
    return torch.cat([(a @ b.T / width**0.5).softmax(1) @ c for a, b, c in parts], dim=1)


HEADS = Exercise(
    right=_heads,
    trials=lambda: [
        (2 * _random(3, 8), _random(5, 8, seed=1), _random(5, 8, seed=2), 2),
        (2 * _random(4, 12, seed=3), _random(4, 12, seed=4), _random(4, 12, seed=5), 3),
    ],
    mistakes=(
        Mistake(
            "one head",
            lambda q, k, v, h: _attend(q, k, v),
            "that is attention with one head over the whole width.",
        ),
        Mistake(
            "the whole width under the root",
            lambda q, k, v, h: _heads_scaled(q, k, v, h, q.shape[1]),
            "the root is that of the whole width. It should be that of a head's.",
        ),
        Mistake(
            "not scaled",
            lambda q, k, v, h: _heads_scaled(q, k, v, h, 1),
            "the scores are not divided by the root of a head's width.",
        ),
        Mistake(
            "every h-th number",
            _woven,
            "a head has every h-th number. It should have neighbouring ones.",
        ),
        Mistake(
            "the same weights",
            lambda q, k, v, h: (
                torch.stack(
                    [
                        (a @ b.T / a.shape[1] ** 0.5).softmax(1)
                        for a, b in zip(q.chunk(h, 1), k.chunk(h, 1), strict=True)
                    ]
                ).mean(0)
                @ v
            ),
            "the heads' weights are averaged first, so that all heads look at the same place.",
        ),
    ),
)


def _score_gradient(weights: Tensor, v: Tensor, g: Tensor) -> Tensor:
    helped = v @ g
    return weights * (helped - weights @ helped)


SCORE_GRADIENT = Exercise(
    right=_score_gradient,
    trials=lambda: [
        (_random(4).softmax(0), _random(4, 3, seed=1), _random(3, seed=2)),
        (_random(6, seed=3).softmax(0), _random(6, 2, seed=4), _random(2, seed=5)),
    ],
    mistakes=(
        Mistake(
            "with respect to the weights",
            lambda weights, v, g: v @ g,
            "that is the gradient with respect to the weights. The softmax comes before them.",
        ),
        Mistake(
            "the others are forgotten",
            lambda weights, v, g: weights * (v @ g),
            "when one weight rises, the others fall. Subtract the mean of what they would give.",
        ),
        Mistake(
            "an even mean",
            lambda weights, v, g: weights * (v @ g - (v @ g).mean()),
            "the mean that is subtracted should be taken with the weights.",
        ),
        Mistake(
            "not weighted",
            lambda weights, v, g: v @ g - weights @ (v @ g),
            "the weight itself is missing as a factor.",
        ),
        Mistake(
            "diagonal alone",
            lambda weights, v, g: weights * (1 - weights) * (v @ g),
            "that is how a weight changes with its own score. It changes with the others', too.",
        ),
    ),
)


# --- attention/maps.md ----------------------------------------------------------------------------


def _middle(grid: Tensor, mask: Tensor, best: int) -> tuple[int, int]:
    high, wide = mask.shape[0] // grid.shape[0], mask.shape[1] // grid.shape[1]
    row, column = divmod(best, grid.shape[1])
    return row * high + high // 2, column * wide + wide // 2


def _flat(grid: Tensor) -> bool:
    return bool((grid == grid.flatten()[0]).all())


def _points(grid: Tensor, mask: Tensor) -> float:
    return float(not _flat(grid) and mask[_middle(grid, mask, int(grid.argmax()))])


def _point_trials() -> list[tuple]:
    def peak(row: int, column: int) -> Tensor:
        grid = torch.zeros(4, 4)
        grid[row, column] = 1
        grid[3 - row, 0] = -1
        return grid

    def box(top: int, left: int, high: int, wide: int) -> Tensor:
        mask = torch.zeros(32, 32, dtype=torch.bool)
        mask[top : top + high, left : left + wide] = True
        return mask

    return [
        (peak(1, 2), box(8, 16, 8, 8)),
        (peak(1, 2), box(8, 16, 3, 3)),  # the corner alone
        (peak(1, 2), box(12, 20, 1, 1)),  # the middle alone
        (peak(1, 3), box(24, 8, 8, 8)),  # rows and columns exchanged
        (torch.full((4, 4), 0.5), box(0, 0, 32, 32)),
        (peak(0, 1), box(24, 0, 8, 8)),  # the lowest
        (-peak(1, 1), box(0, 0, 0, 0)),
    ]


POINTS = Exercise(
    right=_points,
    trials=_point_trials,
    mistakes=(
        Mistake(
            "a corner",
            lambda grid, mask: float(
                not _flat(grid)
                and mask[tuple(8 * n for n in divmod(int(grid.argmax()), grid.shape[1]))]
            ),
            "the pixel is the upper left corner of the patch. Take its middle.",
        ),
        Mistake(
            "rows and columns",
            lambda grid, mask: _points(grid.T, mask),
            "rows and columns are exchanged.",
        ),
        Mistake(
            "flat maps",
            lambda grid, mask: float(mask[_middle(grid, mask, int(grid.argmax()))]),
            "a flat map points nowhere, and should not be a hit.",
        ),
        Mistake(
            "the lowest",
            lambda grid, mask: _points(-grid, mask),
            "that is the lowest patch.",
        ),
        Mistake(
            "anywhere in the patch",
            lambda grid, mask: float(
                not _flat(grid)
                and mask.unflatten(1, (4, 8))
                .unflatten(0, (4, 8))
                .amax((1, 3))
                .flatten()[int(grid.argmax())]
            ),
            "any pixel of the patch counts. Take its middle alone.",
        ),
    ),
)


def _roll(layers: Tensor) -> Tensor:
    made_of = torch.eye(layers.shape[-1])
    for weights in layers:
        made_of = (weights @ made_of + made_of) / 2
    return made_of


def _product(layers: Tensor) -> Tensor:
    made_of = torch.eye(layers.shape[-1])
    for weights in layers:
        made_of = weights @ made_of
    return made_of


ROLL = Exercise(
    right=_roll,
    trials=lambda: [
        (2 * _random(3, 4, 4)).softmax(-1)[None].unbind(),
        (2 * _random(2, 5, 5, seed=1)).softmax(-1)[None].unbind(),
    ],
    mistakes=(
        Mistake(
            "without the rest",
            _product,
            "what a token passes on as it is, is left out. Half of each layer's output is that.",
        ),
        Mistake(
            "the last layer first",
            lambda layers: _roll(layers.flip(0)),
            "the layers are multiplied in the wrong order. The last one stands at the left.",
        ),
        Mistake(
            "a mean",
            lambda layers: layers.mean(0),
            "that is the mean over layers. They come one after another.",
        ),
        Mistake(
            "not halved",
            lambda layers: _roll(layers) * 2 ** len(layers),
            "the rows don't add up to one. Take the mean of what comes and what was there.",
        ),
        Mistake(
            "the rest once",
            lambda layers: (_product(layers) + torch.eye(layers.shape[-1])) / 2,
            "the identity is added once, at the end. Each layer passes on half of its input.",
        ),
    ),
)


def _relevant(weights: Tensor, gradients: Tensor) -> Tensor:
    found = torch.eye(weights.shape[-1])
    for step in (weights * gradients).clamp(min=0).mean(1):
        found = found + step @ found
    return found


def _along(steps: Tensor) -> Tensor:
    found = torch.eye(steps.shape[-1])
    for step in steps:
        found = found + step @ found
    return found


RELEVANT = Exercise(
    right=_relevant,
    trials=lambda: [
        ((2 * _random(3, 2, 4, 4)).softmax(-1), _random(3, 2, 4, 4, seed=1)),
        ((2 * _random(2, 3, 5, 5, seed=2)).softmax(-1), _random(2, 3, 5, 5, seed=3)),
    ],
    mistakes=(
        Mistake(
            "negative parts",
            lambda weights, gradients: _along((weights * gradients).mean(1)),
            "negative products are kept. Only the positive part of each head's counts.",
        ),
        Mistake(
            "the mean first",
            lambda weights, gradients: _along((weights * gradients).mean(1).clamp(min=0)),
            "heads are averaged before the negative part is cut off.",
        ),
        Mistake(
            "gradients alone",
            lambda weights, gradients: _along(gradients.clamp(min=0).mean(1)),
            "the weights are missing.",
        ),
        Mistake(
            "weights alone",
            lambda weights, gradients: _along(weights.mean(1)),
            "the gradients are missing, and with them the question that was asked.",
        ),
        Mistake(
            "the last layer first",
            lambda weights, gradients: _relevant(weights.flip(0), gradients.flip(0)),
            "the layers are in the wrong order. Begin with the first one.",
        ),
        Mistake(
            "without the rest",
            lambda weights, gradients: _product((weights * gradients).clamp(min=0).mean(1)),
            "what a token already had is lost. Add to it, in place of replacing it.",
        ),
    ),
)


# --- attention/fusion.md --------------------------------------------------------------------------


def _gated(x: Tensor, added: Tensor, gate: Tensor) -> Tensor:
    return x + gate.tanh() * added


GATED = Exercise(
    right=_gated,
    trials=lambda: [
        (_random(2, 3, 4), _random(2, 3, 4, seed=1), torch.tensor(0.0)),
        (_random(1, 2, 4, seed=2), _random(1, 2, 4, seed=3), torch.tensor(0.7)),
        (_random(1, 2, 4, seed=4), _random(1, 2, 4, seed=5), torch.tensor(-2.0)),
    ],
    mistakes=(
        Mistake(
            "sigmoid",
            lambda x, added, gate: x + gate.sigmoid() * added,
            "a sigmoid is one half at 0, so the stream is changed from the first step on.",
        ),
        Mistake(
            "no tanh",
            lambda x, added, gate: x + gate * added,
            "the gate itself is multiplied, and can grow without bound. Take its tanh.",
        ),
        Mistake(
            "a mixture",
            lambda x, added, gate: (1 - gate.tanh()) * x + gate.tanh() * added,
            "the stream is faded out as the look comes in. It should stay, and the look be added.",
        ),
        Mistake(
            "the stream is gated",
            lambda x, added, gate: gate.tanh() * (x + added),
            "the stream is multiplied as well: at 0 nothing is left of it.",
        ),
        Mistake(
            "the look is squashed",
            lambda x, added, gate: x + (gate * added).tanh(),
            "the tanh should hold the gate alone, not what is added.",
        ),
    ),
)


def _pairs(text: int, image: int, few: int) -> list[int]:
    return [(text + image) ** 2, text * (text + image), few * (few + image)]


PAIRS = Exercise(
    right=_pairs,
    trials=lambda: [(64, 576, 32), (5, 7, 2)],
    mistakes=(
        Mistake(
            "words don't read",
            lambda text, image, few: [(text + image) ** 2, text * image, few * (few + image)],
            "in the second, words look at the picture but don't read each other.",
        ),
        Mistake(
            "learnt tokens are alone",
            lambda text, image, few: [(text + image) ** 2, text * (text + image), few * image],
            "in the third, learnt tokens look at the picture but not at each other.",
        ),
        Mistake(
            "two squares",
            lambda text, image, few: [
                text**2 + image**2,
                text * (text + image),
                few * (few + image),
            ],
            "in the first, words and image tokens don't look at each other.",
        ),
        Mistake(
            "the picture reads too",
            lambda text, image, few: [
                (text + image) ** 2,
                text**2 + 2 * text * image,
                few * (few + image),
            ],
            "in the second, the picture looks back at the words. It stays what it is.",
        ),
        Mistake(
            "sums",
            lambda text, image, few: [text + image, text + image, few + image],
            "those are tokens. Each of those that look is compared with each that is looked at.",
        ),
    ),
)


def _resample(queries: Tensor, image: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    both = torch.cat([image, queries])
    return queries + _attend(queries @ query, both @ key, both @ value)


def _looked(queries: Tensor, context: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return _attend(queries @ query, context @ key, context @ value)


RESAMPLE = Exercise(
    right=_resample,
    trials=lambda: [
        (_random(2, 4), _random(5, 4, seed=1), *_random(3, 4, 4, seed=2)),
        (_random(3, 4, seed=3), _random(2, 4, seed=4), *_random(3, 4, 4, seed=5)),
    ],
    mistakes=(
        Mistake(
            "the picture alone",
            lambda q, image, *w: q + _looked(q, image, *w),
            "learnt tokens look at the picture alone. They should look at each other, too.",
        ),
        Mistake(
            "each other alone",
            lambda q, image, *w: q + _looked(q, q, *w),
            "learnt tokens look at each other alone, and never at the picture.",
        ),
        Mistake(
            "nothing is added to",
            lambda q, image, *w: _looked(q, torch.cat([image, q]), *w),
            "what is found replaces the learnt tokens. It should be added to them.",
        ),
        Mistake(
            "two softmaxes",
            lambda q, image, *w: q + _looked(q, image, *w) + _looked(q, q, *w),
            "picture and learnt tokens each have a softmax of their own. They should share one.",
        ),
        Mistake(
            "not scaled",
            lambda q, image, *w: (
                q
                + ((q @ w[0]) @ (torch.cat([image, q]) @ w[1]).T).softmax(1)
                @ (torch.cat([image, q]) @ w[2])
            ),
            "the scores are not divided by the root of the width.",
        ),
    ),
)


EXERCISES = {
    "attend": ATTEND,
    "prefix": PREFIX,
    "heads": HEADS,
    "score-gradient": SCORE_GRADIENT,
    "points": POINTS,
    "roll": ROLL,
    "relevant": RELEVANT,
    "gated": GATED,
    "pairs": PAIRS,
    "resample": RESAMPLE,
}
