"""Whether a CLIP knows the colour of a cube, or which colours cubes have: CoGenT.

    python experiments/cogent.py [--smoke]

In CoGenT-A (Johnson et al. 2017) cubes have five colours and cylinders the five others; in B they
trade. Small CLIPs learn from pictures of A, and three of the same make from pictures of all pairs.
Then all choose among sentences that name the color, shape, material or size of a cube or a cylinder
of A and of B. Writes vlmbook/results/cogent.json. Minutes on a GPU, hours on one CPU core. Book:
comparison.md.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import dual
import torch
from torch import Tensor

from vlmbook import clip, train, world
from vlmbook.evaluate import battery, entrants
from vlmbook.world.splits import COGENT

WORDS, FULL, SHAPES = dual.WORDS, world.PRESETS["full"], tuple(COGENT)
ATTRIBUTES = ("color", "shape", "material", "size")
ARMS = {"A": "cogent_a", "all": "train"}  # from what is learnt, and the split
SEEDS = {"A": 5, "all": 3}  # with so many seeds
NUM_PICTURES, AT_ONCE = 40_000, 500
SETTINGS = train.Settings(steps=2000, batch=128, rate=2e-3, warm_up=100, precision="bf16")


class Shown(NamedTuple):
    """How many things P scenes have each (P,), their pictures (P, 3, H, W) uint8, and the ids and
    mask (P, T) of a caption of each.
    """

    num: Tensor
    pixels: Tensor
    ids: Tensor
    mask: Tensor


@functools.lru_cache(maxsize=1)
def shown(arm: str, seed: int, num: int) -> Shown:
    """What a seed's model learns from."""
    device, rng = "cuda" if torch.cuda.is_available() else "cpu", random.Random(seed)
    scenes = world.sample(num, "full", ARMS[arm], 400 + seed, (1, 3))
    texts = [world.caption(scene, rng=rng, relations=False) for scene in scenes]
    parts = [scenes[n : n + AT_ONCE] for n in range(0, num, AT_ONCE)]
    drawn = [(world.render(p, device=device).pixels * 255).round().byte() for p in parts]
    num_of = torch.tensor([len(scene) for scene in scenes])
    return Shown(num_of, torch.cat(drawn), *(of.to(device) for of in WORDS.batch(texts)))


def learnt(arm: str, seed: int, settings: train.Settings) -> clip.Clip:
    """A CLIP that has learnt from pictures and captions; three steps of four show equally many
    things in all pictures.
    """
    smoke = settings.steps < SETTINGS.steps
    data = shown(arm, seed, 1000 if smoke else NUM_PICTURES)
    torch.manual_seed(seed)
    model = clip.build(clip.nano(len(WORDS)))

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        draw = torch.Generator().manual_seed(1_000_003 * seed + step)
        wanted = step % 4  # 0: any
        fits = (data.num == wanted if wanted else data.num > 0).nonzero()[:, 0]
        rows = fits[torch.randint(len(fits), (settings.batch,), generator=draw)[part]]
        rows = rows.to(data.ids.device)
        return data.pixels[rows].float() / 255, data.ids[rows], data.mask[rows]

    train.fit(model, train.contrastive, batch, settings)
    return model


@functools.cache
def items(side: str, attribute: str, num: int) -> list[battery.Item]:
    """Questions about cubes and cylinders of one side, in scenes that hold no others."""

    def wanted(scene: world.Scene, asked: Any) -> bool:
        one = all(o.color in COGENT[o.shape] for o in scene.objects if o.shape in COGENT)
        return scene.objects[asked.objects[0]].shape in COGENT and (one or side == "B")

    values = SHAPES if attribute == "shape" else FULL.values(attribute)
    return battery.asked(
        f"cogent {side} {attribute}",
        f"query_{attribute}",
        values,
        num=num,
        split={"A": "test", "B": "cogent_b"}[side],
        num_objects=(2, 3),
        wanted=wanted,
    )


@torch.no_grad()
def measured(model: clip.Clip, num: int) -> dict[str, str]:
    """Which items a CLIP answers right, a digit each."""
    entrant = entrants.Clip(loaded=(model, WORDS))
    found = {}
    for attribute in ATTRIBUTES:
        for side in ("A", "B"):
            said = entrant.predict(items(side, attribute, num))
            found[f"{attribute}, {side}"] = dual.digits(
                torch.tensor([p.score for p in said]).bool()
            )
    return found


def made(arm: str, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A CLIP of one arm, trained and asked."""
    num = 20 if settings.steps < SETTINGS.steps else battery.NUM
    return measured(learnt(arm, seed, settings), num)


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(SETTINGS, steps=settings.steps)
    arms = (arm for arm in ARMS if seed < SEEDS[arm])
    return {arm: functools.partial(made, arm, seed, settings) for arm in arms}


if __name__ == "__main__":
    about = {"batch": SETTINGS.batch, "scenes": NUM_PICTURES, "questions": battery.NUM}
    dual.run("cogent", runs, SETTINGS.steps, **about)
