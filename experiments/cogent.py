"""Whether a model knows the colour of a cube, or which colours cubes have: CoGenT, for each family.

    python experiments/cogent.py [--smoke]

In CoGenT-A (Johnson et al. 2017) cubes have five colours and cylinders the five others; in B they
trade. Small models of the three families learn from A: a CLIP; a BLIP and a reader that begin with,
or look through, that CLIP's eye. Others of the same make learn from scenes of all pairs. Then all
are asked for the color, shape, material and size of cubes and cylinders of A and of B, each in the
way that it has. Writes vlmbook/results/cogent.json. A quarter of an hour on a GPU, a day on one CPU
core. Book: comparison.md.
"""

from __future__ import annotations

import functools
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dual
import torch
from torch import Tensor, nn

from vlmbook import blip, clip, evaluate, reader, retrieval, train, world
from vlmbook.evaluate import battery, entrants
from vlmbook.world.splits import COGENT

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
import readers as recipe  # noqa: E402

WORDS, FULL, SHAPES = dual.WORDS, world.PRESETS["full"], tuple(COGENT)
ATTRIBUTES = ("color", "shape", "material", "size")
ARMS = {"A": "cogent_a", "all": "train"}  # from what is learnt, and the split
NUM_PICTURES, NUM_QUESTIONS = 40_000, 4
CLIP = train.Settings(steps=2000, batch=128, rate=2e-3, warm_up=100, precision="bf16")
BLIP = train.Settings(steps=1500, batch=64, rate=1e-3, warm_up=100, precision="bf16")
READER = train.Settings(steps=1500, batch=256, rate=1e-3, warm_up=100, precision="bf16")
JOINT = "concatenation"


class Shown(NamedTuple):
    """Scenes, how many things each has (P,), their pictures (P, 3, H, W) uint8, and what is said
    and asked about each.

    ids and mask (P, T) are its caption; question, its mask, and answer are (P, Q, T), and there
    (P, Q) is False where there are fewer questions. about (P, 2) says which pictures, and which
    captions, are alike.
    """

    scenes: list[world.Scene]
    num: Tensor
    pixels: Tensor
    ids: Tensor
    mask: Tensor
    about: Tensor
    question: Tensor
    question_mask: Tensor
    answer: Tensor
    there: Tensor


@functools.lru_cache(maxsize=1)
def shown(arm: str, seed: int, num: int) -> Shown:
    """What a seed's models learn from."""
    device, rng = recipe.device(), random.Random(seed)
    scenes = world.sample(num, "full", ARMS[arm], 400 + seed, (1, 3))
    texts = [world.caption(scene, rng=rng, relations=False) for scene in scenes]
    asked = [world.questions(scene, "en", rng, recipe.FAMILIES) for scene in scenes]
    asked = [rng.sample(some, min(NUM_QUESTIONS, len(some))) for some in asked]
    there = torch.tensor([[n < len(some) for n in range(NUM_QUESTIONS)] for some in asked])
    flat = [q for some in asked for q in some]
    about = [(repr(retrieval.full_description(s)), t) for s, t in zip(scenes, texts, strict=True)]

    def placed(rows: Tensor) -> Tensor:
        return rows.new_zeros(*there.shape, rows.shape[1]).masked_scatter(there[..., None], rows)

    parts = [scenes[n : n + recipe.AT_ONCE] for n in range(0, num, recipe.AT_ONCE)]
    drawn = [(world.render(p, device=device).pixels * 255).round().byte() for p in parts]
    question, question_mask = WORDS.batch([q.text for q in flat])
    answer, _ = WORDS.batch([q.answer for q in flat])
    return Shown(
        scenes,
        torch.tensor([len(scene) for scene in scenes]),
        torch.cat(drawn),
        *(of.to(device) for of in WORDS.batch(texts)),
        torch.tensor([[zlib.crc32(x.encode()) for x in pair] for pair in about], device=device),
        placed(question).to(device),
        placed(question_mask).to(device),
        placed(answer).to(device),
        there.to(device),
    )


def rows_of(data: Shown, step: int, part: slice, batch: int, seed: int) -> Tensor:
    """Which pictures are in a part of a step: in three of four steps, of equally many things."""
    draw = torch.Generator().manual_seed(1_000_003 * seed + step)
    wanted = step % 4  # 0: any
    fits = (data.num == wanted if wanted else data.num > 0).nonzero()[:, 0]
    rows = fits[torch.randint(len(fits), (batch,), generator=draw)[part]]
    return rows.to(data.ids.device)


def steps_of(settings: train.Settings, smoke: bool) -> train.Settings:
    """Fewer, to try it."""
    return replace(settings, steps=20, batch=32) if smoke else settings


