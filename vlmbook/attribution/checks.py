"""Sanity checks: a map that outlives its model says nothing about the model.

B pictures, h and w rows and columns of patches. Adebayo et al. 2018. Book: attention/maps.md.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

import torch
from scipy.stats import rankdata
from torch import Tensor, nn

PART = re.compile(r".*?\b(?:blocks|layers|layer)\.\d+|[^.]+\.[^.]+|[^.]+")


def parts(model: nn.Module) -> list[str]:
    """What a model is made of, from output to input: layers, and what is outside of them."""
    names = [PART.match(name).group() for name, _ in model.named_parameters()]
    return list(dict.fromkeys(names))[::-1]


@torch.no_grad()
def cascade(model: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """The model with its last part randomised, then with its last two, until nothing is left.

    Randomised is: each weight matrix, bias and table keeps its numbers, in another order. Gives the
    part's name and one copy of the model, which each step changes further.
    """
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for part in parts(model):
        for name, weight in model.named_parameters():
            if PART.match(name).group() == part:
                order = torch.randperm(weight.numel(), generator=generator)
                weight.copy_(weight.flatten()[order.to(weight.device)].view_as(weight))
        yield part, model


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy whose every part is randomised, as in cascade()."""
    *_, (_, last) = cascade(model, seed)
    return last


def agreement(grid: Tensor, other: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps (B, h, w) each: (B,), 0 where one of them is flat."""
    ranks = [torch.tensor(rankdata(g.flatten(1).cpu().numpy(), axis=1)) for g in (grid, other)]
    a, b = (r - r.mean(1, keepdim=True) for r in ranks)
    size = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(size > 0, (a * b).sum(1) / size.clamp(min=1e-12), 0)
