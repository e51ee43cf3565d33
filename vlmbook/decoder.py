"""The decoder of today's language models: RMSNorm, rotary positions, grouped heads, SwiGLU.

B texts, T tokens, P tokens read earlier, D width, h heads, g groups, d = D // h, V vocabulary.

Zhang and Sennrich 2019 for RMSNorm, Su et al. 2021 for rotary positions, Shazeer 2020 for SwiGLU,
Ainslie et al. 2023 for grouped heads; Touvron et al. 2023 put them together. Book: llava.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook.encoders import causal_mask
from vlmbook.layers import KeysValues, fused, fused_attention


class Decoded(NamedTuple):
    """What a decoder makes of texts: feats (B, T, D), and how.

    weights are each layer's attention, (B, h, T, P + T), or None inside layers.without_weights().
    memory is what a later call needs to go
    on with the same texts: keys and values (B, g, P + T, d) of each layer.
    """

    feats: Tensor
    weights: tuple[Tensor | None, ...]
    memory: tuple[KeysValues, ...]


def angles(first: int, num: int, width: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (T, d) both, by which num tokens from place first on are turned.

    Each pair of numbers turns at its own speed, from one radian a place down to 1 / theta. They
    have the type and device of like.
    """
    pair = torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width
    place = torch.arange(first, first + num, device=like.device, dtype=torch.float32)
    angle = torch.outer(place, theta**-pair).repeat(1, 2)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn queries or keys (B, h, T, d) by their places.

    Numbers k and k + d / 2 are a pair. The product of a query and a key then depends on how far
    apart they stand, and not on where. Su et al. 2021, section 3.2.
    """
    cos, sin = turn
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """layers.attention of h heads, several of which share the keys and values of one of g groups.

    query (B, h, T, d), key and value (B, g, K, d), mask (B or 1, T, K). The queries of a group are
    put one after another, so that no key is copied for each head. Inside layers.without_weights(),
    the means alone.
    """
    times, num = query.shape[1] // key.shape[1], query.shape[2]
    grouped = query.unflatten(1, (-1, times)).flatten(2, 3)  # (B, g, times * T, d)
    if fused():
        mask = None if mask is None else mask.repeat(1, times, 1)[:, None]
        mean = fused_attention(grouped, key, value, mask)
        return mean.unflatten(2, (times, num)).flatten(1, 2), None
    scores = grouped * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    scores = scores.unflatten(2, (times, num)).flatten(1, 2)  # (B, h, T, K)
    if mask is None:
        weights = scores.softmax(-1)
    else:
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1) * mask[:, None]
    mean = weights.unflatten(1, (-1, times)).flatten(2, 3) @ value
    return mean.unflatten(2, (times, num)).flatten(1, 2), weights


class GroupedAttention(nn.Module):
    """Causal attention where several query heads share the keys and values of one group."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        if width % heads or heads % groups or (width // heads) % 2:
            raise ValueError(
                f"width {width}, heads {heads} and groups {groups} do not fit: heads must divide"
                " the width into even parts, and groups the heads"
            )
        self.heads, self.groups = heads, groups
        each = width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, groups * each, bias=False) for _ in range(2))
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        memory: KeysValues | None = None,
    ) -> tuple[Tensor, Tensor, KeysValues]:
        """x (B, T, D), mask (B or 1, T, P + T); returns x, the weights, and the memory."""
        query = rotate(self._heads(self.query(x), self.heads), turn)
        key = rotate(self._heads(self.key(x), self.groups), turn)
        value = self._heads(self.value(x), self.groups)
        if memory is not None:
            key, value = torch.cat([memory[0], key], 2), torch.cat([memory[1], value], 2)
        mean, weights = grouped_attention(query, key, value, mask)
        return self.out(mean.transpose(1, 2).flatten(2)), weights, (key, value)

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class SwiGLU(nn.Module):
    """An MLP whose inside is gated: one linear map says how much of another one passes."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class DecoderBlock(nn.Module):
    """One layer: attend to what came before, then think, each on the normalised stream."""

    def __init__(self, width: int, heads: int, groups: int, hidden: int, epsilon: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, epsilon), nn.RMSNorm(width, epsilon)
        self.attention = GroupedAttention(width, heads, groups)
        self.mlp = SwiGLU(width, hidden)

    def forward(
        self,
        x: Tensor,
        turn: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        memory: KeysValues | None = None,
    ) -> tuple[Tensor, Tensor, KeysValues]:
        """As GroupedAttention."""
        mixed, weights, memory = self.attention(self.norm1(x), turn, mask, memory)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), weights, memory


class Decoder(nn.Module):
    """A language model: embeddings, blocks, and a head that predicts the next token.

    hidden is the width inside the MLPs. tied: the head has the weights of the embeddings.
    """

    def __init__(
        self,
        vocab_size: int,
        max_tokens: int,
        width: int,
        depth: int,
        heads: int,
        groups: int,
        hidden: int,
        theta: float = 10_000.0,
        epsilon: float = 1e-6,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.max_tokens, self.theta, self.each = max_tokens, theta, width // heads
        self.token = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(
            DecoderBlock(width, heads, groups, hidden, epsilon) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(width, epsilon)
        self.head = None if tied else nn.Linear(width, vocab_size, bias=False)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        memory: tuple[KeysValues, ...] | None = None,
    ) -> Decoded:
        """x (B, T, D), embeddings of tokens or whatever stands in their place.

        mask (B, P + T) is True at text, and needed where texts of several lengths are padded. With
        the memory of an earlier call, x goes on where that one stopped.
        """
        past = memory[0][0].shape[2] if memory else 0
        num = x.shape[1]
        if past + num > self.max_tokens:
            raise ValueError(
                f"{past + num} tokens are more than the {self.max_tokens} that this model reads;"
                " shorten the conversation, or lower max_length"
            )
        turn = angles(past, num, self.each, self.theta, x)
        seen = causal_mask(num, x.device, past)[None] if num > 1 else None
        if mask is not None:
            seen = mask[:, None] if seen is None else seen & mask[:, None]
        weights, kept = [], []
        for n, block in enumerate(self.blocks):
            x, attended, own = block(x, turn, seen, memory[n] if memory else None)
            weights.append(attended)
            kept.append(own)
        return Decoded(self.norm(x), tuple(weights), tuple(kept))

    def next_logits(self, feats: Tensor) -> Tensor:
        """feats (..., D) to the logits (..., V) of the token that follows each."""
        return feats @ self.token.weight.T if self.head is None else self.head(feats)
