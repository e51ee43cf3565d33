"""What lets clip-mini tell exchanged colors, where symbolic CLIPs guess?

    python experiments/pixels.py [--smoke]

Three things set them apart, and each run changes one. A nano CLIP of pictures gets the training of
the standard run of experiments/binding.py (48 kinds, captions of one form, batches of 64). A
symbolic CLIP gets the training of recipes/clip_mini.py. And one gets the standard training with
records in which each object is one of 48 kinds, instead of a color and a shape. Each gets the tests
of binding.py, with false captions worded like those of its training. Writes
vlmbook/results/pixels.json. About an hour and a half on one core. Book: clip/limits.md.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import binding
import dual
import torch
from torch import Tensor

from vlmbook import clip, losses, symbolic, train, world

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "recipes"))
import clip_mini

TESTS = ("recolour", "exchange colors")
STEPS = 1500
CHUNK = 250  # pictures rendered at once

Scenes = Sequence[world.Scene]


def draw(scenes: Scenes) -> Tensor:
    """Pictures (n, 3, 64, 64), a byte a number so that thousands fit in memory."""
    parts = [scenes[i : i + CHUNK] for i in range(0, len(scenes), CHUNK)]
    return torch.cat([(world.render(part).pixels * 255).round().byte() for part in parts])


def standard(seed: int) -> tuple[list[world.Scene], Tensor, Tensor]:
    """Scenes, ids and mask of binding.py's standard run."""
    scenes = world.sample(dual.NUM_TRAIN, "standard", "train", seed, num_objects=2)
    rng = random.Random(seed)
    texts = [
        binding.plain(s, seed * dual.NUM_TRAIN + i, rng.random() < binding.PLACES)
        for i, s in enumerate(scenes)
    ]
    return scenes, *dual.WORDS.batch(texts)


def pictures(seed: int, settings: train.Settings) -> dict[str, str]:
    """A CLIP of pictures after the standard training."""
    scenes, ids, mask = standard(seed)
    pixels = draw(scenes)
    torch.manual_seed(seed)
    model = clip.build(clip.nano(len(dual.WORDS)))

    def batch(step: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = dual.rows_of(step, len(scenes), settings.batch, seed)[part]
        longest = int(mask[rows].sum(1).max())
        return pixels[rows] / 255, ids[rows, :longest], mask[rows, :longest]

    train.fit(model, train.contrastive, batch, replace(settings, rate=1e-3, precision="bf16"))

    def encode(scenes: Scenes) -> Tensor:
        parts = draw(scenes).split(CHUNK)
        return torch.cat([model.encode_image(part / 255) for part in parts])

    return graded(encode, model.encode_text, binding.plain)


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
    return graded(
        lambda scenes: model.encode_scene(*by_kind(scenes)), model.encode_text, binding.plain
    )


def records(seed: int, settings: train.Settings) -> dict[str, str]:
    """A symbolic CLIP after clip-mini's training, with scenes and captions of its own."""
    torch.manual_seed(seed)
    model = symbolic.DualEncoder(symbolic.Config(len(dual.WORDS)))
    for stage in clip_mini.STAGES:
        own = replace(
            stage.settings,
            steps=round(stage.settings.steps * settings.steps / STEPS),
            precision="fp32",
        )
        train.fit(model, functools.partial(bilingual, model), _batches(stage, seed), own)
    return graded(
        lambda scenes: model.encode_scene(*symbolic.vectors(scenes)),
        model.encode_text,
        binding.templated,
    )


def _batches(stage: clip_mini.Stage, seed: int) -> Callable[[int, slice], symbolic.Pairs]:
    """What a stage shows, as records; each of our seeds has its own scenes."""
    size = stage.settings.batch

    def batch(step: int, part: slice) -> symbolic.Pairs:
        preset, num_objects = stage.mix[step % len(stage.mix)]
        scenes = world.sample(
            len(range(size)[part]),
            preset,
            "train",
            10 * (seed + 1) + stage.seed,
            num_objects=num_objects,
            start=step * size + part.start,
        )
        texts = [clip_mini.caption(s, lang) for lang in clip_mini.LANGUAGES for s in scenes]
        return symbolic.Pairs(*symbolic.vectors(scenes), *dual.WORDS.batch(texts))

    return batch


def bilingual(model: symbolic.DualEncoder, forward: Callable, batch: symbolic.Pairs) -> Tensor:
    """train.contrastive for scenes: the mean over the two captions of each."""
    scene_emb, text_emb = forward(batch)
    sets = text_emb.split(len(scene_emb))
    return sum(losses.clip_loss(scene_emb, texts, model.scale) for texts in sets) / len(sets)


@torch.no_grad()
def graded(
    encode: Callable[[Scenes], Tensor],
    encode_text: Callable[[Tensor, Tensor], Tensor],
    say: binding.Say,
) -> dict[str, str]:
    """What a model got right in each test, a digit an item; R@1 counts directions, 0 to 2."""
    found = {}
    for kind in TESTS:
        scenes, *texts = zip(*binding.items("standard", kind, say), strict=True)
        image_emb = encode(scenes)
        true, false = ((image_emb * encode_text(*dual.WORDS.batch(t))).sum(1) for t in texts)
        found[kind] = dual.digits(true > false)
    scenes = binding.gallery("standard")
    texts = [say(s, s.index, False) for s in scenes]
    found["R@1"] = dual.digits(dual.hits(encode(scenes), encode_text(*dual.WORDS.batch(texts))))
    return found


def runs(seed: int, settings: train.Settings) -> dict:
    """All that is trained with a seed."""
    return {
        "pixels": functools.partial(pictures, seed, settings),
        "kinds": functools.partial(kinds, seed, settings),
        "records, clip-mini's training": functools.partial(records, seed, settings),
    }


if __name__ == "__main__":
    dual.run("pixels", runs, STEPS)
