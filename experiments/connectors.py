"""What the projector and the number of visual tokens change in a LLaVA.

    python experiments/connectors.py [--smoke]

Small LLaVAs (small_llava.py) with a linear or an MLP projector, and with 1, 4, 16 or 64 tokens for
a picture, averaged from the 64 that the eye gives. Eight seeds, since the differences are expected
to be small. Writes vlmbook/results/connectors.json. Two hours on one core. Book: llava/stages.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import small_llava as small

from vlmbook import train

NUM, SEEDS = 12_000, tuple(range(8))
ARMS = {"linear, 16": ("linear", 4)} | {f"mlp, {side**2}": ("mlp", side) for side in (1, 2, 4, 8)}


def made(projector: str, side: int, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A model of one arm, measured."""
    seen = small.pictures(seed)
    model = small.begun(seed, settings, side, projector=projector)
    model.learn("projector", "text")
    some = small.Pictures(seen.scenes[:NUM], seen.feats[:NUM])
    losses = small.learn(model, some, small.DESCRIBES, settings, seed)
    return small.measure(model) | {"loss": small.last(losses)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(small.SETTINGS, steps=settings.steps)
    return {name: functools.partial(made, *arm, seed, settings) for name, arm in ARMS.items()}


if __name__ == "__main__":
    dual.run("connectors", runs, small.SETTINGS.steps, SEEDS, **small.about())
