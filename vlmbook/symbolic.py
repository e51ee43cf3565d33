"""The world without pixels: each object is a short vector of what it is and where it stands.

What is asked about losses, data and batches seldom needs a renderer. Here a model reads the scene's
own record, trains in seconds, and can be trained with ten seeds.

B scenes, N objects of the fullest, F numbers an object, T text tokens, E the shared space.

Book: concepts/embeddings.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import world
from vlmbook.encoders import Encoded, TextEncoder, mean_of
from vlmbook.layers import Block, through
from vlmbook.tokenizer import Tokenizer

WORDS = {
    "shape": world.SHAPES,
    "color": tuple(world.COLORS),
    "material": world.MATERIALS,
    "size": tuple(world.SIZES),
}
NUM_WORDS = sum(map(len, WORDS.values()))
NUM_FEATURES = NUM_WORDS + 2  # F: one place for each word, and where it stands: right and near
REACH = 3.0  # table units: places are divided by it, so that they are about as large as the words


def vectors(scenes: Sequence[world.Scene]) -> tuple[Tensor, Tensor]:
    """objects (B, N, F) float32 and present (B, N) bool, False past the last object of a scene."""
    most = max((len(s) for s in scenes), default=0)
    objects = torch.zeros(len(scenes), most, NUM_FEATURES)
    present = torch.zeros(len(scenes), most, dtype=torch.bool)
    for scene, rows, there in zip(scenes, objects, present, strict=True):
        there[: len(scene)] = True
        for n, thing in enumerate(scene.objects):
            rows[n, list(_places(thing))] = 1.0
            rows[n, NUM_WORDS:] = torch.tensor(scene.view_position(n)) / REACH
    return objects, present


def _places(thing: world.Object):
    start = 0
    for attribute, words in WORDS.items():
        yield start + words.index(getattr(thing, attribute))
        start += len(words)


class Pairs(NamedTuple):
    """Scenes and one caption of each: objects (B, N, F), present (B, N), ids and mask (B, T)."""

    objects: Tensor
    present: Tensor
    ids: Tensor
    mask: Tensor


def pairs(
    scenes: Sequence[world.Scene],
    tokenizer: Tokenizer,
    language: str = "en",
    rng: random.Random | None = None,
    **dials,
) -> Pairs:
    """A batch for training: each scene with a caption; dials are those of world.describe."""
    texts = [world.caption(s, language, rng=rng, **dials) for s in scenes]
    return Pairs(*vectors(scenes), *tokenizer.batch(texts))


class SceneEncoder(nn.Module):
    """A transformer over the objects of a scene; their order makes no difference."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(NUM_FEATURES, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, objects: Tensor, present: Tensor) -> Tensor:
        """objects (B, N, F) and present (B, N) to one vector a scene, (B, D)."""
        x, _ = through(self.blocks, self.project(objects), present[:, None])
        return mean_of(self.norm(x), present)


class ObjectEncoder(nn.Module):
    """A scene's objects in the place of image tokens: what a blip.Blip may have as its eye.

    A class token looks at them and they at each other; rows of zeros are no objects.
    """

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(NUM_FEATURES, width)
        self.class_token = nn.Parameter(width**-0.5 * torch.randn(width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width)

    def forward(self, objects: Tensor) -> Encoded:
        """objects (B, N, F), see vectors(); the class token is the first of the feats."""
        first = self.class_token.expand(len(objects), 1, -1)
        x = torch.cat([first, self.project(objects)], 1)
        present = F.pad(objects.any(-1), (1, 0), value=True)
        x, weights = through(self.blocks, x, present[:, None])
        return Encoded(self.norm_out(x[:, 0]), x, weights)


@dataclass(frozen=True)
class Config:
    """Sizes of a symbolic model."""

    vocab_size: int
    max_tokens: int = 64
    width: int = 64
    depth: int = 2
    heads: int = 4
    shared: int = 64  # E
    scale: float = 10.0  # inverse temperature to begin with


class DualEncoder(nn.Module):
    """Scenes and sentences in one space: CLIP without pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, depth, heads = config.width, config.depth, config.heads
        self.scenes = SceneEncoder(width, depth, heads)
        self.texts = TextEncoder(config.vocab_size, config.max_tokens, width, depth, heads)
        self.from_scene = nn.Linear(width, config.shared, bias=False)
        self.from_text = nn.Linear(width, config.shared, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(config.scale).log())

    @property
    def scale(self) -> Tensor:
        """The inverse temperature, at most 100; beyond that its gradient is 0."""
        return self.log_scale.exp().clamp(max=100)

    def encode_scene(self, objects: Tensor, present: Tensor) -> Tensor:
        """objects (B, N, F) and present (B, N) to (B, E), of length one (0 for an empty scene)."""
        return F.normalize(self.from_scene(self.scenes(objects, present)), dim=-1)

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids and mask (B, T) to (B, E), of length one."""
        return F.normalize(self.from_text(self.texts(ids, mask).pooled), dim=-1)

    def forward(self, batch: Pairs) -> tuple[Tensor, Tensor]:
        """Both embeddings of a batch of pairs, (B, E) each."""
        scene_emb = self.encode_scene(batch.objects, batch.present)
        return scene_emb, self.encode_text(batch.ids, batch.mask)


# What there is to answer, in English; other languages are scored by the value behind the words.
ANSWERS = ("yes", "no", *map(str, range(13)), *(word for words in WORDS.values() for word in words))


class Questions(NamedTuple):
    """Questions with their scenes: objects (B, N, F), present (B, N), ids and mask (B, T).

    answers (B,) is the place of the right answer in ANSWERS.
    """

    objects: Tensor
    present: Tensor
    ids: Tensor
    mask: Tensor
    answers: Tensor


def questions(
    asked: Sequence[tuple[world.Scene, world.Question]], tokenizer: Tokenizer
) -> Questions:
    """A batch of English questions, each with the scene that it is about."""
    for _, question in asked:
        if question.answer not in ANSWERS:
            raise ValueError(
                f"the answer {question.answer!r} is not among ANSWERS; ask in English, and not for"
                " the text of a plate"
            )
    objects, present = vectors([scene for scene, _ in asked])
    ids, mask = tokenizer.batch([question.text for _, question in asked])
    answers = torch.tensor([ANSWERS.index(question.answer) for _, question in asked])
    return Questions(objects, present, ids, mask, answers)


class Answerer(nn.Module):
    """Answers questions: one transformer over the words and the objects together."""

    def __init__(self, vocab_size: int, max_tokens: int = 32, width: int = 64, depth: int = 2):
        super().__init__()
        self.word = nn.Embedding(vocab_size, width)
        self.place = nn.Embedding(max_tokens, width)
        self.thing = nn.Linear(NUM_FEATURES, width)
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(ANSWERS)))

    def forward(self, asked: Questions, blind: bool = False) -> Tensor:
        """Logits (B, A) over ANSWERS; a blind model is not shown any object."""
        num_tokens = asked.ids.shape[1]
        if num_tokens > self.place.num_embeddings:
            raise ValueError(
                f"{num_tokens} tokens are more than the {self.place.num_embeddings} that this model"
                " has places for; shorten the questions"
            )
        words = self.word(asked.ids) + self.place.weight[:num_tokens]
        x = torch.cat([words, self.thing(asked.objects)], dim=1)  # (B, T + N, D)
        seen = torch.zeros_like(asked.present) if blind else asked.present
        mask = torch.cat([asked.mask, seen], dim=1)
        x, _ = through(self.blocks, x, mask[:, None])
        return self.head(x[:, 0])  # read off at <start>
