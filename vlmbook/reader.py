"""Answering by choosing: a question meets what an eye saw of a picture, and one of the known answers
is picked.

    model = reader.build(reader.Config(len(words), answers=("yes", "no"), joint="late"))
    logits = model(feats, *words.batch(questions))  # (B, A)

Before models wrote their answers, this was how they answered (Antol et al. 2015). Here it is where
the joints of fusion can be compared: all else is equal, and they have as many weights within five
percent. The eye is not a part of it; feats (B, N, C) are what a frozen one saw.

B pictures, each with a question, N image tokens of width C, T text tokens, D width, A answers.
Book: comparison.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmbook import fusion
from vlmbook.layers import Block
from vlmbook.tokenizer import Tokenizer

# Each of 48 D^2 weights or nearly, by width and heads.
JOINTS: dict[str, Callable[[int, int], nn.Module]] = {
    "late": lambda width, heads: fusion.Late(width, 2, heads),
    "concatenation": lambda width, heads: fusion.Concatenation(width, 4, heads),
    "cross-attention": lambda width, heads: fusion.CrossAttention(width, 3, heads),
    "gated": lambda width, heads: fusion.GatedCrossAttention(
        [Block(width, heads) for _ in range(2)], width, heads
    ),
    "query tokens": lambda width, heads: fusion.Compressed(
        fusion.QueryTokens(8, width, 2, heads, hidden=3 * width), width, 2, heads
    ),
    "resampler": lambda width, heads: fusion.Compressed(
        fusion.Resampler(8, width, 2, heads), width, 2, heads
    ),
}


@dataclass(frozen=True)
class Config:
    """Sizes of a reader, its joint, and the answers between which it chooses."""

    vocab_size: int
    answers: Sequence[str]
    joint: str = "concatenation"
    eye: str = "clip-mini"  # the checkpoint whose image encoder it was trained with
    image_width: int = 192  # C
    width: int = 128
    heads: int = 4
    max_tokens: int = 48

    def __post_init__(self) -> None:
        if self.joint not in JOINTS:
            raise ValueError(
                f"joint {self.joint!r} does not exist; choose from {', '.join(JOINTS)}"
            )
        if not self.answers:
            raise ValueError("answers is empty; pass those between which a reader is to choose")


def look(eye: nn.Module, pixels: Tensor) -> Tensor:
    """What a CLIP's eye makes of pixels (B, 3, H, W), as LLaVA reads it: feats (B, N, C).

    Of the last layer but one, and without the class token.
    """
    return eye.image(eye.prepare(pixels), -2).feats[:, 1:]


class Reader(nn.Module):
    """Words and image tokens, a joint between them, and a choice among answers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.joint = JOINTS[config.joint](width, config.heads)
        self.word = nn.Embedding(config.vocab_size, width)
        self.place = nn.Embedding(config.max_tokens, width)
        self.project = nn.Sequential(
            nn.LayerNorm(config.image_width), nn.Linear(config.image_width, width)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(config.answers)))

    def forward(self, feats: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """feats (B, N, C), ids and mask (B, T) to logits (B, A), read off at <start>.

        Raises ValueError for a question that is longer than max_tokens.
        """
        num_tokens = ids.shape[1]
        if num_tokens > self.config.max_tokens:
            raise ValueError(
                f"{num_tokens} tokens are more than the {self.config.max_tokens} that this model"
                " reads; shorten the questions"
            )
        device = self.place.weight.device
        words = self.word(ids.to(device)) + self.place.weight[:num_tokens]
        image = self.project(feats.to(device, words.dtype))
        return self.head(self.joint(words, image, mask.to(device)).feats[:, 0])

    @torch.no_grad()
    def answer(self, feats: Tensor, questions: Sequence[str], tokenizer: Tokenizer) -> list[str]:
        """The likeliest answer to a question about each of what was seen, (B, N, C)."""
        chosen = self(feats, *tokenizer.batch(questions)).argmax(1)
        return [self.config.answers[n] for n in chosen.tolist()]


def build(config: Config) -> Reader:
    """A Reader with new weights."""
    return Reader(config)
