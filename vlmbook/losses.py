"""What training makes small.

B pairs in a batch, E width of the shared space, T text tokens.

A small world says the same sentence twice. Then a batch holds a pair off the diagonal that fits as
well as one on it; `same` (B, B) says where. The losses either share the target among such pairs
(soft) or leave them out of the comparison (masked). For InfoNCE, sharing changes nothing where
equal texts have equal vectors. Book: concepts/embeddings.md, clip.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(
    image_emb: Tensor,
    text_emb: Tensor,
    scale: Tensor | float,
    same: Tensor | None = None,
    masked: bool = False,
) -> Tensor:
    """Symmetric InfoNCE: each image must pick its own text, and each text its own image.

    image_emb and text_emb are (B, E), L2-normalised, and row i of both is one pair.
    scale is 1 / temperature, already exponentiated. same (B, B) bool, see same_texts, marks
    captions that occur twice: their targets are shared, or, masked, left out. Returns a scalar.

    Radford et al. 2021, Figure 3. Book: concepts/embeddings.md.
    """
    logits = scale * image_emb @ text_emb.T  # (B, B), rows are images
    targets = torch.arange(len(logits), device=logits.device)
    if same is not None:
        logits, targets = _allow_for(same, masked, logits, targets)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def siglip_loss(
    image_emb: Tensor,
    text_emb: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    same: Tensor | None = None,
    masked: bool = False,
) -> Tensor:
    """Every cell of the batch is a question of its own: do this image and text belong together?

    As clip_loss, with a bias that is added to the logits; the sum over the texts, averaged over the
    images. Returns a scalar.

    Zhai et al. 2023, Algorithm 1. Book: clip.md.
    """
    logits = scale * image_emb @ text_emb.T + bias
    pair = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    fits = pair if same is None or masked else same
    losses = -F.logsigmoid(torch.where(fits, logits, -logits))
    if same is not None and masked:
        losses = losses * (pair | ~same)
    return losses.sum(1).mean()


def same_texts(ids: Tensor) -> Tensor:
    """Which texts of a padded batch (B, T) are equal: (B, B) bool, True on the diagonal."""
    return (ids[:, None] == ids[None]).all(-1)


@torch.no_grad()
def mined_negatives(scores: Tensor, same: Tensor) -> Tensor:
    """For each row, the column of a pair that does not belong to it, hard ones more often.

    scores (B, B) are logits, of which a row's softmax is the chance to be drawn, with a little for
    all; same (B, B) marks what is never drawn. Equal scores draw at random. Returns (B,).

    Li et al. 2021 (ALBEF), section 3.2, and the code of Li et al. 2022. Book: blip.md.
    """
    chance = (scores.float().softmax(1) + 1e-4).masked_fill(same, 0)
    if not (chance > 0).any(1).all():
        raise ValueError(
            "a row has no negative: all captions of the batch say the same; use larger batches or"
            " more varied scenes"
        )
    return torch.multinomial(chance, 1)[:, 0]


def _allow_for(
    same: Tensor, masked: bool, logits: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and targets of InfoNCE for a batch with equal captions.

    same is symmetric, so the shared targets (B, B) are the same for rows and for columns.
    """
    if not masked:
        return logits, same.to(logits.dtype) / same.sum(1, keepdim=True)
    pair = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return logits.masked_fill(same & ~pair, -torch.inf), targets
