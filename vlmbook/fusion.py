"""How a picture gets into a text: the joints in which multimodal models differ.

B texts, T text tokens, N image tokens, L = N + T, K learnt tokens, D width, C width of the image
tokens, h heads. Masks are boolean, (B, T) and (B, N), True at what is there.

    Concatenation(width, depth, heads)(text, image)           # early: one sequence of both
    CrossAttention(width, depth, heads)(text, image)          # each layer of the text looks
    GatedCrossAttention(blocks, width, heads)(text, image)    # looks, put into a language model
    QueryTokens(32, width, depth, heads)(image)               # a few learnt tokens look, and are
    Resampler(32, width, depth, heads)(image)                 # then concatenated with the text
    Compressed(few, width, depth, heads)(text, image)         # such a few, and the text
    Late(width, depth, heads)(text, image)                    # the text never meets but a mean

Book: attention/fusion.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook.encoders import mean_of, prefix_mask
from vlmbook.grounded import GroundedBlock
from vlmbook.layers import Block, MultiHeadAttention, through


class Fused(NamedTuple):
    """What is made of texts or learnt tokens that see a picture: feats (B, T, D), and how.

    weights are each layer's attention among these tokens, (B, h, T, T), and looks that to the
    picture, (B, h, T, N), of those layers that look. In a concatenation there are no looks: weights
    are (B, h, L, L), the picture's tokens first.
    """

    feats: Tensor
    weights: tuple[Tensor, ...]
    looks: tuple[Tensor, ...]


class Concatenation(nn.Module):
    """Early fusion: image tokens are put in front of the text, and all attend to all.

    A causal one is a language model with a prefix: image tokens see each other, and a text token
    sees them and the text before it.
    """

    def __init__(
        self, width: int, depth: int, heads: int, hidden: int | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        self.causal = causal
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        text_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Fused:
        """text (B, T, D) and image (B, N, D)."""
        if text.shape[-1] != image.shape[-1]:
            raise ValueError(
                f"text tokens of width {text.shape[-1]} and image tokens of width {image.shape[-1]}"
                " make no sequence; project the image tokens to the width of the text"
            )
        mask = torch.cat([_there(image, image_mask), _there(text, text_mask)], 1)[:, None]
        if self.causal:
            mask = mask & prefix_mask(image.shape[1], text.shape[1], text.device)
        x, weights = through(self.blocks, torch.cat([image, text], 1), mask)
        return Fused(x[:, image.shape[1] :], weights, ())


class CrossBlock(nn.Module):
    """Attend to the text, look at the picture, think: a decoder layer of the first transformer.

    Vaswani et al. 2017, with its normalisations before each step.
    """

    def __init__(
        self, width: int, heads: int, hidden: int | None = None, image_width: int | None = None
    ) -> None:
        super().__init__()
        self.block = Block(width, heads, hidden)
        self.norm = nn.LayerNorm(width)
        self.look = MultiHeadAttention(width, heads, image_width)

    def forward(
        self, x: Tensor, mask: Tensor | None, image: Tensor, image_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, D), image (B, N, C); returns x, the weights (B, h, T, T) and (B, h, T, N)."""
        mixed, weights = self.block.attention(self.block.norm1(x), mask=mask)
        x = x + mixed
        mixed, looked = self.look(self.norm(x), image, image_mask)
        x = x + mixed
        return x + self.block.mlp(self.block.norm2(x)), weights, looked


