"""The exercises of the chapter on comparison. Book: comparison.md."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlmbook.exercises import Exercise, Mistake, Result, judge


def check(name: str, answer: Any) -> Result:
    """What is right or wrong with an answer to one of this chapter's exercises."""
    return judge(EXERCISES, name, answer)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _scored(*seeds: int) -> list[tuple[Tensor, Tensor]]:
    """Two models on the same items, who often are right about the same ones."""
    found = []
    for seed in seeds:
        easy = 2 * _random(60, seed=seed)
        a, b = ((_random(60, seed=seed + k) < easy).float() for k in (100, 200))
        found.append((a, b))
    return found


def _paired_width(a: Tensor, b: Tensor) -> Tensor:
    return 1.96 * (a - b).std() / len(a) ** 0.5


PAIRED_WIDTH = Exercise(
    right=_paired_width,
    trials=lambda: _scored(0, 1, 2),
    mistakes=(
        Mistake(
            "unpaired",
            lambda a, b: 1.96 * (a.var() + b.var()).sqrt() / len(a) ** 0.5,
            "this adds the variances, as if the two had answered different items. Take the"
            " deviation of the differences.",
        ),
        Mistake(
            "of the items",
            lambda a, b: 1.96 * (a - b).std(),
            "this is how far single items scatter. The mean of n scatters by that over sqrt(n).",
        ),
        Mistake(
            "one deviation",
            lambda a, b: (a - b).std() / len(a) ** 0.5,
            "this is one standard error; 95 % are within 1.96 of them.",
        ),
        Mistake(
            "the whole interval",
            lambda a, b: 2 * _paired_width(a, b),
            "this is the whole interval. Half of it is asked for.",
        ),
    ),
)


def _holm(p: Tensor) -> Tensor:
    order = p.argsort()
    grown = (p[order] * torch.arange(len(p), 0, -1)).cummax(0).values.clamp(max=1)
    return torch.empty_like(p).scatter(0, order, grown)


def _holm_sorted(p: Tensor) -> Tensor:
    return _holm(p).sort().values


def _stepwise(p: Tensor) -> Tensor:
    order = p.argsort()
    grown = (p[order] * torch.arange(len(p), 0, -1)).clamp(max=1)
    return torch.empty_like(p).scatter(0, order, grown)


def _benjamini_hochberg(p: Tensor) -> Tensor:
    order = p.argsort(descending=True)
    num = len(p)
    shrunk = (p[order] * num / torch.arange(num, 0, -1)).cummin(0).values.clamp(max=1)
    return torch.empty_like(p).scatter(0, order, shrunk)


HOLM = Exercise(
    right=_holm,
    trials=lambda: [
        (torch.tensor([0.04, 0.001, 0.03, 0.6, 0.012]),),
        (torch.tensor([0.011, 0.012, 0.3, 0.9]),),
        (torch.tensor([0.4, 0.5, 0.9, 0.02]),),
        (0.2 * _random(9),),
    ],
    mistakes=(
        Mistake(
            "Bonferroni",
            lambda p: (p * len(p)).clamp(max=1),
            "this is Bonferroni's: each is multiplied by all m. Holm's second smallest is"
            " multiplied by m - 1, and so on.",
        ),
        Mistake(
            "not monotone",
            _stepwise,
            "a larger p may come out below a smaller one. Keep the greatest so far.",
        ),
        Mistake(
            "sorted",
            _holm_sorted,
            "these are in order of size. Put each back in the place of its p.",
        ),
        Mistake(
            "above one",
            lambda p: torch.empty_like(p).scatter(
                0,
                p.argsort(),
                (p.sort().values * torch.arange(len(p), 0, -1)).cummax(0).values,
            ),
            "a p above 1 is none. Cut off at 1.",
        ),
        Mistake(
            "false discovery rate",
            _benjamini_hochberg,
            "this is Benjamini and Hochberg's, which bounds the share of false findings. Holm's"
            " bounds the chance of any.",
        ),
    ),
)


def _wrong(*seeds: int) -> list[tuple[Tensor, Tensor]]:
    return [(a < 0.5, b < 0.5) for a, b in _scored(*seeds)]


def _kappa(a: Tensor, b: Tensor) -> Tensor:
    same = (a == b).float().mean()
    a, b = a.float().mean(), b.float().mean()
    expected = a * b + (1 - a) * (1 - b)
    return (same - expected) / (1 - expected)


