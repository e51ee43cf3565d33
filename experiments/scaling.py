"""How the error of a contrastive model falls with its size and its training, and whether one larger
run can be foretold.

    python experiments/scaling.py [--smoke]

Symbolic CLIPs of five widths, each trained for five lengths, and one that is larger and trained for
longer than any: what is fitted to the others has to predict it. Writes
vlmbook/results/scaling.json. An hour on one core. Book: comparison.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import torch

from vlmbook import retrieval, symbolic, train

WIDTHS, STEPS = (12, 16, 24, 32, 48), (250, 500, 1000, 2000, 4000)
LARGER = (64, 8000)
PRESET, NUM_OBJECTS, NUM_GALLERY = "full", 2, 1000


@functools.cache
def tested() -> symbolic.Pairs:
    """What all are tested with."""
    return dual.told(retrieval.gallery(NUM_GALLERY, PRESET, num_objects=NUM_OBJECTS))


@functools.lru_cache(maxsize=1)
def learnt(seed: int) -> symbolic.Pairs:
    """What a seed's models learn from."""
    return dual.training(PRESET, seed, NUM_OBJECTS)


def made(width: int, steps: int, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A model of one width and length, measured."""
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(replace(symbolic.Config(len(dual.WORDS)), width=width))
    settings = replace(settings, steps=steps)
    model, losses = dual.learn(learnt(seed), seed, settings=settings, model=model)
    return {
        "R@1": dual.digits(dual.hits(*dual.embed(model.eval(), tested()))),
        "weights": sum(w.numel() for w in model.parameters()),
        "seen": steps * settings.batch,
        "loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
    }


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    smoke = settings.steps < dual.SETTINGS.steps
    grid = [(width, steps) for width in WIDTHS for steps in STEPS] + [LARGER]
    return {
        f"{width}, {steps}": functools.partial(
            made, width, settings.steps if smoke else steps, seed, settings
        )
        for width, steps in grid
    }


if __name__ == "__main__":
    dual.run("scaling", runs, dual.SETTINGS.steps, gallery=NUM_GALLERY)
