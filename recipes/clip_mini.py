"""Train the CLIP that the book looks into: vlmbook/weights/clip-mini.

    python recipes/clip_mini.py [--out FOLDER] [--smoke]
    torchrun --nproc-per-node 8 recipes/clip_mini.py

Every picture is drawn when it is needed and none is seen twice. Each comes with an English and a
Korean caption, and three steps in four show scenes of equally many objects, so that their number
tells none of them apart. A run that was interrupted goes on when it is started again. About two and
a half hours on one CPU core.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from vlmbook import checkpoint, clip, evaluate, retrieval, tokenizer, train, world

SEED, PRESET = 0, "full"
SETTINGS = train.Settings(steps=5000, batch=128, warm_up=200, precision="bf16")
SMOKE = replace(SETTINGS, steps=32, warm_up=8)
NUM_OBJECTS = (1, 2, 3, (1, 3))  # of the scenes of a step, in turns
LANGUAGES = ("en", "ko")
PARTIAL, COMPLETENESS = 0.3, 0.6  # so many captions tell only so much
RELATIONS = 0.3  # so many captions may tell a relation
KEEP_EVERY = 250


def batch(
    step: int, part: slice, settings: train.Settings, words: tokenizer.Tokenizer, device: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (b, 3, 64, 64) of some rows of a step, ids and mask (2 b, T): English, then Korean."""
    num = len(range(settings.batch)[part])
    start = step * settings.batch + part.start
    num_objects = NUM_OBJECTS[step % len(NUM_OBJECTS)]
    scenes = world.sample(num, PRESET, "train", SEED, num_objects=num_objects, start=start)
    texts = [caption(scene, language) for language in LANGUAGES for scene in scenes]
    return world.render(scenes, device=device).pixels, *words.batch(texts)


def caption(scene: world.Scene, language: str) -> str:
    """What one of the two captions of a scene says; always the same."""
    rng = random.Random(f"clip-mini/{scene.seed}/{scene.index}/{language}")
    style = "partial" if rng.random() < PARTIAL else "full"
    relations = rng.random() < RELATIONS
    return world.caption(
        scene, language, style, rng, completeness=COMPLETENESS, relations=relations
    )


@torch.no_grad()
def measure(model: clip.Clip, words: tokenizer.Tokenizer, num: int = 1000) -> dict[str, str]:
    """The figures that the model card gives, with their intervals."""
    device = model.mean.device

    def embed_images(scenes: list[world.Scene]) -> Tensor:
        parts = [scenes[i : i + 250] for i in range(0, len(scenes), 250)]
        return torch.cat([model.encode_image(world.render(p, device=device).pixels) for p in parts])

    def embed_texts(texts: list[str]) -> Tensor:
        return model.encode_text(*(t.to(device) for t in words.batch(texts)))

    found = {}
    preset = world.PRESETS["standard"]
    kinds = [(color, shape) for color in preset.colors for shape in preset.shapes]
    single = world.sample(num, "standard", "test", SEED, num_objects=1)
    label = torch.tensor([kinds.index((s.objects[0].color, s.objects[0].shape)) for s in single])
    image_emb = embed_images(single)
    for language in LANGUAGES:
        thing = functools.partial(world.word, language=language)
        names = [f"{thing('color', c)} {thing('shape', s)}" for c, s in kinds]
        prompts = [f"a {name}" if language == "en" else name for name in names]
        chosen = (image_emb @ embed_texts(prompts).T).argmax(1).cpu()
        found[f"zero-shot, 48 classes, {language}"] = str(evaluate.accuracy(chosen == label))
    scenes = retrieval.gallery(num, PRESET, seed=SEED)
    image_emb = embed_images(scenes)
    for language in LANGUAGES:
        texts = [world.caption(s, language, relations=False) for s in scenes]
        scores = image_emb @ embed_texts(texts).T
        for way, table in (("image to text", scores), ("text to image", scores.T)):
            hits = retrieval.recall(retrieval.ranks(table)).cpu()
            found[f"R@1 of {num}, {way}, {language}"] = str(evaluate.accuracy(hits))
    return found


def main() -> None:
    """Train, measure, save, and record how."""
    parser = argparse.ArgumentParser(description="Train clip-mini.")
    parser.add_argument("--out", type=Path, default=checkpoint.SHIPPED / "clip-mini")
    parser.add_argument(
        "--smoke", action="store_true", help="less than a hundredth of it, to try it"
    )
    parser.add_argument("--stem", choices=clip.STEMS, default="conv")
    parser.add_argument("--steps", type=int, help="another length, such as for a GPU")
    parser.add_argument("--batch", type=int, help="another number of pictures in a step")
    parser.add_argument("--threads", type=int, help="CPU threads to use")
    parser.add_argument("--state", type=Path, help="where the unfinished run is kept")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    changes = {k: v for k in ("steps", "batch") if (v := getattr(given, k))}
    settings = replace(SMOKE if given.smoke else SETTINGS, **changes)
    kept = given.state or Path("_build") / f"clip-mini-{given.stem}{'-smoke' * given.smoke}"
    record = checkpoint.provenance([SEED])

    torch.manual_seed(SEED)
    words, accelerator = tokenizer.load(), Accelerator()
    config = clip.mini(len(words), given.stem)
    model = clip.build(config)
    draw = functools.partial(batch, settings=settings, words=words, device=str(accelerator.device))
    history = train.fit(model, train.contrastive, draw, settings, kept, KEEP_EVERY)
    if accelerator.is_main_process:
        record |= {
            "settings": {k: getattr(settings, k) for k in settings.__dataclass_fields__},
            "seconds": round(history.seconds),
            "pictures": settings.steps * settings.batch,
            "loss": round(sum(history.loss[-100:]) / len(history.loss[-100:]), 4),
            "parameters": sum(p.numel() for p in model.parameters()),
            "measured": measure(model, words, 100 if given.smoke else 1000),
        }
        checkpoint.save(given.out, model, config, record, half=True)
        print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
