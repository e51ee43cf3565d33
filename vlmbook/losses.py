"""What training makes small.

B pairs in a batch, E width of the shared space. Book: concepts/embeddings.md, clip.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(image_emb: Tensor, text_emb: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE: each image must pick its own text, and each text its own image.

    image_emb and text_emb are (B, E), L2-normalised, and row i of both is one pair.
    scale is 1 / temperature, already exponentiated. Returns a scalar.

    Radford et al. 2021, Figure 3. Book: concepts/embeddings.md.
    """
    logits = scale * image_emb @ text_emb.T  # (B, B), rows are images
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
