"""Which of several candidates is chosen: by zero-shot classes, between twins, by the majority.

n items, K prompts of a class, E the shared space. Book: concepts/evaluation.md, clip/measured.md,
clip/limits.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def class_embeddings(text_emb: Tensor) -> Tensor:
    """One vector for each class from K prompts for it: (num_classes, K, E) to (num_classes, E).

    The mean of vectors of length one, brought to length one again.

    Radford et al. 2021, section 3.1.4. Book: clip/measured.md.
    """
    if text_emb.dim() != 3:
        raise ValueError(
            f"text_emb has shape {tuple(text_emb.shape)}; pass (num_classes, K, E), such as"
            " text_emb[:, None] for one prompt a class"
        )
    return F.normalize(F.normalize(text_emb, dim=-1).mean(1), dim=-1)


def winoground(scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two pictures and two captions that differ in who has what: text, image and group score.

    scores (n, 2, 2) are the similarities of picture i (rows) with caption j. An item counts for
    the text score where each picture prefers its own caption, for the image score where each
    caption prefers its own picture, for the group score where both hold; equality prefers nothing.
    Each is (n,) bool. Guessing gives 1/4, 1/4 and 1/6.

    Thrush et al. 2022. Book: clip/limits.md.
    """
    if scores.shape[1:] != (2, 2):
        raise ValueError(
            f"scores of shape {tuple(scores.shape)} are not (n, 2, 2): pictures, then captions"
        )
    (a, b), (c, d) = scores[:, 0].T, scores[:, 1].T
    text = (a > b) & (d > c)
    image = (a > c) & (d > b)
    return text, image, text & image


def majority(train: Sequence[Hashable], test: Sequence[Hashable]) -> np.ndarray:
    """Which test answers the most frequent answer of train gets right, (n,) bool."""
    if not len(train):
        raise ValueError("there are no answers to learn the most frequent one from")
    top = Counter(train).most_common(1)[0][0]
    return np.array([answer == top for answer in test], dtype=bool)