SHARED_MISTAKES = Exercise(
    right=_kappa,
    trials=lambda: _wrong(3, 4, 5),
    mistakes=(
        Mistake(
            "agreement",
            lambda a, b: (a == b).float().mean(),
            "this is how often they agree; two models that are nearly always right do so by"
            " chance. Take away what is expected.",
        ),
        Mistake(
            "not divided",
            lambda a, b: (
                _kappa(a, b)
                * (
                    1
                    - a.float().mean() * b.float().mean()
                    - (1 - a.float().mean()) * (1 - b.float().mean())
                )
            ),
            "what is expected is taken away, and the rest is not divided by what was left to"
            " agree about.",
        ),
        Mistake(
            "mistakes alone",
            lambda a, b: (
                ((a & b).float().mean() - a.float().mean() * b.float().mean())
                / (1 - a.float().mean() * b.float().mean())
            ),
            "only being wrong together counts here. They agree where both are right, too.",
        ),
        Mistake(
            "coin",
            lambda a, b: 2 * (a == b).float().mean() - 1,
            "this expects an agreement of one half. How much is expected depends on how often"
            " each is wrong.",
        ),
    ),
)


def _fitted(x: Tensor, y: Tensor, at: Tensor | float) -> Tensor:
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    return y.mean() + slope * (at - x.mean())


def _foretell(size: Tensor, loss: Tensor, larger: float) -> Tensor:
    return _fitted(size.log(), loss.log(), torch.tensor(larger).log()).exp()


def _runs(*seeds: int) -> list[tuple[Tensor, Tensor, float]]:
    found = []
    for seed in seeds:
        size = 10 ** (1 + 3 * _random(6, seed=seed).sort().values)
        found.append((size, 5 * size**-0.3 * (1 + 0.1 * _random(6, seed=seed + 50)), 50_000.0))
    return found


FORETELL = Exercise(
    right=_foretell,
    trials=lambda: _runs(6, 7),
    mistakes=(
        Mistake(
            "straight line",
            lambda size, loss, larger: _fitted(size, loss, torch.tensor(larger)),
            "this is a straight line through sizes and losses. A power law is one through their"
            " logarithms.",
        ),
        Mistake(
            "one logarithm",
            lambda size, loss, larger: _fitted(size.log(), loss, torch.tensor(larger).log()),
            "the logarithm of the loss is missing: this falls by as much with each doubling, and"
            " below zero in the end.",
        ),
        Mistake(
            "left in logarithms",
            lambda size, loss, larger: _foretell(size, loss, larger).log(),
            "this is the logarithm of the loss. Take exp of it.",
        ),
        Mistake(
            "last two",
            lambda size, loss, larger: _foretell(size[-2:], loss[-2:], larger),
            "this goes through the two largest alone. Fit all.",
        ),
    ),
)


def _frontier(cost: Tensor, score: Tensor) -> Tensor:
    beaten = (
        (cost[None] <= cost[:, None])
        & (score[None] >= score[:, None])
        & ((cost[None] < cost[:, None]) | (score[None] > score[:, None]))
    )
    return ~beaten.any(1)


FRONTIER = Exercise(
    right=_frontier,
    trials=lambda: [
        (torch.tensor([1.0, 2, 2, 3, 4]), torch.tensor([0.5, 0.7, 0.6, 0.7, 0.9])),
        (torch.tensor([1.0, 1, 5, 5]), torch.tensor([0.5, 0.5, 0.5, 0.8])),
        ((10 * _random(12)).round(), (10 * _random(12, seed=1)).round()),
    ],
    mistakes=(
        Mistake(
            "turned round",
            lambda cost, score: _frontier(-cost, -score),
            "these are the ones that nobody should take. Less cost is better, and more score.",
        ),
        Mistake(
            "strictly",
            lambda cost, score: (
                ~((cost[None] < cost[:, None]) & (score[None] > score[:, None])).any(1)
            ),
            "who costs as much and is worse, or is as good and costs more, is beaten, too.",
        ),
        Mistake(
            "beaten by its like",
            lambda cost, score: (
                ~(
                    (cost[None] <= cost[:, None])
                    & (score[None] >= score[:, None])
                    & ~torch.eye(len(cost), dtype=torch.bool)
                ).any(1)
            ),
            "of two that are alike in both, none beats the other.",
        ),
        Mistake(
            "the best",
            lambda cost, score: score == score.max(),
            "these are the best, whatever they cost.",
        ),
    ),
)


EXERCISES = {
    "paired-width": PAIRED_WIDTH,
    "holm": HOLM,
    "shared-mistakes": SHARED_MISTAKES,
    "foretell": FORETELL,
    "frontier": FRONTIER,
}
