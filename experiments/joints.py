"""Which joint between pictures and questions answers best, on the items of the comparison.

    python experiments/joints.py [--smoke]

The readers of recipes/readers.py, each with five seeds: one frozen eye, equally many weights, the
same questions to learn from, and another way for a picture to meet a question. Which items of the
battery are answered right is kept, one digit each. Writes vlmbook/results/joints.json. A quarter
of an hour on a GPU, days on one CPU core. Book: comparison.md.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dual
import torch
from torch import Tensor

from vlmbook import checkpoint, evaluate, reader, train
from vlmbook.evaluate import battery

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
import readers as recipe  # noqa: E402

SKILLS = tuple(
    name for name, skill in battery.SKILLS.items() if skill.way == "ask" and name != "reading"
)


@functools.cache
@torch.no_grad()
def tested(num: int) -> dict[str, tuple[Sequence[battery.Item], Tensor]]:
    """By skill and language: the items, and what the eye sees of them."""
    found, eye = {}, checkpoint.load(recipe.EYE)[0].to(recipe.device())
    for skill in SKILLS:
        pixels = battery.pixels(battery.items(skill, "en", num))  # the scenes of both languages
        feats = torch.cat([reader.look(eye, some) for some in pixels.split(recipe.AT_ONCE)])
        for language in battery.LANGUAGES:
            found[f"{skill}/{language}"] = (battery.items(skill, language, num), feats)
    return found


def made(joint: str, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A reader, trained and asked."""
    smoke = settings.steps < recipe.SETTINGS.steps
    data = recipe.training(seed, recipe.NUM_PICTURES // (50 if smoke else 1))
    how = replace(recipe.SETTINGS, steps=settings.steps)
    model, run = recipe.made(joint, seed, how, data)
    parts = torch.tensor(run.loss).split(max(1, len(run.loss) // 20))
    record: dict[str, Any] = {"loss": [round(part.mean().item(), 4) for part in parts]}
    for name, (items, feats) in tested(20 if smoke else battery.NUM).items():
        said = model.answer(feats, [item.question for item in items], recipe.WORDS)
        right = evaluate.exact_match(said, [item.answer for item in items])
        record[name] = dual.digits(torch.as_tensor(right))
    return record | {"weights": sum(w.numel() for w in model.parameters())}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    return {joint: functools.partial(made, joint, seed, settings) for joint in reader.JOINTS}


if __name__ == "__main__":
    dual.run(
        "joints",
        runs,
        recipe.SETTINGS.steps,
        asked_by=recipe.SETTINGS.batch,
        pictures=recipe.NUM_PICTURES,
    )
