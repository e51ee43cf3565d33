"""What shape a shared space has: how far apart two modalities are, how evenly points are spread.

n points of a modality, E the shared space; embeddings are (n, E), of length one, and row i of both
modalities is one pair. Book: clip/measured.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def modality_gap(image_emb: Tensor, text_emb: Tensor) -> float:
    """The distance of the two means: 0 where they coincide, at most 2.

    Liang et al. 2022, section 4.2.
    """
    return (image_emb.mean(0) - text_emb.mean(0)).norm().item()


def relative_gap(image_emb: Tensor, text_emb: Tensor) -> float:
    """How far apart partners are, against how far apart points of one modality are: 0 to 1.

    d_pair / (d_pair + d_within), where d is half of 1 - cosine, and d_within the mean over
    different points of the pictures and of the texts.

    Schrodi et al. 2025, RMG.
    """
    pair = ((1 - (image_emb * text_emb).sum(1)) / 2).mean()
    within = (_mean_distance(image_emb) + _mean_distance(text_emb)) / 2
    return (pair / (pair + within)).item()


def alignment(image_emb: Tensor, text_emb: Tensor) -> float:
    """The mean squared distance of partners: 0 where they coincide, at most 4.

    Wang and Isola 2020, section 4.1.
    """
    return (image_emb - text_emb).pow(2).sum(1).mean().item()


def uniformity(emb: Tensor, t: float = 2.0) -> float:
    """The log of the mean of exp(-t d²) over different points: lower is more evenly spread.

    Wang and Isola 2020, section 4.1.
    """
    if len(emb) < 2:
        raise ValueError(f"{len(emb)} point has no neighbours; pass two or more")
    return torch.pdist(emb).pow(2).mul(-t).exp().mean().log().item()


def tolerance(emb: Tensor, label: Tensor | Sequence[int]) -> float:
    """The mean cosine of different points of the same class; label is (n,).

    Raises ValueError where no two points share one. Wang and Liu 2021, section 3.4.
    """
    label = torch.as_tensor(label)
    same = label[:, None] == label[None]
    same.fill_diagonal_(False)
    if not same.any():
        raise ValueError("no two points are of the same class; tolerance compares such pairs")
    return (emb @ emb.T)[same].mean().item()


def _mean_distance(emb: Tensor) -> Tensor:
    """The mean of half of 1 - cosine over different points."""
    num = len(emb)
    if num < 2:
        raise ValueError(f"{num} point has no neighbours; pass two or more")
    cosines = emb @ emb.T
    return (1 - (cosines.sum() - cosines.trace()) / (num * (num - 1))) / 2
