"""Train the CLIP that the book looks into: vlmbook/weights/clip-mini.

    python recipes/clip_mini.py [--out FOLDER] [--smoke]
    torchrun --nproc-per-node 8 recipes/clip_mini.py

Every picture is drawn when it is needed and none is seen twice. Each comes with an English and a
Korean caption, and most steps show scenes of equally many objects, so that their number tells none
of them apart. There are two stages: the first shows scenes whose things differ in everything, the
second also those of preset standard, whose captions name a color and a shape and no more. After the
first alone, the model finds pictures by full descriptions and misreads short ones.

A run that was interrupted goes on when it is started again. About two and a half hours on one CPU
core.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import command
import torch
from accelerate import Accelerator
from torch import Tensor

from vlmbook import checkpoint, clip, evaluate, retrieval, tokenizer, train, world


@dataclass(frozen=True)
class Stage:
    """One run of training: its steps show the scenes of mix, (preset, number of objects), in turns.

    seed is that of the scenes.
    """

    settings: train.Settings
    mix: tuple[tuple[str, int | tuple[int, int]], ...]
    seed: int


SEED = 0  # of the weights
SETTINGS = train.Settings(steps=5000, batch=128, warm_up=200, precision="bf16")
STAGES = (
    Stage(SETTINGS, (("full", 1), ("full", 2), ("full", 3), ("full", (1, 3))), 0),
    Stage(
        replace(SETTINGS, steps=1500, rate=5e-4, warm_up=50),
        (("standard", 1), ("full", 2), ("standard", 2), ("full", (1, 3))),
        1,
    ),
)
LANGUAGES = ("en", "ko")
PARTIAL, COMPLETENESS = 0.3, 0.6  # so many captions tell only so much
RELATIONS = 0.3  # so many captions may tell a relation
KEEP_EVERY = 250


def scenes_of(step: int, part: slice, stage: Stage) -> list[world.Scene]:
    """What some rows of a step show."""
    num = len(range(stage.settings.batch)[part])
    start = step * stage.settings.batch + part.start
    preset, num_objects = stage.mix[step % len(stage.mix)]
    return world.sample(num, preset, "train", stage.seed, num_objects=num_objects, start=start)


def batch(
    step: int,
    part: slice,
    stage: Stage,
    words: tokenizer.Tokenizer,
    device: str,
    languages: Sequence[str] = LANGUAGES,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (b, 3, 64, 64) of some rows of a step; ids and mask of their captions, language by
    language: (2 b, T) for two.
    """
    scenes = scenes_of(step, part, stage)
    texts = [caption(scene, language) for language in languages for scene in scenes]
    return world.render(scenes, device=device).pixels, *words.batch(texts)


def caption(scene: world.Scene, language: str) -> str:
    """What the caption of a scene says in a language; always the same."""
    rng = random.Random(f"clip-mini/{scene.seed}/{scene.index}/{language}")
    style = "partial" if rng.random() < PARTIAL else "full"
    relations = rng.random() < RELATIONS
    return world.caption(
        scene, language, style, rng, completeness=COMPLETENESS, relations=relations
    )


@torch.no_grad()
def measure(
    model: clip.Clip,
    words: tokenizer.Tokenizer,
    num: int = 1000,
    languages: Sequence[str] = LANGUAGES,
) -> dict[str, str]:
    """The figures that the model card gives, with their intervals."""
    device = model.mean.device

    def embed_images(scenes: list[world.Scene]) -> Tensor:
        parts = [scenes[i : i + 250] for i in range(0, len(scenes), 250)]
        return torch.cat([model.encode_image(world.render(p, device=device).pixels) for p in parts])

    def embed_texts(texts: list[str]) -> Tensor:
        return model.encode_text(*words.batch(texts))

    found = {}
    preset = world.PRESETS["standard"]
    kinds = [(color, shape) for color in preset.colors for shape in preset.shapes]
    single = world.sample(num, "standard", "test", num_objects=1)
    label = torch.tensor([kinds.index((s.objects[0].color, s.objects[0].shape)) for s in single])
    image_emb = embed_images(single)
    for language in languages:
        prompts = [world.prompts(language, color=color, shape=shape) for color, shape in kinds]
        class_emb = evaluate.class_embeddings(torch.stack([embed_texts(p) for p in prompts]))
        chosen = (image_emb @ class_emb.T).argmax(1).cpu()
        found[f"zero-shot, 48 classes, {language}"] = str(evaluate.accuracy(chosen == label))
    scenes = retrieval.gallery(num)
    image_emb = embed_images(scenes)
    for language in languages:
        texts = [world.caption(s, language, relations=False) for s in scenes]
        scores = image_emb @ embed_texts(texts).T
        for way, table in (("image to text", scores), ("text to image", scores.T)):
            hits = retrieval.recall(retrieval.ranks(table)).cpu()
            found[f"R@1 of {num}, {way}, {language}"] = str(evaluate.accuracy(hits))
    return found


def main() -> None:
    """Train, measure, save, and record how."""
    given = command.read("clip-mini", clip.STEMS)
    record = checkpoint.provenance([SEED, *(stage.seed for stage in STAGES)])

    torch.manual_seed(SEED)
    words, accelerator = tokenizer.load(), Accelerator()
    config = clip.mini(len(words), given.stem)
    model = clip.build(config)
    stages = [replace(stage, settings=command.changed(stage.settings, given)) for stage in STAGES]
    runs = []
    for number, stage in enumerate(stages, 1):
        draw = functools.partial(batch, stage=stage, words=words, device=str(accelerator.device))
        folder = given.state / f"stage-{number}"
        runs.append(train.fit(model, train.contrastive, draw, stage.settings, folder, KEEP_EVERY))
    if accelerator.is_main_process:
        record |= {
            "processes": accelerator.num_processes,
            "stages": [asdict(stage) for stage in stages],
            "seconds": round(sum(run.seconds for run in runs)),
            "pictures": sum(stage.settings.steps * stage.settings.batch for stage in stages),
            "loss": [round(sum(run.loss[-100:]) / len(run.loss[-100:]), 4) for run in runs],
            "curve": [command.curve(run.loss) for run in runs],
            "parameters": sum(p.numel() for p in model.parameters()),
            "measured": measure(model, words, 100 if given.smoke else 1000),
        }
        checkpoint.save(given.out, model, config, record, half=True)
        print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
