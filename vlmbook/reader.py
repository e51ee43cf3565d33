"""Answering by choosing: a question meets the things of a scene, and picks one of known answers.

    model = reader.build(reader.Config(len(words), ("yes", "no"), symbolic.NUM_FEATURES))
    logits = model(objects, present, *words.batch(questions))  # (B, A)

Before models wrote their answers, this was how they answered (Antol et al. 2015). A reader has no
eye: it is told what is there, as in symbolic. So it is where the joints of fusion can be compared,
all else being equal; they have as many weights within five percent.

B scenes, each with a question, N things of the fullest, F numbers a thing, T text tokens, D width,
A answers. Book: comparison.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlmbook import fusion
from vlmbook.layers import Block
from vlmbook.tokenizer import Tokenizer

# Each of 48 D^2 weights or nearly, by width, heads, and the number of learnt tokens, if any.
JOINTS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "late": lambda width, heads, _: fusion.Late(width, 2, heads),
    "concatenation": lambda width, heads, _: fusion.Concatenation(width, 4, heads),
    "cross-attention": lambda width, heads, _: fusion.CrossAttention(width, 3, heads),
    "gated": lambda width, heads, _: fusion.GatedCrossAttention(
        [Block(width, heads) for _ in range(2)], width, heads
    ),
    "query tokens": lambda width, heads, num: fusion.Compressed(
        fusion.QueryTokens(num, width, 2, heads, hidden=3 * width), width, 2, heads
    ),
    "resampler": lambda width, heads, num: fusion.Compressed(
        fusion.Resampler(num, width, 2, heads), width, 2, heads
    ),
}


@dataclass(frozen=True)
class Config:
    """Sizes of a reader, its joint, and the answers between which it chooses."""

    vocab_size: int
    answers: Sequence[str]
    features: int  # F
    joint: str = "concatenation"
    queries: int = 4  # learnt tokens of the joints that have them
    width: int = 64
    heads: int = 4
    max_tokens: int = 48

    def __post_init__(self) -> None:
        if self.joint not in JOINTS:
            raise ValueError(
                f"joint {self.joint!r} does not exist; choose from {', '.join(JOINTS)}"
            )
        if not self.answers:
            raise ValueError("answers is empty; pass those between which a reader is to choose")


class Reader(nn.Module):
    """Words and things, a joint between them, and a choice among answers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.joint = JOINTS[config.joint](width, config.heads, config.queries)
        self.word = nn.Embedding(config.vocab_size, width)
        self.place = nn.Embedding(config.max_tokens, width)
        self.thing = nn.Linear(config.features, width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(config.answers)))

    def forward(self, objects: Tensor, present: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """objects (B, N, F), present (B, N), ids and mask (B, T) to logits (B, A).

        They are read off at <start>. Raises ValueError for a question longer than max_tokens.
        """
        num_tokens = ids.shape[1]
        if num_tokens > self.config.max_tokens:
            raise ValueError(
                f"{num_tokens} tokens are more than the {self.config.max_tokens} that this model"
                " reads; shorten the questions"
            )
        words = self.word(ids) + self.place.weight[:num_tokens]
        return self.head(self.joint(words, self.thing(objects), mask, present).feats[:, 0])

    @torch.no_grad()
    def answer(
        self, objects: Tensor, present: Tensor, questions: Sequence[str], tokenizer: Tokenizer
    ) -> list[str]:
        """The likeliest answer to a question about each of the scenes.

        Raises ValueError where there are not as many questions as scenes.
        """
        if len(objects) != len(questions):
            raise ValueError(
                f"{len(objects)} scenes and {len(questions)} questions; pass one for each scene"
            )
        device = self.place.weight.device
        given = (of.to(device) for of in (objects, present, *tokenizer.batch(questions)))
        return [self.config.answers[n] for n in self(*given).argmax(1).tolist()]


def build(config: Config) -> Reader:
    """A Reader with new weights."""
    return Reader(config)
