"""Which way of bringing a scene to a question answers best, with equally many weights.

    python experiments/fusion.py [--smoke]

Symbolic models of one width learn to answer seven families of questions about scenes of two to four
objects. They differ in the joint between words and objects (vlmbook.fusion), and have the same
number of weights within five percent; learnt tokens are tried in several numbers, and
cross-attention again for four times as long. Every answer to every test question is kept, one
character each, for the place of the answer in symbolic.ANSWERS. Writes vlmbook/results/fusion.json.
Three hours on one core. Book: attention/fusion.md.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmbook import reader, symbolic, train, world

PRESET, NUM_OBJECTS = "standard", (2, 4)
FAMILIES = ("exist", "negated_exist", "count", "query_shape", "query_color", "compare", "relation")
NUM_SCENES, NUM_TRAIN, NUM_TEST = 70_000, 8000, 500  # training scenes; questions of each family
STEPS, RATE = 3000, 1e-3
FIRST_ANSWER = 48  # the code of the character "0": answers are kept as one character each
COUNTS = (1, 2, 4, 8)  # of learnt tokens
# Tried again for so many times as many steps, with the first seeds.
LONGER = ("cross-attention",)
TIMES, LONGER_SEEDS = 4, 3


def joints() -> dict[str, reader.Config]:
    """Every way, by name, each of 48 D^2 weights or nearly."""
    config = reader.Config(len(dual.WORDS), symbolic.ANSWERS, symbolic.NUM_FEATURES)
    found = {
        "concatenation": config,
        "cross-attention": replace(config, joint="cross-attention"),
        "gated cross-attention": replace(config, joint="gated"),
        "late": replace(config, joint="late"),
        "blind": config,
    }
    for k in COUNTS:
        found[f"{k} query tokens"] = replace(config, joint="query tokens", queries=k)
    found["4 resampled tokens"] = replace(config, joint="resampler", queries=4)
    return found


class Reader(nn.Module):
    """A reader of questions; a blind one is not told any object."""

    def __init__(self, config: reader.Config, blind: bool = False) -> None:
        super().__init__()
        self.reader, self.blind = reader.build(config), blind

    @property
    def joint(self) -> nn.Module:
        """The joint between words and objects."""
        return self.reader.joint

    def forward(self, asked: symbolic.Questions) -> Tensor:
        """Logits (B, A) over ANSWERS."""
        seen = torch.zeros_like(asked.present) if self.blind else asked.present
        return self.reader(asked.objects, seen, asked.ids, asked.mask)


@functools.lru_cache(maxsize=1)
def training(seed: int) -> symbolic.Questions:
    """As many questions of each family, none of whose answers is frequent.

    One of each that a scene allows would not do: few scenes have two things of one color or a
    relation that is close, so a model that always says "no" would do well in training.
    """
    rng = random.Random(seed)
    scenes = world.sample(NUM_SCENES, PRESET, "train", seed, num_objects=NUM_OBJECTS)
    asked = [q for f in FAMILIES for q in world.balanced_questions(scenes, NUM_TRAIN, f, rng=rng)]
    return symbolic.questions(asked, dual.WORDS)


@functools.cache
def items() -> list[tuple[world.Scene, world.Question]]:
    """The test: as many questions of each family, none of whose answers is frequent."""
    scenes = world.sample(12_000, PRESET, "test", seed=0, num_objects=NUM_OBJECTS)
    return [pair for f in FAMILIES for pair in world.balanced_questions(scenes, NUM_TEST, f)]


@functools.cache
def test() -> symbolic.Questions:
    """The same as a batch."""
    return symbolic.questions(items(), dual.WORDS)


def learn(name: str, seed: int, settings: train.Settings) -> tuple[Reader, list[float]]:
    """A trained model and its losses."""
    data = training(seed)
    torch.manual_seed(seed)
    model = Reader(joints()[name], name == "blind")

    def batch(step: int, part: slice) -> symbolic.Questions:
        rows = dual.rows_of(step, len(data.answers), settings.batch, seed)[part]
        some = symbolic.Questions(*(of[rows] for of in data))
        longest = int(some.mask.sum(1).max())
        return some._replace(ids=some.ids[:, :longest], mask=some.mask[:, :longest])

    def loss(forward: Callable, given: symbolic.Questions) -> Tensor:
        return F.cross_entropy(forward(given), given.answers)

    how = replace(settings, rate=RATE, precision="bf16")
    return model, train.fit(model, loss, batch, how).loss


@torch.no_grad()
def answered(model: Reader, data: symbolic.Questions) -> str:
    """A character an answer."""
    parts = torch.arange(len(data.answers)).split(500)
    logits = [model(symbolic.Questions(*(of[rows] for of in data))) for rows in parts]
    return "".join(chr(FIRST_ANSWER + i) for i in torch.cat(logits).argmax(1).tolist())


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""

    def made(name: str, times: int = 1) -> dict[str, Any]:
        model, losses = learn(name, seed, replace(settings, steps=times * settings.steps))
        parts = torch.tensor(losses).split(max(1, len(losses) // 20))
        record = {
            "answers": answered(model.eval(), test()),
            "loss": [round(part.mean().item(), 4) for part in parts],
            "weights": sum(w.numel() for w in model.parameters()),
        }
        if name.startswith("gated"):
            record["gates"] = [[round(g, 4) for g in at.gates.tolist()] for at in model.joint.looks]
        return record

    found = {name: functools.partial(made, name) for name in joints()}
    if seed < LONGER_SEEDS:
        found |= {f"{name}, longer": functools.partial(made, name, TIMES) for name in LONGER}
    return found


if __name__ == "__main__":
    dual.run(
        "fusion",
        runs,
        STEPS,
        scenes=NUM_SCENES,
        trained_on=NUM_TRAIN * len(FAMILIES),
        times=TIMES,
        questions=[q.text for _, q in items()],
        answers=[q.answer for _, q in items()],
        families=[q.family for _, q in items()],
        scene=[s.index for s, _ in items()],
    )
