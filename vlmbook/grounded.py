"""One text transformer in three roles: reading, reading with a picture in view, and writing.

B texts, T tokens, K image tokens (or those of a question), D width, C width of what is looked at,
h heads, V vocabulary.

As encoder each token sees all others; as decoder only those before it. Given a context, each layer
looks at it between its attention and its MLP. The two roles have their own self-attention, and all
else in common. Layers are BERT's: normalised after each step, not before.

Devlin et al. 2019 for the layers, Li et al. 2022 for the roles. Book: blip.md.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlmbook.encoders import causal_mask
from vlmbook.layers import MultiHeadAttention

ROLES = ("encode", "decode")
EPSILON = 1e-12  # BERT's, added to the variance

Memory = tuple[Tensor, Tensor, Tensor, Tensor]  # keys and values of the text, and of the context


class Read(NamedTuple):
    """What the transformer makes of texts: feats (B, T, D), and how.

    weights are each layer's attention to the text, (B, h, T, T), and looks that to the context,
    (B, h, T, K), none without; inside layers.without_weights() each is None. memory is what a later
    call needs to go on with the same texts.
    """

    feats: Tensor
    weights: tuple[Tensor | None, ...]
    looks: tuple[Tensor | None, ...]
    memory: tuple[Memory, ...]


class GroundedBlock(nn.Module):
    """One layer: attend to the text, look at the context if there is one, think.

    With no context_width it has nothing to look with.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        context_width: int | None,
        roles: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({r: MultiHeadAttention(width, heads) for r in roles})
        self.norm1 = nn.ModuleDict({r: nn.LayerNorm(width, EPSILON) for r in roles})
        looks = context_width is not None
        self.look = MultiHeadAttention(width, heads, context_width) if looks else None
        self.norm2 = nn.LayerNorm(width, EPSILON) if looks else None
        self.norm3 = nn.LayerNorm(width, EPSILON)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self,
        x: Tensor,
        role: str,
        mask: Tensor | None,
        context: Tensor | None,
        context_mask: Tensor | None,
        memory: Memory | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Memory | None]:
        """x (B, T, D), mask (B, T, past + T); returns x, both attention weights, and the memory."""
        attention = self.attention[role]
        text = attention.keys_values(x)
        if memory:
            text = tuple(torch.cat(two, 2) for two in zip(memory[:2], text, strict=True))
        mixed, weights = attention(x, mask=mask, memory=text)
        x, looked = self.norm1[role](x + mixed), None
        if memory or context is not None:
            seen = memory[2:] if memory else self.look.keys_values(context)
            mixed, looked = self.look(x, mask=context_mask, memory=seen)
            x, memory = self.norm2(x + mixed), (*text, *seen)
        return self.norm3(x + self.mlp(x)), weights, looked, memory


class GroundedText(nn.Module):
    """Embeddings, blocks, and for a decoder the head that predicts the next token."""

    def __init__(
        self,
        vocab_size: int,
        max_tokens: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        context_width: int,
        roles: tuple[str, ...] = ROLES,
    ) -> None:
        super().__init__()
        self.roles = roles
        self.token, self.place = nn.Embedding(vocab_size, width), nn.Embedding(max_tokens, width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.blocks = nn.ModuleList(
            GroundedBlock(width, heads, hidden, context_width, roles) for _ in range(depth)
        )
        if "decode" in roles:
            self.head = nn.Sequential(
                nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, EPSILON)
            )
            self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(
        self,
        ids: Tensor,
        role: str,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        memory: tuple[Memory, ...] | None = None,
    ) -> Read:
        """ids (B, T); mask (B, T), True at text; context (B, K, C) with its own mask (B, K).

        With the memory of an earlier call, ids go on where that one stopped, look at what it looked
        at, and all its tokens count as text; mask is left out.
        """
        if role not in self.roles:
            raise ValueError(
                f"this transformer was built to {' and '.join(self.roles)}, not to {role}; use a"
                " model whose config has that role"
            )
        past = memory[0][0].shape[2] if memory else 0
        num_tokens = ids.shape[1]
        if past + num_tokens > self.place.num_embeddings:
            raise ValueError(
                f"{past + num_tokens} tokens are more than the {self.place.num_embeddings} that"
                " this model has places for; shorten the texts, or lower max_length"
            )
        x = self.norm(self.token(ids) + self.place.weight[past : past + num_tokens])
        seen = None if mask is None else mask[:, None]
        if role == "decode" and num_tokens > 1:
            causal = causal_mask(num_tokens, ids.device, past)[None]
            seen = causal if seen is None else seen & causal
        if context_mask is not None:
            context_mask = context_mask[:, None]
        weights, looks, kept = [], [], []
        for n, block in enumerate(self.blocks):
            own = memory[n] if memory else None
            x, attended, looked, own = block(x, role, seen, context, context_mask, own)
            weights.append(attended)
            if own is not None:
                looks.append(looked)
                kept.append(own)
        return Read(x, tuple(weights), tuple(looks), tuple(kept))

    def next_logits(self, feats: Tensor) -> Tensor:
        """feats (..., D) of a decoder to the logits (..., V) of the token that follows each."""
        return self.head(feats) @ self.token.weight.T + self.bias
