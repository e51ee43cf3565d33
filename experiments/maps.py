"""Which of five methods find what a text names, in blip-mini and clip-mini, and with wrong labels.

    python experiments/maps.py [--smoke]

For each of five seeds, a hundred scenes of three objects, of which a text names one: every method
makes a map, for each head, for questions in place of texts, and for random weights; the maps are
scored against the visible pixels. Then a small BLIP learns to write captions twice, of its own
pictures and of others', and its maps are scored, too. Writes vlmbook/results/maps.json. An hour
and a quarter on one core. Book: attention/maps.md.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import torch
from torch import Tensor, nn

from vlmbook import attribution, blip, checkpoint, train, world
from vlmbook.attribution import METHODS, Target

NUM, STEPS = 100, 800  # scenes of a seed; steps of the small models
NUM_TRAIN = 8000  # scenes that these learn from
QUESTIONS = ("query_color", "query_shape", "query_material", "query_size")
SIDE = 2  # of occlusion's window


def targets(name: str, model: nn.Module, seed: int, num: int) -> list[tuple[Target, Tensor]]:
    """What is asked of a model about the objects 0 and 1 of the same scenes, and where they are."""
    found = []
    for which in (0, 1):
        items = attribution.named(num, dual.WORDS, seed, which)
        given = (model, items.pixels, items.ids, items.mask)
        if name == "clip-mini":
            target = attribution.of_clip(*given)
        else:
            word = None if name == "ITC" else items.word
            target = attribution.of_blip(*given, word, name)
        found.append((target, items.visible))
    return found


def scored(name: str, model: nn.Module, seed: int, num: int, occluded: bool) -> dict[str, Any]:
    """Of each method: a digit a scene for pointing and being specific, numbers for the others."""
    record: dict[str, Any] = {}
    both = targets(name, model, seed, num)
    for method, make in METHODS.items():
        if method == "occlusion" and not occluded:
            continue
        how = {"side": SIDE} if method == "occlusion" else {}
        grids = [make(target, **how).grid for target, _ in both]
        masks = [mask for _, mask in both]
        record |= _scores(method, grids[0], masks[0])
        record[f"{method}, specific"] = dual.digits(attribution.specific(grids, masks))
    if occluded and name == "LM":
        grids = attribution.relevance(both[0][0], scaled=True).grid
        record |= _scores("relevance, scaled", grids, both[0][1])
        record |= _scores("centre", attribution.centre(num, (8, 8)), both[0][1])
        torch.manual_seed(seed)
        record |= _scores("random map", torch.rand(num, 8, 8), both[0][1])
        near = attribution.near(both[0][1], 4)
        record["near"] = near.float().mean((1, 2)).tolist()
    return record


def _scores(method: str, grid: Tensor, mask: Tensor) -> dict[str, Any]:
    def short(values: Tensor) -> list[float]:
        return [round(v, 4) for v in values.tolist()]

    return {
        f"{method}, pointing": dual.digits(attribution.pointing(grid, mask)),
        f"{method}, iou": short(attribution.mean_iou(grid, mask)),
        f"{method}, ap": short(attribution.average_precision(grid, mask)),
    }


def asked(seed: int, num: int) -> dict[str, Any]:
    """The same for answers: questions about one object, which names no other."""
    model, _ = checkpoint.load("blip-mini")
    rng = random.Random(seed)
    scenes = attribution.named(num, dual.WORDS, seed).scenes
    pairs = [(s, q) for s in scenes for q in world.questions(s, "en", rng, QUESTIONS)]
    pairs = rng.sample(pairs, num)
    view = world.render([s for s, _ in pairs])
    visible = torch.stack([view.visible[n, q.objects[0]] for n, (_, q) in enumerate(pairs)])
    ids, mask = dual.WORDS.batch([q.text for _, q in pairs])
    answer, _ = dual.WORDS.batch([q.answer for _, q in pairs])
    target = attribution.of_answer(model, view.pixels, ids, mask, answer)
    told = model.answer(view.pixels, [q.text for _, q in pairs], dual.WORDS)
    right = torch.tensor([a.text == q.answer for a, (_, q) in zip(told, pairs, strict=True)])
    record: dict[str, Any] = {"right": dual.digits(right)}
    for method, make in METHODS.items():
        record |= _scores(method, make(target).grid, visible)
    return record


def learnt(shuffled: bool, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A small BLIP that learns to write, of pictures with their own captions or with others'."""
    torch.manual_seed(seed)
    model = blip.build(blip.nano(len(dual.WORDS)))
    scenes = world.sample(NUM_TRAIN, "standard", "train", seed, num_objects=(1, 3))
    texts = [world.caption(s, rng=random.Random(s.index), relations=False) for s in scenes]
    if shuffled:
        random.Random(seed).shuffle(texts)
    pixels = torch.cat(
        [world.render(scenes[i : i + 500]).pixels for i in range(0, len(scenes), 500)]
    )
    ids, mask = dual.WORDS.batch(texts)

    def batch(step: int, part: slice) -> blip.Batch:
        rows = dual.rows_of(step, len(scenes), settings.batch, seed)[part]
        language = torch.full((len(rows),), blip.LANGUAGES["en"])
        about = rows[:, None].expand(-1, 2)
        return blip.Batch(pixels[rows], ids[rows], mask[rows], language, about)

    def loss(forward: Callable, given: blip.Batch) -> Tensor:
        return train.multitask(forward, given, {"lm": 1.0})

    losses = train.fit(model, loss, batch, replace(settings, rate=1e-3, precision="bf16")).loss
    record = scored_standard(model.eval(), seed)
    return record | {"loss": losses[-1]}


def scored_standard(model: nn.Module, seed: int) -> dict[str, Any]:
    """Attention and relevance of a model of the preset standard, for texts of color and shape."""
    scenes = [
        s
        for s in world.sample(4 * NUM, "standard", "test", seed, num_objects=3)
        if len({(o.color, o.shape) for o in s.objects}) == 3
    ][:NUM]
    view = world.render(scenes)
    things = [s.objects[0] for s in scenes]
    ids, mask = dual.WORDS.batch([f"a {o.color} {o.shape} on the table" for o in things])
    word = attribution.find(dual.WORDS, ids, [o.color for o in things])
    word |= attribution.find(dual.WORDS, ids, [o.shape for o in things])
    target = attribution.of_blip(model, view.pixels, ids, mask, word)
    record: dict[str, Any] = {}
    for method in ("attention", "grad-cam", "relevance"):
        record |= _scores(method, METHODS[method](target).grid, view.visible[:, 0])
    return record


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured with a seed."""
    num = 8 if settings.steps < 100 else NUM
    mini, _ = checkpoint.load("blip-mini")
    eye, _ = checkpoint.load("clip-mini")
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "LM": lambda: scored("LM", mini, seed, num, True),
        "ITM": lambda: scored("ITM", mini, seed, num, False),
        "ITC": lambda: scored("ITC", mini, seed, num, False),
        "clip-mini": lambda: scored("clip-mini", eye, seed, num, False),
        "random weights": lambda: scored("LM", attribution.randomised(mini, seed), seed, num, True),
        "answers": lambda: asked(seed, num),
    }
    for shuffled, name in ((False, "own captions"), (True, "others' captions")):
        found[name] = functools.partial(learnt, shuffled, seed, settings)
    return found


if __name__ == "__main__":
    dual.run("maps", runs, STEPS, side=SIDE, scenes=NUM_TRAIN)
