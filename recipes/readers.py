"""Train the readers of the comparison: vlmbook/weights/reader-late and the others, one a joint.

    python recipes/readers.py [--joint NAME] [--out FOLDER] [--smoke]

Each is told what is in a scene, and answers questions about it by choosing among the answers that
there are. All learn from the same questions; they differ in how things and words meet
(vlmbook.reader.JOINTS). Half of the questions are English and half Korean, and within a family and
a language each answer is right as often as any other.

A run that was interrupted goes on when it is started again. Ten minutes on one CPU core for each.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import command
import torch
import torch.nn.functional as F
from blip_mini import FAMILIES, LANGUAGES
from torch import Tensor

from vlmbook import checkpoint, reader, symbolic, tokenizer, train, world
from vlmbook.world.questions import answer_text

SEED, PRESET, NUM_OBJECTS = 0, "full", (1, 3)
NUM_SCENES = 60_000
SETTINGS = train.Settings(steps=12_000, batch=64, warm_up=200, precision="bf16")
KEEP_EVERY, RARE = 1000, 40  # answers that fewer than one question in so many has are left out
FULL = world.PRESETS[PRESET]
VALUES = (True, False, *range(10), *FULL.colors, *FULL.shapes, *FULL.materials, *FULL.sizes)
ANSWERS = tuple(dict.fromkeys(answer_text(value, of) for of in LANGUAGES for value in VALUES))
WORDS = tokenizer.load()

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # what a Reader takes, and the right answers


@functools.cache
def asked(num: int) -> tuple[Tensor, ...]:
    """Things (P, N, F) and which are there (P, N), of P scenes; then the scene (Q,), ids and mask
    (Q, T) of Q questions, and the places (Q,) of their answers in ANSWERS.
    """
    scenes = world.sample(num, PRESET, "train", 300 + SEED, NUM_OBJECTS)
    rng = random.Random(SEED)
    groups: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = {}
    for n, scene in enumerate(scenes):
        for q in world.questions(scene, LANGUAGES[n % len(LANGUAGES)], rng, FAMILIES):
            group = groups.setdefault((q.language, q.family), {})
            group.setdefault(q.answer, []).append((n, q.text))
    rows = []
    for group in groups.values():
        total = sum(map(len, group.values()))
        kept = {answer: some for answer, some in group.items() if len(some) * RARE >= total}
        each = min(map(len, kept.values()))
        rows += [(*pair, a) for a, some in kept.items() for pair in rng.sample(some, each)]
    of, texts, answers = zip(*rows, strict=True)
    placed = torch.tensor([ANSWERS.index(answer) for answer in answers])
    return *symbolic.vectors(scenes), torch.tensor(of), *WORDS.batch(texts), placed


def drawn(step: int, part: slice, settings: train.Settings, data: tuple[Tensor, ...]) -> Batch:
    """Some rows of a step."""
    objects, present, of, ids, mask, answers = data
    draw = torch.Generator().manual_seed(1_000_003 * SEED + step)
    rows = torch.randint(len(answers), (settings.batch,), generator=draw)[part]
    longest = int(mask[rows].sum(1).max())
    scenes = of[rows]
    return (
        objects[scenes],
        present[scenes],
        ids[rows, :longest],
        mask[rows, :longest],
        answers[rows],
    )


def chosen(forward: Callable, batch: Batch) -> Tensor:
    """The loss: cross-entropy of the choice."""
    return F.cross_entropy(forward(*batch[:4]), batch[4])


def main() -> None:
    """Train, save, and record how."""
    parser = argparse.ArgumentParser(description="Train the readers of the comparison.")
    parser.add_argument("--joint", choices=reader.JOINTS, help="one of them alone")
    parser.add_argument("--out", type=Path, help="the folder that they are put in")
    parser.add_argument("--smoke", action="store_true", help="a hundredth of it, to try it")
    given = parser.parse_args()
    torch.set_num_threads(1)  # such small models gain nothing from more
    out = given.out or (Path("_build") / "readers-smoke" if given.smoke else checkpoint.SHIPPED)
    settings, num = SETTINGS, NUM_SCENES
    if given.smoke:
        settings, num = replace(SETTINGS, steps=SETTINGS.steps // 100), num // 50
    for joint in [given.joint] if given.joint else reader.JOINTS:
        record = checkpoint.provenance([SEED])
        data = asked(num)
        torch.manual_seed(SEED)
        model = reader.build(reader.Config(len(WORDS), ANSWERS, symbolic.NUM_FEATURES, joint))
        name = f"reader-{joint.replace(' ', '-')}"
        batch = functools.partial(drawn, settings=settings, data=data)
        state = Path("_build") / f"{name}{'-smoke' * given.smoke}"
        run = train.fit(model, chosen, batch, settings, state, KEEP_EVERY)
        record |= {
            "settings": asdict(settings),
            "seconds": round(run.seconds),
            "scenes": num,
            "questions": len(data[-1]),
            "loss": [round(sum(run.loss[-100:]) / len(run.loss[-100:]), 4)],
            "curve": [command.curve(run.loss)],
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        checkpoint.save(out / name, model, model.config, record, half=True)
        print(json.dumps({"joint": joint} | record), flush=True)


if __name__ == "__main__":
    main()
