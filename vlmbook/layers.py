"""What transformers are made of: attention, and the block that repeats.

B batch, T tokens, Q and K query and key tokens, D width, h heads, d = D // h.
A mask is boolean, True = may attend. What mixes tokens returns its weights.

Vaswani et al. 2017. Book: concepts/processing.md, attention.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Each query takes a weighted mean of the values; the weights say where it looked.

    query (..., Q, d), key and value (..., K, d); mask broadcasts to (..., Q, K). Returns the means
    (..., Q, d) and the weights (..., Q, K), whose rows add up to 1; a query that may attend to
    nothing has weights and mean 0.

    Vaswani et al. 2017, equation 1.
    """
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    if mask is None:
        weights = scores.softmax(-1)
    else:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1) * mask
    return weights @ value, weights


_WEIGHTS = ContextVar("whether attention hands out its weights", default=True)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, where no gradient is wanted, attention gives None for its weights.

    Its means are the same, computed in one fused step of torch: faster, and in memory that grows
    with the tokens and not with their square. Dao et al. 2022.
    """
    before = _WEIGHTS.set(False)
    try:
        yield
    finally:
        _WEIGHTS.reset(before)


def fused() -> bool:
    """Whether attention gives its means alone: inside without_weights(), with gradients off."""
    return not (_WEIGHTS.get() or torch.is_grad_enabled())


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The means of attention(), in one step of torch."""
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value)
    some = mask.any(-1, keepdim=True)  # with nothing to attend to, torch's step gives no number
    return F.scaled_dot_product_attention(query, key, value, mask | ~some) * some


KeysValues = tuple[Tensor, Tensor]  # (B, h, K, d) both: what can be attended to


class MultiHeadAttention(nn.Module):
    """Attention in h subspaces at once; of x to itself, or to a context.

    context_width is that of the context where it is not D.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            down = width // max(heads, 1) * heads
            tries = [str(w) for w in (down, down + heads) if w > 0]
            raise ValueError(
                f"width {width} is not divisible by heads {heads}; try"
                f" {' or '.join(tries) or '1 head'}"
            )
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key, self.value = (nn.Linear(context_width or width, width) for _ in range(2))
        self.out = nn.Linear(width, width)

    def keys_values(self, context: Tensor) -> KeysValues:
        """What context (B, K, D) offers to be attended to, for forward's memory."""
        return self._heads(self.key(context)), self._heads(self.value(context))

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        memory: KeysValues | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """x (B, Q, D), context (B, K, D), mask (B, Q, K) or (B, 1, K).

        With memory, keys and values are these, and a context is not looked at. Returns (B, Q, D)
        and the weights (B, h, Q, K).
        """
        if mask is not None and mask.dim() != 3:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}; pass (B, Q, K) or (B, 1, K), such as"
                " mask[:, None] for a mask (B, K) of what may be attended to"
            )
        q = self._heads(self.query(x))
        k, v = memory or self.keys_values(x if context is None else context)
        mask = None if mask is None else mask[:, None]
        if fused():
            mean, weights = fused_attention(q, k, v, mask), None
        else:
            mean, weights = attention(q, k, v, mask)
        return self.out(mean.transpose(1, 2).flatten(2)), weights

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).contiguous()  # (B, h, T, d)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the GELU that OpenAI's CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class TanhGELU(nn.GELU):
    """GELU by an approximation with a tanh, as SigLIP was trained with."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


# As a config calls them.
ACTIVATIONS = {"gelu": nn.GELU, "quick_gelu": QuickGELU, "gelu_tanh": TanhGELU}


class Block(nn.Module):
    """One layer of a transformer: look at the other tokens, then think about it, token by token.

    Each half adds to the residual stream what it made of the normalised stream (pre-norm). Left
    out, hidden, the width inside the MLP, is 4 D and activation is GELU. epsilon is added to the
    variance that the stream is divided by.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int | None = None,
        activation: nn.Module | None = None,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        hidden = hidden or 4 * width
        self.norm1, self.norm2 = nn.LayerNorm(width, epsilon), nn.LayerNorm(width, epsilon)
        self.attention = MultiHeadAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), activation or nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, D), mask (B, T, T) or (B, 1, T); returns x and the weights (B, h, T, T)."""
        mixed, weights = self.attention(self.norm1(x), mask=mask)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), weights


def through(
    blocks: Iterable[nn.Module], x: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x (B, T, D) after all blocks, and the weights (B, h, T, T) of each; mask is that of Block."""
    weights = []
    for block in blocks:
        x, attended = block(x, mask)
        weights.append(attended)
    return x, tuple(weights)
