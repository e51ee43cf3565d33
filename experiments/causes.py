"""What lets clip-mini tell exchanged colors, where the symbolic CLIPs of binding.py guess?

    python experiments/causes.py [--smoke]

Several things set them apart. Each run changes one or two of them in the standard run of
experiments/binding.py (records of objects, 48 kinds, captions of one form, batches of 64, width 64,
a learning rate of 2e-3): pictures in place of records; clip-mini's training; records that name each
object's kind in place of its color and shape; other widths and another rate. Each model gets the
tests of binding.py, with false captions worded like those of its training. Writes
vlmbook/results/causes.json. About two and a half hours on one core. Book: clip/limits.md.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import binding
import dual
import torch
from torch import Tensor

from vlmbook import clip, symbolic, train, world

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
import clip_mini

TESTS = ("recolour", "exchange colors")
RATE = 1e-3
CHUNK = 250  # pictures rendered at once

Scenes = Sequence[world.Scene]


def graded(
    encode: binding.Encode, encode_text: binding.EncodeText, say: binding.Say = binding.plain
) -> dict[str, str]:
    """What a model got right in the tests of the standard world."""
    return binding.right(encode, encode_text, "standard", say, TESTS)


def draw(scenes: Scenes) -> Tensor:
    """Pictures (n, 3, 64, 64), a byte a number so that thousands fit in memory."""
    parts = [scenes[i : i + CHUNK] for i in range(0, len(scenes), CHUNK)]
    return torch.cat([(world.render(part).pixels * 255).round().byte() for part in parts])


def standard(seed: int) -> tuple[list[world.Scene], Tensor, Tensor]:
    """Scenes, ids and mask of binding.py's standard run."""
    scenes, _, texts = binding.examples("standard", seed)
    return scenes, *dual.WORDS.batch(texts)


def pictures(seed: int, settings: train.Settings, width: int = 128) -> dict[str, str]:
    """A CLIP of pictures after the standard training, at the rate of the book's other ones."""
    scenes, ids, mask = standard(seed)
    pixels = draw(scenes)
    torch.manual_seed(seed)
    config = clip.nano(len(dual.WORDS))
    model = clip.build(replace(config, image_width=width, text_width=width, shared=width))

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = dual.rows_of(step, len(scenes), settings.batch, seed)[part]
        longest = int(mask[rows].sum(1).max())
        return pixels[rows] / 255, ids[rows, :longest], mask[rows, :longest]

    train.fit(model, train.contrastive, batch, replace(settings, rate=RATE, precision="bf16"))

    def encode(scenes: Scenes) -> Tensor:
        parts = draw(scenes).split(CHUNK)
        return torch.cat([model.encode_image(part / 255) for part in parts])

    return graded(encode, model.encode_text)


def by_kind(scenes: Scenes) -> tuple[Tensor, Tensor]:
    """symbolic.vectors with a place for each kind (B, N, 48 + 2), not for color and shape apart."""
    objects, present = symbolic.vectors(scenes)
    preset = world.PRESETS["standard"]
    kinds = torch.zeros(*present.shape, preset.num_kinds)
    for scene, rows in zip(scenes, kinds, strict=True):
        for n, thing in enumerate(scene.objects):
            color, shape = preset.colors.index(thing.color), preset.shapes.index(thing.shape)
            rows[n, color * len(preset.shapes) + shape] = 1.0
    return torch.cat([kinds, objects[..., symbolic.NUM_WORDS :]], -1), present


def kinds(seed: int, settings: train.Settings) -> dict[str, str]:
    """A symbolic CLIP that is told kinds, after the standard training."""
    scenes, ids, mask = standard(seed)
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS)))
    given = by_kind(scenes)
    project = model.scenes.project
    model.scenes.project = torch.nn.Linear(given[0].shape[-1], project.out_features)
    dual.learn(symbolic.Pairs(*given, ids, mask), seed, settings=settings, model=model)
    return graded(lambda scenes: model.encode_scene(*by_kind(scenes)), model.encode_text)


def sized(
    seed: int, settings: train.Settings, width: int = 64, rate: float = dual.SETTINGS.rate
) -> dict[str, str]:
    """A symbolic CLIP of another size or learning rate after the standard training."""
    scenes, ids, mask = standard(seed)
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS), width=width, shared=width))
    pairs = symbolic.Pairs(*symbolic.vectors(scenes), ids, mask)
    dual.learn(pairs, seed, settings=replace(settings, rate=rate), model=model)
    return graded(binding.of_objects(model), model.encode_text)


def records(seed: int, settings: train.Settings) -> dict[str, str]:
    """A symbolic CLIP after clip-mini's training, with scenes and captions of its own."""
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS)))

    def loss(forward: Callable, batch: symbolic.Pairs) -> Tensor:
        return train.contrastive(lambda pairs: (*forward(pairs), model.scale), (batch,))

    for stage in clip_mini.STAGES:
        stage = replace(stage, seed=10 * (seed + 1) + stage.seed)  # each seed has its own scenes
        steps = round(stage.settings.steps * settings.steps / dual.SETTINGS.steps)
        own = replace(stage.settings, steps=steps, precision="fp32")
        train.fit(model, loss, functools.partial(objects, stage=stage), own)
    return graded(binding.of_objects(model), model.encode_text, binding.templated)


def objects(step: int, part: slice, stage: clip_mini.Stage) -> symbolic.Pairs:
    """What clip_mini.batch gives, with records in place of pixels."""
    scenes = clip_mini.scenes_of(step, part, stage)
    texts = [clip_mini.caption(s, lang) for lang in clip_mini.LANGUAGES for s in scenes]
    return symbolic.Pairs(*symbolic.vectors(scenes), *dual.WORDS.batch(texts))


def runs(seed: int, settings: train.Settings) -> dict:
    """All that is trained with a seed."""
    made = {
        "pixels": pictures,
        "pixels, width 64": functools.partial(pictures, width=64),
        "kinds": kinds,
        "width 32": functools.partial(sized, width=32),
        "width 128": functools.partial(sized, width=128),
        "rate 1e-3": functools.partial(sized, rate=RATE),
        "width 128, rate 1e-3": functools.partial(sized, width=128, rate=RATE),
        "records, clip-mini's training": records,
    }
    return {name: functools.partial(make, seed, settings) for name, make in made.items()}


if __name__ == "__main__":
    dual.run("causes", runs)
