"""From pixels and ids to vectors.

B batch, C H W channels and size of pixels, P patch side, N image tokens, T text tokens, D width,
V vocabulary.

Dosovitskiy et al. 2021 for the patches. Book: concepts/processing.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlmbook.layers import Block


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """Cut pictures into squares: (B, C, H, W) to (B, N, C * P * P), row by row from the top left.

    N is (H / P) * (W / P). Raises ValueError where the sides are not multiples of patch.
    """
    if pixels.dim() != 4:
        raise ValueError(
            f"pixels of shape {tuple(pixels.shape)} are no batch (B, C, H, W); pass pixels[None]"
            " for a single picture"
        )
    height, width = pixels.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(
            f"{height} x {width} pixels can't be cut into patches of {patch}; resize the sides to"
            f" multiples of {patch}"
        )
    grid = pixels.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (B, C, rows, P, columns, P)
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, height: int, width: int, channels: int = 3) -> Tensor:
    """Lay patches (B, N, C * P * P) out as pictures (B, C, H, W) again: patchify undone."""
    patch = round((patches.shape[2] / channels) ** 0.5)
    grid = patches.unflatten(2, (channels, patch, patch))
    grid = grid.unflatten(1, (height // patch, width // patch))  # (B, rows, columns, C, P, P)
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class PatchEmbedding(nn.Module):
    """Patches to tokens: one linear map for every patch, and a learnt vector for every place."""

    def __init__(self, size: int, patch: int, width: int, channels: int = 3) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"size {size} is not a multiple of patch {patch}")
        self.size, self.patch = size, patch
        self.project = nn.Linear(channels * patch**2, width)
        self.place = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) to (B, N, D), where H and W are the size that it was made for."""
        if pixels.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"pictures of {tuple(pixels.shape[-2:])} pixels; this model takes"
                f" {self.size} x {self.size}, resize them first"
            )
        return self.project(patchify(pixels, self.patch)) + self.place


class TextEncoder(nn.Module):
    """A transformer over tokens that sees both ways, pooled to the mean of what it read."""

    def __init__(self, vocab_size: int, max_tokens: int, width: int, depth: int, heads: int):
        super().__init__()
        self.token = nn.Embedding(vocab_size, width)
        self.place = nn.Embedding(max_tokens, width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, T) and mask (B, T), True at text, to one vector a text, (B, D)."""
        if ids.shape[1] > self.place.num_embeddings:
            raise ValueError(
                f"{ids.shape[1]} tokens are more than the {self.place.num_embeddings} that this"
                " encoder has places for; shorten the texts"
            )
        x = self.token(ids) + self.place.weight[: ids.shape[1]]
        for block in self.blocks:
            x, _ = block(x, mask[:, None])
        return mean_of(self.norm(x), mask)


def mean_of(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of the tokens (B, T, D) that a mask (B, T) marks; 0 where it marks none."""
    mask = mask[..., None].to(x.dtype)
    return (x * mask).sum(1) / mask.sum(1).clamp(min=1)
