"""What it costs to teach llava-mini a new kind of question, and what it forgets of the rest.

    python experiments/tuning.py [--smoke]

There are two lessons: the color of what is farthest left, and colors asked for in Spanish, answered
in English. What learns is all of the language model, the projector alone, or low-rank changes to
the language model's matrices (LoRA, by the peft library). Then the model is asked the new
questions, and old ones in English and Korean. Each way has the lowest of its rates that came within
two points of the best on validation scenes. Writes vlmbook/results/tuning.json. An hour on one
core. Book: llava/tuning.md.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
# What learns: a rank for LoRA, or a part of the model; the rate; whether old lessons are mixed in.
WAYS: dict[str, tuple[int | str, float, bool]] = {
    "LoRA, rank 8": (8, 2e-3, False),
    "LoRA, rank 1": (1, 5e-3, False),
    "language model": ("text", 3e-4, False),
    "projector": ("projector", 5e-3, False),
    "LoRA, rank 8, old lessons too": (8, 2e-3, True),
    "language model, old lessons too": ("text", 3e-4, True),
}
Lesson = Callable[[world.Scene, random.Random], tuple[str, str] | None]


def left(scene: world.Scene, rng: random.Random) -> tuple[str, str] | None:
    """The color of what is farthest left, and its answer."""
    del rng  # there is only one such question
    places = [scene.view_position(n)[0] for n in range(len(scene.objects))]
    thing = scene.objects[places.index(min(places))]
    return "What color is the object on the far left?", thing.color


def spanish(scene: world.Scene, rng: random.Random) -> tuple[str, str] | None:
    """The color of something whose shape is there once, asked for in Spanish."""
    shapes = [thing.shape for thing in scene.objects]
    once = [thing for thing in scene.objects if shapes.count(thing.shape) == 1]
    if not once:
        return None
    thing = rng.choice(once)
    return f"¿De qué color es {SPANISH[thing.shape]}?", thing.color


LESSONS: dict[str, Lesson] = {"left": left, "spanish": spanish}


def asked(lesson: str, split: str, num: int, seed: int) -> list[tuple[world.Scene, str, str]]:
    """Scenes, with a question and its answer for each; single objects are not tested."""
    rng = random.Random(seed)
    stream = world.stream("full", split, seed, num_objects=(1 if split == "train" else 2, 3))
    pairs = ((scene, LESSONS[lesson](scene, rng)) for scene in stream)
    return list(itertools.islice(((scene, *pair) for scene, pair in pairs if pair), num))


def conversation(question: str, answer: str) -> list[tokenizer.Message]:
    """One question about a picture."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]


@functools.cache
def tests(lesson: str, split: str = "test") -> dict[str, tuple[torch.Tensor, list[str], list[str]]]:
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
    scenes, questions, answers = map(list, zip(*asked(lesson, split, NUM_TEST, 0), strict=True))
    return found | {"new": (small.look(scenes), questions, answers)}


def load() -> llava.Llava:
    """llava-mini, which reads what the eye saw."""
    model, _ = checkpoint.load("llava-mini")
    model.image, model.prepare = small.Seen(8), nn.Identity()
    return model


def measure(model: llava.Llava, lesson: str, split: str = "test") -> dict[str, str]:
    """Which questions are answered right, new ones and old ones."""
    model.eval()
    found = {}
    for which, (feats, questions, truth) in tests(lesson, split).items():
        told = []
        for some in torch.arange(len(truth)).split(50):
            own = [questions[i] for i in some.tolist()]
            told += [a.text for a in model.answer(feats[some], own, small.WORDS)]
        found[which] = "".join(str(int(a == t)) for a, t in zip(told, truth, strict=True))
    return found


def examples(lesson: str, seed: int, old: bool) -> tuple[list[tokenizer.Chat], torch.Tensor]:
    """Conversations to learn from, and what the eye saw."""
    scenes, talks = [], []
    for scene, question, answer in asked(lesson, "train", NUM, 400 + seed):
        content = [{"type": "image"}, {"type": "text", "text": question}]
        scenes.append(scene)
        talks.append([{"role": "user", "content": content},
                      {"role": "assistant", "content": answer}])  # fmt: skip
    if old:
        others = world.sample(NUM_OLD, "full", "train", 500 + seed, num_objects=(1, 3))
        scenes += others
        talks += [small.conversation(scene, small.DESCRIBES) for scene in others]
    return [small.WORDS.chat(talk, False, 64) for talk in talks], small.look(scenes)


def prepared(model: llava.Llava, what: int | str) -> nn.Module:
    """The model with what may learn, by LoRA's rank or by parts, all else frozen."""
    if isinstance(what, str):
        model.learn(what)
        return model
    config = peft.LoraConfig(
        r=what, lora_alpha=2 * what, target_modules=LINEAR, exclude_modules="image.*"
    )
    return peft.get_peft_model(model, config)


def made(
    lesson: str, what: int | str, rate: float, old: bool, seed: int, settings: train.Settings
) -> dict[str, Any]:
    """A model that was taught a lesson in one way, measured."""
    torch.manual_seed(seed)
    model = load()
    tuned = prepared(model, what)
    chats, feats = examples(lesson, seed, old)
    losses = small.follow(tuned, chats, feats, replace(settings, rate=rate), seed)
    learnt = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    return measure(model, lesson) | {"weights": learnt, "loss": small.last(losses, 20)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(SETTINGS, steps=settings.steps)
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for lesson in LESSONS:
        if seed == 0:
            found[f"{lesson}: before"] = functools.partial(lambda of: measure(load(), of), lesson)
        for name, way in WAYS.items():
            found[f"{lesson}: {name}"] = functools.partial(made, lesson, *way, seed, settings)
    return found


if __name__ == "__main__":
    dual.run("tuning", runs, SETTINGS.steps)