class CrossAttention(nn.Module):
    """The text's own layers, each of which also looks at the picture."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        image_width: int | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            CrossBlock(width, heads, hidden, image_width) for _ in range(depth)
        )

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        text_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Fused:
        """text (B, T, D) and image (B, N, C)."""
        mask, seen = _keys(text_mask), _keys(image_mask)
        weights, looks = [], []
        for block in self.blocks:
            text, attended, looked = block(text, mask, image, seen)
            weights.append(attended)
            looks.append(looked)
        return Fused(text, tuple(weights), tuple(looks))


class GatedLook(nn.Module):
    """Look at the picture and think about it, each as loud as a gate allows: at 0, not at all.

    Alayrac et al. 2022, section 2.3.
    """

    def __init__(
        self, width: int, heads: int, hidden: int | None = None, image_width: int | None = None
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = MultiHeadAttention(width, heads, image_width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor, image: Tensor, image_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """x (B, T, D), image (B, N, C); returns x and the weights (B, h, T, N)."""
        look, think = self.gates.tanh()
        mixed, looked = self.look(self.norm1(x), image, image_mask)
        x = x + look * mixed
        return x + think * self.mlp(self.norm2(x)), looked


class GatedCrossAttention(nn.Module):
    """A language model's blocks, which are passed in built, with a gated look before every few.

    With new gates it is that language model, exactly.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        width: int,
        heads: int,
        hidden: int | None = None,
        image_width: int | None = None,
        every: int = 1,
    ) -> None:
        super().__init__()
        self.blocks, self.every = nn.ModuleList(blocks), every
        self.looks = nn.ModuleList(
            GatedLook(width, heads, hidden, image_width) for _ in self.blocks[::every]
        )

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        text_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
        causal: Tensor | None = None,
    ) -> Fused:
        """text (B, T, D) and image (B, N, C); causal (T, T) is the language model's own mask."""
        mask, seen = _keys(text_mask), _keys(image_mask)
        if causal is not None:
            mask = causal[None] if mask is None else mask & causal
        weights, looks = [], []
        for n, block in enumerate(self.blocks):
            if n % self.every == 0:
                text, looked = self.looks[n // self.every](text, image, seen)
                looks.append(looked)
            text, attended = block(text, mask)
            weights.append(attended)
        return Fused(text, tuple(weights), tuple(looks))


class QueryTokens(nn.Module):
    """Learnt tokens that attend to each other and, in every second layer, look at the picture.

    The Q-Former of Li et al. 2023 (BLIP-2), section 3.1, whose layers are BERT's. However many
    image tokens there are, K come out.
    """

    def __init__(
        self,
        num_queries: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        image_width: int | None = None,
        every: int = 2,
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(num_queries, width))
        self.norm = nn.LayerNorm(width, 1e-12)
        self.blocks = nn.ModuleList(
            GroundedBlock(
                width,
                heads,
                hidden or 4 * width,
                (image_width or width) if n % every == 0 else None,
                ("encode",),
            )
            for n in range(depth)
        )

    def forward(self, image: Tensor, image_mask: Tensor | None = None) -> Fused:
        """image (B, N, C) to feats (B, K, D)."""
        x = self.norm(self.queries).expand(len(image), -1, -1)
        seen, weights, looks = _keys(image_mask), [], []
        for block in self.blocks:
            context = None if block.look is None else image
            x, attended, looked, _ = block(x, "encode", None, context, seen, None)
            weights.append(attended)
            if looked is not None:
                looks.append(looked)
        return Fused(x, tuple(weights), tuple(looks))


class Resampler(nn.Module):
    """Learnt tokens that look, in each layer, at the picture and themselves at once.

    The perceiver resampler of Alayrac et al. 2022 (Flamingo), section 2.1.
    """

    def __init__(
        self,
        num_queries: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        image_width: int | None = None,
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.queries = nn.Parameter(width**-0.5 * torch.randn(num_queries, width))
        self.project = nn.Linear(image_width, width) if image_width else nn.Identity()
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm_image": nn.LayerNorm(width),
                    "norm": nn.LayerNorm(width),
                    "attention": MultiHeadAttention(width, heads),
                    "mlp": nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, hidden),
                        nn.GELU(),
                        nn.Linear(hidden, width),
                    ),
                }
            )
            for _ in range(depth)
        )
        self.norm_out = nn.LayerNorm(width)

    def forward(self, image: Tensor, image_mask: Tensor | None = None) -> Fused:
        """image (B, N, C) to feats (B, K, D)."""
        num_tokens = image.shape[1]
        x, image = self.queries.expand(len(image), -1, -1), self.project(image)
        seen = F.pad(_there(image, image_mask), (0, x.shape[1]), value=True)[:, None]
        weights, looks = [], []
        for block in self.blocks:
            own = block["norm"](x)
            both = torch.cat([block["norm_image"](image), own], 1)
            mixed, attended = block["attention"](own, both, seen)
            x = x + mixed
            x = x + block["mlp"](x)
            looks.append(attended[..., :num_tokens])
            weights.append(attended[..., num_tokens:])
        return Fused(self.norm_out(x), tuple(weights), tuple(looks))


class Compressed(nn.Module):
    """Learnt tokens, QueryTokens or a Resampler passed in built, are put in front of the text."""

    def __init__(self, few: nn.Module, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.few, self.joint = few, Concatenation(width, depth, heads)

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        text_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Fused:
        """text (B, T, D) and image (B, N, C)."""
        return self.joint(text, self.few(image, image_mask).feats, text_mask)


class Late(nn.Module):
    """Picture and text are read apart; the text never meets more than the picture's mean."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.objects, self.words = (
            nn.ModuleList(Block(width, heads) for _ in range(depth)) for _ in range(2)
        )
        self.join = nn.Linear(2 * width, width)

    def forward(
        self,
        text: Tensor,
        image: Tensor,
        text_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Fused:
        """text (B, T, D) and image (B, N, D) to one token, (B, 1, D)."""
        text, weights = through(self.words, text, _keys(text_mask))
        image, _ = through(self.objects, image, _keys(image_mask))
        both = torch.cat([text[:, 0], mean_of(image, _there(image, image_mask))], 1)
        return Fused(self.join(both).relu()[:, None], weights, ())


def _there(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """(B, tokens) bool: a mask, or where there is none, that all tokens are there."""
    if mask is None:
        return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return mask


def _keys(mask: Tensor | None) -> Tensor | None:
    """(B, K) as what every query may attend to, (B, 1, K)."""
    return None if mask is None else mask[:, None]
