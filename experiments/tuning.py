"""What it costs to teach llava-mini a little Spanish, and what it forgets of the rest.

    python experiments/tuning.py [--smoke]

It knows English and Korean, and learns to understand one kind of question in Spanish; answers are
English. What learns is all of the language model, or low-rank changes to its matrices (LoRA, by the
peft library), with or without its word vectors; each at several rates, since what is learnt and
what is forgotten both depend on how far one goes. Then the model is asked the new questions, and
old ones in English and Korean. Writes vlmbook/results/tuning.json. An hour and a half on one core.
Book: llava/tuning.md.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import dual
import peft
import small_llava as small
import torch
from torch import nn

from vlmbook import checkpoint, llava, tokenizer, train, world

NUM, NUM_OLD, NUM_TEST = 600, 600, 200  # new examples, old ones, and questions of each test
SETTINGS = train.Settings(steps=120, batch=16, rate=1e-3, warm_up=10)
LINEAR = ["query", "key", "value", "out", "gate", "up", "down"]
SPANISH = {
    "sphere": "la esfera", "cube": "el cubo", "cylinder": "el cilindro", "cone": "el cono",
    "torus": "el anillo", "pyramid": "la pirámide", "capsule": "la cápsula", "egg": "el huevo",
}  # fmt: skip


class Way(NamedTuple):
    """What learns: LoRA of a rank, or where that is 0 all of the language model.

    words: the word vectors have LoRA, too. old: old lessons are mixed with the new ones.
    """

    rank: int = 0
    words: bool = False
    old: bool = False


WAYS = {
    "language model": (Way(), (1e-4, 3e-4, 1e-3)),
    "LoRA": (Way(8), (5e-4, 1e-3, 2e-3)),
    "LoRA, words too": (Way(8, words=True), (5e-4, 1e-3, 2e-3)),
    "language model, old lessons too": (Way(old=True), (3e-4,)),
    "LoRA, words and old lessons too": (Way(8, words=True, old=True), (1e-3,)),
}


def spanish(scene: world.Scene, rng: random.Random) -> tuple[str, str] | None:
    """The color of something whose shape is there once, asked for in Spanish."""
    shapes = [thing.shape for thing in scene.objects]
    once = [thing for thing in scene.objects if shapes.count(thing.shape) == 1]
    if not once:
        return None
    thing = rng.choice(once)
    return f"¿De qué color es {SPANISH[thing.shape]}?", thing.color


def asked(split: str, num: int, seed: int) -> list[tuple[world.Scene, str, str]]:
    """Scenes, with a question and its answer for each; those of the test have two objects or three.

    Where there is one, its color is right whatever was understood.
    """
    rng = random.Random(seed)
    stream = world.stream("full", split, seed, num_objects=(1 if split == "train" else 2, 3))
    pairs = ((scene, spanish(scene, rng)) for scene in stream)
    return list(itertools.islice(((scene, *pair) for scene, pair in pairs if pair), num))


@functools.cache
def tests(split: str = "test") -> dict[str, tuple[torch.Tensor, list[str], list[str]]]:
    """What the eye sees, questions, and answers: new ones, and old ones of each language."""
    found = {}
    for language in ("en", "ko"):
        scenes = world.sample(3000, "full", split, num_objects=(1, 3))
        pairs = [
            pair
            for family in ("exist", "count", "query_shape", "query_color")
            for pair in world.balanced_questions(scenes, NUM_TEST // 4, family, language)
        ]
        feats = small.look([scene for scene, _ in pairs])
        found[language] = feats, [q.text for _, q in pairs], [q.answer for _, q in pairs]
    scenes, questions, answers = map(list, zip(*asked(split, NUM_TEST, 0), strict=True))
    return found | {"new": (small.look(scenes), questions, answers)}


def load() -> llava.Llava:
    """llava-mini, which reads what the eye saw."""
    model, _ = checkpoint.load("llava-mini")
    model.image, model.prepare = small.Seen(8), nn.Identity()
    return model


def measure(model: llava.Llava, split: str = "test") -> dict[str, str]:
    """Which questions are answered right, new ones and old ones."""
    model.eval()
    found = {}
    for which, (feats, questions, truth) in tests(split).items():
        told = small.answered(model, feats, questions)
        found[which] = "".join(str(int(a == t)) for a, t in zip(told, truth, strict=True))
    return found


def examples(seed: int, old: bool) -> tuple[list[tokenizer.Chat], torch.Tensor]:
    """Conversations to learn from, and what the eye saw."""
    scenes, talks = [], []
    for scene, question, answer in asked("train", NUM, 400 + seed):
        scenes.append(scene)
        talks.append(small.recipe.messages([(question, answer)], {"type": "image"}))
    if old:
        others = world.sample(NUM_OLD, "full", "train", 500 + seed, num_objects=(1, 3))
        scenes += others
        talks += [small.recipe.conversation(scene, small.DESCRIBES) for scene in others]
    return [small.WORDS.chat(talk, False, 64) for talk in talks], small.look(scenes)


def prepared(model: llava.Llava, way: Way) -> nn.Module:
    """The model with what may learn, all else frozen."""
    if way.rank == 0:
        model.learn("text")
        return model
    config = peft.LoraConfig(
        r=way.rank,
        lora_alpha=2 * way.rank,
        target_modules=LINEAR + ["token"] * way.words,
        exclude_modules="image.*",
    )
    return peft.get_peft_model(model, config)


def made(way: Way, rate: float, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A model that was taught in one way, measured."""
    torch.manual_seed(seed)
    model = load()
    tuned = prepared(model, way)
    chats, feats = examples(seed, way.old)
    losses = small.follow(tuned, chats, feats, replace(settings, rate=rate), seed)
    learnt = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    return measure(model) | {"weights": learnt, "loss": small.last(losses, 20)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(SETTINGS, steps=settings.steps)
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    if seed == 0:
        found["before"] = lambda: measure(load())
    for name, (way, rates) in WAYS.items():
        for rate in rates:
            found[f"{name}, {rate:g}"] = functools.partial(made, way, rate, seed, settings)
    return found


if __name__ == "__main__":
    dual.run("tuning", runs, SETTINGS.steps, batch=SETTINGS.batch, scenes=NUM)
