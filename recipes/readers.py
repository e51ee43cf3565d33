"""Train the readers of the comparison: vlmbook/weights/reader-late and the others, one a joint.

    python recipes/readers.py [--joint NAME] [--seed N] [--out FOLDER] [--smoke]

Each answers questions about pictures by choosing among the answers that there are. All have the
same eye, that of clip-mini, which stays as it is, and learn from the same questions; they differ in
how a picture meets a question (vlmbook.reader.JOINTS). A seed decides weights, scenes, questions
and their order. Half of the questions are English and half Korean, and within a family and a
language each answer is right as often as any other.

A run that was interrupted goes on when it is started again. Three minutes on a GPU for all of them,
most of a day on one CPU core.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import command
import torch
import torch.nn.functional as F
from blip_mini import FAMILIES, LANGUAGES
from torch import Tensor, nn

from vlmbook import checkpoint, reader, tokenizer, train, world
from vlmbook.world.questions import answer_text

EYE, PRESET, NUM_OBJECTS = "clip-mini", "full", (1, 3)
NUM_PICTURES, AT_ONCE = 60_000, 500
SETTINGS = train.Settings(steps=2000, batch=256, rate=2e-3, warm_up=200, precision="bf16")
KEEP_EVERY, RARE = 1000, 40  # answers that fewer than one question in so many has are left out
FULL = world.PRESETS[PRESET]
VALUES = (True, False, *range(10), *FULL.colors, *FULL.shapes, *FULL.materials, *FULL.sizes)
ANSWERS = tuple(dict.fromkeys(answer_text(value, of) for of in LANGUAGES for value in VALUES))
WORDS = tokenizer.load()


class Asked(NamedTuple):
    """What the eye saw of pictures, feats (P, N, C) float16, and Q questions about them.

    picture (Q,) is the row of a question's picture, answers (Q,) the place of its answer in
    ANSWERS; ids and mask are (Q, T).
    """

    feats: Tensor
    picture: Tensor
    ids: Tensor
    mask: Tensor
    answers: Tensor


@functools.cache
def device() -> str:
    """Where it is best done."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.no_grad()
def look(scenes: Sequence[world.Scene], eye: nn.Module) -> Tensor:
    """What an eye sees of scenes, (P, N, C) float16."""
    eye = eye.to(device())
    parts = [scenes[n : n + AT_ONCE] for n in range(0, len(scenes), AT_ONCE)]
    return torch.cat(
        [reader.look(eye, world.render(part, device=device()).pixels).half() for part in parts]
    )


@functools.lru_cache(maxsize=1)
def training(seed: int, num: int = NUM_PICTURES) -> Asked:
    """Pictures and questions to learn from."""
    scenes = world.sample(num, PRESET, "train", 300 + seed, NUM_OBJECTS)
    return asked(scenes, look(scenes, checkpoint.load(EYE)[0]), seed)


def asked(
    scenes: Sequence[world.Scene], feats: Tensor, seed: int, languages: Sequence[str] = LANGUAGES
) -> Asked:
    """Questions about scenes, of which feats were seen."""
    rng = random.Random(seed)
    groups: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = {}
    for n, scene in enumerate(scenes):
        for q in world.questions(scene, languages[n % len(languages)], rng, FAMILIES):
            group = groups.setdefault((q.language, q.family), {})
            group.setdefault(q.answer, []).append((n, q.text))
    rows = []
    for group in groups.values():
        total = sum(map(len, group.values()))
        kept = {answer: some for answer, some in group.items() if len(some) * RARE >= total}
        each = min(map(len, kept.values()))
        rows += [(*pair, a) for a, some in kept.items() for pair in rng.sample(some, each)]
    picture, texts, answers = zip(*rows, strict=True)
    ids, mask = WORDS.batch(texts)
    placed = torch.tensor([ANSWERS.index(answer) for answer in answers])
    moved = (of.to(device()) for of in (torch.tensor(picture), ids, mask, placed))
    return Asked(feats, *moved)


def made(
    joint: str, seed: int, settings: train.Settings, data: Asked, folder: Path | None = None
) -> tuple[reader.Reader, train.History]:
    """A reader, trained."""
    torch.manual_seed(seed)
    config = reader.Config(len(WORDS), ANSWERS, joint, EYE, data.feats.shape[2])
    model = reader.build(config)

    def batch(step: int, part: slice) -> tuple[Tensor, ...]:
        draw = torch.Generator().manual_seed(1_000_003 * seed + step)
        rows = torch.randint(len(data.answers), (settings.batch,), generator=draw)[part]
        rows = rows.to(data.answers.device)
        picture, ids, mask, answers = (of[rows] for of in data[1:])
        longest = int(mask.sum(1).max())
        return data.feats[picture], ids[:, :longest], mask[:, :longest], answers

    def loss(forward: Callable, given: tuple[Tensor, ...]) -> Tensor:
        return F.cross_entropy(forward(*given[:3]), given[3])

    return model, train.fit(model, loss, batch, settings, folder, KEEP_EVERY)


def main() -> None:
    """Train, save, and record how."""
    parser = argparse.ArgumentParser(description="Train the readers of the comparison.")
    parser.add_argument("--joint", choices=reader.JOINTS, help="one of them alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the folder that they are put in")
    parser.add_argument("--smoke", action="store_true", help="a hundredth of it, to try it")
    given = parser.parse_args()
    out = given.out or (Path("_build") / "readers-smoke" if given.smoke else checkpoint.SHIPPED)
    settings, num = SETTINGS, NUM_PICTURES
    if given.smoke:
        settings, num = replace(SETTINGS, steps=SETTINGS.steps // 100, batch=64), num // 50
    for joint in [given.joint] if given.joint else reader.JOINTS:
        data = training(given.seed, num)
        name = f"reader-{joint.replace(' ', '-')}"
        state = Path("_build") / f"{name}-{given.seed}{'-smoke' * given.smoke}"
        model, run = made(joint, given.seed, settings, data, state)
        record = checkpoint.provenance([given.seed]) | {
            "eye": EYE,
            "settings": asdict(settings),
            "seconds": round(run.seconds),
            "pictures": num,
            "questions": len(data.answers),
            "loss": [round(sum(run.loss[-100:]) / len(run.loss[-100:]), 4)],
            "curve": [command.curve(run.loss)],
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        checkpoint.save(out / name, model, model.config, record, half=True)
        print(json.dumps({"joint": joint} | record, indent=1), flush=True)


if __name__ == "__main__":
    main()
