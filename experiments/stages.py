"""What LLaVA's first stage gives, by how much there is to learn from in the second.

    python experiments/stages.py [--smoke]

Small LLaVAs (small_llava.py) learn from N conversations about pictures. Half of them have learnt
before, with the projector alone, to describe other pictures; they have as many steps fewer after
it, so that all have the same. Writes vlmbook/results/stages.json. Over two hours on one core.
Book: llava/stages.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dual
import small_llava as small

from vlmbook import train

SIZES = (250, 1000, 4000, 12_000)  # conversations of the second stage
NUM_FIRST = 4000  # pictures of the first, which come after those
SHARE = 4  # one step in so many is of the first


def made(num: int, first: bool, seed: int, settings: train.Settings) -> dict[str, Any]:
    """A model of one arm, measured."""
    seen = small.pictures(seed)
    model = small.begun(seed, settings)
    steps = settings.steps // SHARE if first else 0
    if first:
        model.learn("projector")
        others = small.Pictures(seen.scenes[-NUM_FIRST:], seen.feats[-NUM_FIRST:])
        small.learn(model, others, 1.0, replace(settings, steps=steps), seed)
    model.learn("projector", "text")
    some = small.Pictures(seen.scenes[:num], seen.feats[:num])
    losses = small.learn(
        model, some, small.DESCRIBES, replace(settings, steps=settings.steps - steps), seed
    )
    return small.measure(model) | {"loss": small.last(losses)}


def runs(seed: int, settings: train.Settings) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is trained with a seed."""
    settings = replace(small.SETTINGS, steps=settings.steps)
    return {
        f"{num}, {'both stages' if first else 'one stage'}": functools.partial(
            made, num, first, seed, settings
        )
        for num in SIZES
        for first in (True, False)
    }


if __name__ == "__main__":
    dual.run("stages", runs, small.SETTINGS.steps, **small.about())