@functools.lru_cache(maxsize=1)
def contrastive(arm: str, seed: int, smoke: bool) -> clip.Clip:
    """A CLIP that has learnt from pictures and captions."""
    data, settings = shown(arm, seed, 1000 if smoke else NUM_PICTURES), steps_of(CLIP, smoke)
    torch.manual_seed(seed)
    model = clip.build(clip.nano(len(WORDS)))

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = rows_of(data, step, part, settings.batch, seed)
        return data.pixels[rows].float() / 255, data.ids[rows], data.mask[rows]

    train.fit(model, train.contrastive, batch, settings)
    return model


def three_headed(arm: str, seed: int, smoke: bool) -> blip.Blip:
    """A BLIP that has learnt from captions and questions, and begun with the CLIP's eye."""
    data, settings = shown(arm, seed, 1000 if smoke else NUM_PICTURES), steps_of(BLIP, smoke)
    eye = contrastive(arm, seed, smoke)
    torch.manual_seed(seed)
    own = clip.nano(len(WORDS))
    sizes = ("width", "depth", "heads")
    same = {f"{of}_{size}": getattr(own, f"{of}_{size}") for of in ("image", "text") for size in sizes}
    model = blip.build(replace(blip.nano(len(WORDS)), shared=own.shared, **same))
    model.image.load_state_dict(eye.image.state_dict())

    def batch(step: int, part: slice) -> blip.Batch:
        rows = rows_of(data, step, part, settings.batch, seed)
        there, english = data.there[rows], torch.tensor(blip.LANGUAGES["en"], device=rows.device)
        return blip.Batch(
            data.pixels[rows].float() / 255,
            data.ids[rows],
            data.mask[rows],
            language=english.expand(len(rows)),
            about=data.about[rows],
            question=data.question[rows][there],
            question_mask=data.question_mask[rows][there],
            answer=data.answer[rows][there],
            picture=there.nonzero()[:, 0],
            spoken=english.expand(int(there.sum())),
        )

    train.fit(model, train.multitask, batch, settings)
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


Answers = Callable[[Sequence[battery.Item]], Tensor]


def measured(ways: dict[str, Answers], smoke: bool) -> dict[str, Any]:
    """Which items are answered right, in each way that a model has."""
    num = 20 if smoke else battery.NUM
    return {
        f"{name}, {attribute}, {side}": dual.digits(answers(items(side, attribute, num)))
        for name, answers in ways.items()
        for attribute in ATTRIBUTES
        for side in ("A", "B")
    }


def of(entrant: entrants.Entrant) -> Answers:
    """Which items an entrant answers right."""

    @torch.no_grad()
    def answers(some: Sequence[battery.Item]) -> Tensor:
        return torch.tensor([p.score for p in entrant.predict(some)]).bool()

    return answers


def by_clip(arm: str, seed: int, smoke: bool) -> dict[str, Any]:
    """CLIP chooses among sentences."""
    model = contrastive(arm, seed, smoke)
    return measured({"CLIP": of(entrants.Clip(loaded=(model, WORDS)))}, smoke)


def by_blip(arm: str, seed: int, smoke: bool) -> dict[str, Any]:
    """BLIP's heads choose among sentences, and its decoder answers."""
    loaded = (three_headed(arm, seed, smoke), WORDS)
    heads = ("ITC", "ITM", "LM")
    ways = {head: of(entrants.BlipHead(head, loaded=loaded)) for head in heads}
    return measured(ways | {"answers": of(entrants.BlipWriter(loaded=loaded))}, smoke)


def by_reader(arm: str, seed: int, smoke: bool) -> dict[str, Any]:
    """A reader that looks through the CLIP's eye chooses among answers."""
    eye: nn.Module = contrastive(arm, seed, smoke)
    scenes = shown(arm, seed, 1000 if smoke else NUM_PICTURES).scenes
    data = recipe.asked(scenes, recipe.look(scenes, eye), seed, ("en",))
    model, _ = recipe.made(JOINT, seed, steps_of(READER, smoke), data)

    @torch.no_grad()
    def answers(some: Sequence[battery.Item]) -> Tensor:
        said = model.answer(
            reader.look(eye, battery.pixels(some)), [item.question for item in some], WORDS
        )
        return torch.as_tensor(evaluate.exact_match(said, [item.answer for item in some]))

    return measured({"reader": answers}, smoke)


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    smoke = settings.steps < CLIP.steps
    ways = {"CLIP": by_clip, "BLIP": by_blip, "reader": by_reader}
    return {
        f"{arm}, {name}": functools.partial(made, arm, seed, smoke)
        for arm in ARMS
        for name, made in ways.items()
    }


if __name__ == "__main__":
    dual.run("cogent", runs, CLIP.steps, pictures=NUM_PICTURES, questions=battery.NUM)
