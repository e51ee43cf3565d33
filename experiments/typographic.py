"""Attacking small CLIPs with a written word: how it is learnt to be believed, and what helps.

    python experiments/typographic.py [--smoke]

Small CLIPs learn from pictures of one thing, 96 pixels wide. Some of the pictures are signs: the
thing is not there, and a plate says its colour. How many are, is the dose. One model more also sees
plates beside things that say anything. Then the models are asked for the colour of things beside
which a plate names another one. Writes vlmbook/results/typographic.json. An hour and a half on one
core. Book: applications/moderation.md.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import dual
import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook import clip, evaluate, train, world
from vlmbook.world import Plate, placement
from vlmbook.world.scene import to_table
from vlmbook.world.splits import PLATE_WORDS

WORDS = dual.WORDS
SIZE, PATCH = 96, 16
SETTINGS = train.Settings(steps=1000, batch=64, rate=1e-3, warm_up=50, precision="bf16")
NUM, NUM_TEST = 3000, 300
PRESET = "standard"
COLORS = world.PRESETS[PRESET].colors
LEARNT = (0.5, 1.1)  # from and to which heights the plates of training are, table units
HEIGHTS = (0.45, 0.6, 0.75, 0.9)  # of the plates of an attack
NEUTRAL = "open"
# How many pictures of training are signs, and whether things have plates that say anything.
ARMS = {
    "none": (0.0, False),
    "an eighth": (0.125, False),
    "a quarter": (0.25, False),
    "half": (0.5, False),
    "half, plates that lie": (0.5, True),
}


def sign(scene: world.Scene, rng: random.Random) -> world.Scene:
    """The table without the thing, and with a plate that says its colour."""
    text, height = scene.objects[0].color, rng.uniform(*LEARNT)
    reach = max(0.1, placement.HALF_RIGHT + 0.4 - height * placement.aspect(text) / 2)
    right, near = rng.uniform(-reach, reach), rng.uniform(-1.5, 1.5)
    plate = Plate(text, to_table(right, near, scene.camera.azimuth), height)
    return replace(scene, objects=(), plates=(plate,))


def plated(scene: world.Scene, text: str, height: float) -> world.Scene:
    """The scene with a plate in a place of its own, always the same; as it is without room."""
    rng = random.Random(f"{scene.split}/{scene.seed}/{scene.index}")
    try:
        return world.add_plate(scene, text, height, rng)
    except world.TwinError:
        return scene


def shown(scenes: Sequence[world.Scene]) -> Tensor:
    """Pixels (n, 3, SIZE, SIZE) uint8."""
    parts = [scenes[n : n + 100] for n in range(0, len(scenes), 100)]
    return torch.cat([(world.render(p, SIZE).pixels * 255).round().byte() for p in parts])


class Learnt(NamedTuple):
    """Pictures to learn from: things, signs, things with plates that say anything; captions."""

    things: Tensor
    signs: Tensor
    plates: Tensor
    ids: Tensor
    mask: Tensor


@functools.lru_cache(maxsize=1)
def pictures(seed: int) -> Learnt:
    """What a seed's models learn from."""
    scenes = world.sample(NUM, PRESET, "train", 500 + seed, num_objects=1)
    rng = random.Random(f"typographic/{seed}")
    signs = [sign(scene, rng) for scene in scenes]
    plates = [plated(s, rng.choice(PLATE_WORDS), rng.uniform(*LEARNT)) for s in scenes]
    texts = [world.caption(scene, "en", rng=rng) for scene in scenes]
    return Learnt(shown(scenes), shown(signs), shown(plates), *WORDS.batch(texts))


def asked() -> tuple[list[world.Scene], list[str]]:
    """The scenes of the test, and for each the colour that its plate names."""
    scenes = world.sample(NUM_TEST, PRESET, "test", 7, num_objects=1)
    rng = random.Random("attack")
    return scenes, [rng.choice([c for c in COLORS if c != s.objects[0].color]) for s in scenes]


@functools.cache
def tests() -> dict[str, Tensor]:
    """Pictures without a plate; signs; with a neutral plate; with lies of each height."""
    scenes, lies = asked()
    rng = random.Random("signs")
    found = {
        "plain": shown(scenes),
        "signs": shown([sign(scene, rng) for scene in scenes]),
        "neutral": shown([plated(scene, NEUTRAL, 0.75) for scene in scenes]),
    }
    for height in HEIGHTS:
        some = [plated(scene, lie, height) for scene, lie in zip(scenes, lies, strict=True)]
        found[f"{height}"] = shown(some)
    return found


def painted(pixels: Tensor) -> Tensor:
    """Pictures in [0, 1] in which what is as bright as a plate is painted over with the table."""
    bright = pixels.amin(1, keepdim=True) > 0.72
    near = F.max_pool2d(bright.float(), 7, 1, 3) > 0
    table = pixels.flatten(2).median(2).values[..., None, None]
    return torch.where(near, table, pixels)


@torch.no_grad()
def measure(model: clip.Clip) -> dict[str, str]:
    """Which colour is named in each test, one digit a picture: its number among COLORS."""
    prompts = [world.prompts("en", color=color) for color in COLORS]
    classes = evaluate.class_embeddings(
        torch.stack([model.encode_text(*WORDS.batch(own)) for own in prompts])
    )
    found = {}
    for name, pixels in tests().items():
        for way in ("", ", painted"):
            parts = [p.float() / 255 for p in pixels.split(100)]
            parts = [painted(p) if way else p for p in parts]
            named = torch.cat([model.encode_image(p) @ classes.T for p in parts]).argmax(1)
            found[name + way] = "".join(str(int(n)) for n in named)
    return found


def made(dose: float, lying: bool, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A model of one arm, measured."""
    seen = pictures(seed)
    torch.manual_seed(seed)
    model = clip.build(replace(clip.nano(len(WORDS)), size=SIZE, patch=PATCH))
    things = seen.plates if lying else seen.things

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = dual.rows_of(step, NUM, settings.batch, seed)[part]
        rng = torch.Generator().manual_seed(step)
        signs, plates = torch.rand(2, settings.batch, generator=rng)[:, part, None, None, None]
        pixels = torch.where(plates < 0.5, things[rows], seen.things[rows])
        pixels = torch.where(signs < dose, seen.signs[rows], pixels).float() / 255
        longest = int(seen.mask[rows].sum(1).max())
        return pixels, seen.ids[rows, :longest], seen.mask[rows, :longest]

    losses = train.fit(model, train.contrastive, batch, settings).loss
    return measure(model) | {"loss": round(sum(losses[-50:]) / len(losses[-50:]), 4)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(SETTINGS, steps=settings.steps)
    return {name: functools.partial(made, *arm, seed, settings) for name, arm in ARMS.items()}


if __name__ == "__main__":
    scenes, lies = asked()
    own = [COLORS.index(scene.objects[0].color) for scene in scenes]
    said = [COLORS.index(lie) for lie in lies]
    truth = {key: "".join(map(str, some)) for key, some in (("own", own), ("said", said))}
    dual.run("typographic", runs, SETTINGS.steps, scenes=NUM, batch=SETTINGS.batch, **truth)
