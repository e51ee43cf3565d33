"""From pixels and ids to vectors.

B batch, C H W channels and size of pixels, P patch side, N image tokens, T text tokens, D width,
V vocabulary.

Dosovitskiy et al. 2021 for the patches, Xiao et al. 2021 for the convolutions before a transformer.
Book: concepts/processing.md, clip.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook.layers import Block, through


class Encoded(NamedTuple):
    """What an encoder makes of a batch, with the steps on the way.

    pooled (B, D), feats (B, T or N + 1, D) after the last block, and the attention weights of each
    block, (B, h, T, T) or (B, h, N + 1, N + 1); None for each inside layers.without_weights().
    """

    pooled: Tensor
    feats: Tensor
    weights: tuple[Tensor | None, ...]


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


class PatchStem(nn.Linear):
    """One linear map for every patch: (B, C, H, W) to (B, N, D)."""

    def __init__(self, patch: int, width: int, channels: int = 3, bias: bool = True) -> None:
        super().__init__(channels * patch**2, width, bias)
        self.patch = patch

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) to (B, N, D)."""
        return super().forward(patchify(pixels, self.patch))


class ConvStem(nn.Sequential):
    """Convolutions that halve the picture until a token stands for patch by patch pixels.

    Within a patch, a linear map has to learn an edge for each place anew; a convolution has not.
    patch is a power of two.
    """

    def __init__(self, patch: int, width: int, channels: int = 3) -> None:
        halvings = patch.bit_length() - 1
        if patch != 2**halvings or patch < 2:
            raise ValueError(f"patch {patch} is not a power of two; use 2, 4, 8 or 16")
        widths = [width // 2 ** (halvings - n) for n in range(halvings + 1)]
        steps: list[nn.Module] = []
        for narrow, wide in zip([channels, *widths[1:-1]], widths[1:], strict=True):
            steps += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.GroupNorm(1, wide)]
            steps += [nn.GELU()]
        super().__init__(*steps, nn.Conv2d(width, width, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) to (B, N, D), row by row."""
        return super().forward(pixels).flatten(2).transpose(1, 2)


def stem(kind: str, patch: int, width: int, bias: bool = True) -> nn.Module:
    """A stem by name, "conv" or "patch"; bias is that of the patches' linear map."""
    return ConvStem(patch, width) if kind == "conv" else PatchStem(patch, width, bias=bias)


class PatchEmbedding(nn.Module):
    """Patches to tokens: one linear map for every patch, and a learnt vector for every place."""

    def __init__(self, size: int, patch: int, width: int, channels: int = 3) -> None:
        super().__init__()
        if size % patch:
            raise ValueError(f"size {size} is not a multiple of patch {patch}")
        self.size = size
        self.project = PatchStem(patch, width, channels)
        self.place = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) to (B, N, D), where H and W are the size that it was made for."""
        if pixels.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"pictures of {tuple(pixels.shape[-2:])} pixels; this model takes"
                f" {self.size} x {self.size}, resize them first"
            )
        return self.project(pixels) + self.place


class ImageEncoder(nn.Module):
    """A vision transformer: tokens from a stem, one class token, places, blocks.

    Pooled to what the class token has gathered. The stem is passed in built; num_tokens is N.
    norm_in normalises the tokens before the first block, as CLIP does and BLIP does not.
    """

    def __init__(
        self,
        stem: nn.Module,
        num_tokens: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        activation: nn.Module | None = None,
        norm_in: bool = True,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.place = nn.Parameter(width**-0.5 * torch.randn(num_tokens + 1, width))
        self.norm_in = nn.LayerNorm(width) if norm_in else nn.Identity()
        self.norm_out = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, activation) for _ in range(depth))

    def forward(self, pixels: Tensor, layer: int = -1) -> Encoded:
        """pixels (B, C, H, W), normalised; the class token is the first of the feats.

        layer is where to stop: after the last block at -1, one block earlier at -2.
        """
        depth = len(self.blocks) + 1 + layer
        if not 0 <= depth <= len(self.blocks):
            raise ValueError(
                f"layer {layer} does not exist: choose from -1, the last, to"
                f" {-1 - len(self.blocks)}, before the first block"
            )
        tokens = self.stem(pixels.to(self.place.dtype))
        if tokens.shape[1] != len(self.place) - 1:
            raise ValueError(
                f"{tokens.shape[1]} image tokens, where this encoder has places for"
                f" {len(self.place) - 1}; resize the pictures to the model's size"
            )
        x = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], dim=1) + self.place
        x, weights = through(self.blocks[:depth], self.norm_in(x))
        return Encoded(self.norm_out(x[:, 0]), x, weights)


class TextEncoder(nn.Module):
    """A transformer over tokens.

    With end, the number of the end token, it is causal, as in CLIP: a token sees what came before,
    and the text is pooled where its end token stands. Without, all tokens see each other, and the
    text is pooled to the mean of what was read.
    """

    def __init__(
        self,
        vocab_size: int,
        max_tokens: int,
        width: int,
        depth: int,
        heads: int,
        end: int | None = None,
        hidden: int | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.end = end
        self.token = nn.Embedding(vocab_size, width)
        self.place = nn.Embedding(max_tokens, width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads, hidden, activation) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, mask: Tensor) -> Encoded:
        """ids (B, T) and mask (B, T), True at text."""
        num_tokens = ids.shape[1]
        if num_tokens > self.place.num_embeddings:
            raise ValueError(
                f"{num_tokens} tokens are more than the {self.place.num_embeddings} that this"
                " encoder has places for; shorten the texts"
            )
        x = self.token(ids) + self.place.weight[:num_tokens]
        seen = mask[:, None]
        if self.end is not None:
            seen = seen & causal_mask(num_tokens, ids.device)
        x, weights = through(self.blocks, x, seen)
        x = self.norm(x)
        return Encoded(self._pool(x, ids, mask), x, weights)

    def _pool(self, x: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        if self.end is None:
            return mean_of(x, mask)
        ends = ids == self.end
        if not ends.any(1).all():
            raise ValueError(
                f"a text has no end token (id {self.end}), where this encoder pools; make ids with"
                " the tokenizer's batch()"
            )
        return x[torch.arange(len(x), device=x.device), ends.int().argmax(1)]


def causal_mask(num_tokens: int, device: torch.device | None = None, past: int = 0) -> Tensor:
    """(T, past + T) bool: each token may attend to itself and to those before it, of which past
    were read earlier.
    """
    every = torch.ones(num_tokens, past + num_tokens, dtype=torch.bool, device=device)
    return every.tril(past)


def prefix_mask(num_prefix: int, num_tokens: int, device: torch.device | None = None) -> Tensor:
    """(L, L) bool, L = num_prefix + num_tokens: causal, but for a prefix that sees all of itself.

    What a language model uses that reads a picture first.
    """
    mask = causal_mask(num_prefix + num_tokens, device)
    mask[:num_prefix, :num_prefix] = True
    return mask


def prepare(pixels: Tensor, size: int, mean: Tensor, std: Tensor, crop: bool = True) -> Tensor:
    """pixels (B, 3, H, W) in [0, 1], of any size, to (B, 3, size, size), normalised.

    They may come from another device. The shorter side is resized to size and the middle is
    cropped, as in CLIP's code; without crop both sides are, as in BLIP's. mean and std are
    (3, 1, 1).
    """
    if pixels.dim() != 4 or pixels.shape[1] != 3:
        raise ValueError(
            f"pixels of shape {tuple(pixels.shape)} are no batch (B, 3, H, W); pass"
            " pixels[None] for a single picture"
        )
    pixels = pixels.to(mean.device)
    height, width = pixels.shape[-2:]
    if (height, width) != (size, size):
        shorter = min(height, width) if crop else None
        sides = tuple(size * side // (shorter or side) for side in (height, width))
        pixels = F.interpolate(pixels, sides, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
        pixels = pixels[..., top : top + size, left : left + size]
    return (pixels - mean) / std


class Prepare(nn.Module):
    """prepare(), with the size, mean and std that a model was trained with."""

    def __init__(
        self,
        size: int,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.25, 0.25, 0.25),
        crop: bool = True,
    ) -> None:
        super().__init__()
        self.size, self.crop = size, crop
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 3, size, size)."""
        return prepare(pixels, self.size, self.mean, self.std, self.crop)


def mean_of(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of the tokens (B, T, D) that a mask (B, T) marks; 0 where it marks none."""
    mask = mask[..., None].to(x.dtype)
    return (x * mask).sum(1) / mask.sum(1).clamp(min=1)
