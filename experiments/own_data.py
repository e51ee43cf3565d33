"""What fine-tuning on one's own pictures gives, and what it takes away.

    python experiments/own_data.py [--smoke]

clip-mini learns from pictures with other lamps and tables, from more of them and from fewer, with
its last linear maps alone, at several rates, with as many pictures of the usual look or without; or
by low-rank changes of all layers; blip-mini by the latter. Measured are pictures that were held
out, and pictures of the usual look, before, after, and with the mean of the weights before and
after. Writes vlmbook/results/own_data.json. Half an hour on one core. Book:
applications/own_data.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import dual
import torch
from torch import nn

from vlmbook import checkpoint, evaluate, finetune, own_data, retrieval, train, world

PRESET, NUM_OBJECTS, LOOK = "full", (1, 3), "render_ood"
SIZES, NUM_HELD, NUM_USUAL = (50, 200, 800, 1800), 200, 500
NUM_DESCRIBED = 100
STEPS = {"projections": 400, "lora": 80}
RATES = (1e-4, 2e-4, 5e-4)  # below that of the command


class Arm(NamedTuple):
    """What learns, how, from how many pictures, and from as many of the usual look or not."""

    name: str
    way: str
    num: int = SIZES[-1]
    rate: float | None = None
    mixed: bool = False


ARMS = {f"projections, {num}": Arm("clip-mini", "projections", num) for num in SIZES}
ARMS |= {f"projections, {rate:g}": Arm("clip-mini", "projections", rate=rate) for rate in RATES}
ARMS |= {
    "projections, mixed": Arm("clip-mini", "projections", mixed=True),
    f"lora, {SIZES[-1]}": Arm("clip-mini", "lora"),
    f"blip, {SIZES[-1]}": Arm("blip-mini", "lora"),
}
Items = list[dict[str, Any]]


def items(scenes: list[world.Scene], language: str = "en") -> Items:
    """Scenes as somebody's data: pictures with a caption each."""
    parts = [scenes[n : n + 250] for n in range(0, len(scenes), 250)]
    pixels = torch.cat([world.render(part).pixels for part in parts])
    texts = [world.caption(scene, language, relations=False) for scene in scenes]
    return [{"image": image, "text": text} for image, text in zip(pixels, texts, strict=True)]


def data_of(learnt: Items, held: Items) -> own_data.Data:
    """Pictures to learn from, and others to test with."""
    return own_data.from_dataset({"train": learnt, "val": held})


@functools.lru_cache(maxsize=1)
def pictures(seed: int) -> tuple[Items, Items]:
    """What a seed's models learn from, and what was held out, of the new look."""
    num = SIZES[-1] + NUM_HELD
    found = items(world.sample(num, PRESET, LOOK, 400 + seed, NUM_OBJECTS))
    return found[NUM_HELD:], found[:NUM_HELD]


@functools.lru_cache(maxsize=1)
def old_pictures(seed: int) -> Items:
    """Pictures of the usual look to learn from beside the new ones."""
    return items(world.sample(SIZES[-1], PRESET, "train", 400 + seed, NUM_OBJECTS))


@functools.cache
def usual(language: str) -> own_data.Data:
    """Pictures of the look that the models know."""
    scenes = retrieval.gallery(NUM_USUAL, seed=1)
    return data_of([], items(scenes, language))


def found_by(model: nn.Module, words: Any, data: own_data.Data, k: int) -> str:
    """Whose picture is among the first k, for each caption."""
    hits = finetune.measure(model, words, data).values[f"R@{k}"]
    return dual.digits(torch.as_tensor(hits) > 0)


def looked_for(model: nn.Module, words: Any, data: own_data.Data, korean: own_data.Data) -> dict:
    """How a CLIP finds pictures, in both languages: R@10 for the new look, R@1 for the usual."""
    return {
        "new en": found_by(model, words, data, 10),
        "new ko": found_by(model, words, korean, 10),
        "usual en": found_by(model, words, usual("en"), 1),
        "usual ko": found_by(model, words, usual("ko"), 1),
    }


def said(model: nn.Module, words: Any, data: own_data.Data, scenes: list[world.Scene]) -> dict:
    """How a BLIP tells of pictures of both looks: surprise at captions, and F1 of its own."""
    own = {"new": (data, scenes), "usual": (usual("en"), retrieval.gallery(NUM_USUAL, seed=1))}
    result = {}
    for look, (some, truth) in own.items():
        rows = some.rows("val")[:NUM_DESCRIBED]
        pixels = finetune.pixels_of(some, rows, model.config.size)
        texts = [t for part in pixels.split(50) for t in model.caption(part, words)]
        f1 = evaluate.scene_graph(texts, truth[: len(rows)], "en").f1
        surprise = finetune.measure(model, words, some).values["surprise"]
        result[f"{look} surprise"] = round(float(surprise.mean()), 4)
        result[f"{look} f1"] = [round(float(value), 3) for value in f1]
    return result


def mean_of(old: nn.Module, new: nn.Module) -> nn.Module:
    """A model whose weights are the mean of two models'; new is changed in place."""
    before = old.state_dict()
    new.load_state_dict({n: (v + before[n]) / 2 for n, v in new.state_dict().items()})
    return new


def made(arm: Arm, seed: int, steps: int) -> dict[str, Any]:
    """A model of one arm, measured before and after."""
    learnt, held = pictures(seed)
    data = data_of(learnt[: arm.num] + old_pictures(seed) * arm.mixed, held)
    scenes = world.sample(NUM_HELD, PRESET, LOOK, 400 + seed, NUM_OBJECTS)
    model, words = checkpoint.load(arm.name)
    if arm.name == "blip-mini":
        measure = functools.partial(said, words=words, data=data, scenes=scenes)
    else:
        korean = [
            item | {"text": world.caption(scene, "ko", relations=False)}
            for item, scene in zip(held, scenes, strict=True)
        ]
        korean = data_of([], korean)
        measure = functools.partial(looked_for, words=words, data=data, korean=korean)
    before = measure(model)
    settings = finetune.SETTINGS[arm.way]
    settings = replace(settings, steps=steps, rate=arm.rate or settings.rate)
    history = finetune.tune(model, words, data, arm.way, settings, seed)
    record = {f"before, {key}": value for key, value in before.items()}
    record |= {f"after, {key}": value for key, value in measure(model).items()}
    half = mean_of(checkpoint.load(arm.name)[0], model)
    record |= {f"half, {key}": value for key, value in measure(half).items()}
    return record | {"training": round(history.seconds, 1)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    tried = settings.steps < dual.SETTINGS.steps
    return {
        name: functools.partial(made, arm, seed, settings.steps if tried else STEPS[arm.way])
        for name, arm in ARMS.items()
    }


if __name__ == "__main__":
    dual.run("own_data", runs, dual.SETTINGS.steps, scenes=SIZES[-1])
