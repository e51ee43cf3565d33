"""How much of question answering needs no picture: the same model with and without sight.

    python experiments/shortcuts.py [--smoke]

Trains vlmbook.symbolic.Answerer on questions about scenes of split train, with five seeds, once
with the scene and once without, and writes vlmbook/results/shortcuts.json: which of the same test
questions each got right. A seed decides the initial weights, the order of the data and the scenes.
About ten minutes on one core. Book: concepts/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from vlmbook import checkpoint, symbolic, tokenizer, world

RESULT = Path(__file__).resolve().parent.parent / "vlmbook" / "results" / "shortcuts.json"
FAMILIES = ("exist", "negated_exist", "count", "query_color", "query_shape", "compare", "relation")
SEEDS = (0, 1, 2, 3, 4)
BATCH, RATE = 64, 1e-3
PRESET, NUM_OBJECTS = "standard", (2, 5)


def asked(split: str, num_scenes: int, seed: int) -> list[tuple[world.Scene, world.Question]]:
    """Questions of all families about scenes of a split."""
    rng = random.Random(seed)
    scenes = world.sample(num_scenes, PRESET, split, seed, num_objects=NUM_OBJECTS)
    return [(s, q) for s in scenes for q in world.questions(s, "en", rng, FAMILIES)]


def train(
    data: symbolic.Questions, vocab_size: int, blind: bool, seed: int, steps: int
) -> symbolic.Answerer:
    """A trained model; the learning rate falls to zero along a cosine."""
    torch.manual_seed(seed)
    model = symbolic.Answerer(vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in tqdm(range(steps), desc=f"{'blind' if blind else 'sees'}, seed {seed}", disable=None):
        rows = torch.randint(len(data.answers), (BATCH,))
        batch = symbolic.Questions(*(part[rows] for part in data))
        loss = F.cross_entropy(model(batch, blind), batch.answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def grade(model: symbolic.Answerer, data: symbolic.Questions, blind: bool) -> str:
    """One digit a test question: 1 where the answer is right."""
    right = model(data, blind).argmax(1) == data.answers
    return "".join(str(int(r)) for r in right)


def main() -> None:
    """Train every model and write what it got right."""
    parser = argparse.ArgumentParser(description="Train with and without sight.")
    parser.add_argument(
        "--smoke", action="store_true", help="a few steps, to try it; writes nothing"
    )
    smoke = parser.parse_args().smoke
    started = time.monotonic()
    words = tokenizer.load()
    steps, num_train = (20, 200) if smoke else (3000, 10_000)
    test = asked("test", 40 if smoke else 400, seed=0)
    test_data = symbolic.questions(test, words)
    correct: dict[str, list[str]] = {"sees": [], "blind": []}
    for seed in SEEDS[: 1 if smoke else None]:
        pairs = asked("train", num_train, seed)
        data = symbolic.questions(pairs, words)
        for name, graded in correct.items():
            model = train(data, len(words), name == "blind", seed, steps)
            graded.append(grade(model, test_data, name == "blind"))
            print(name, seed, graded[-1].count("1") / len(test), flush=True)
    result = {
        **checkpoint.provenance(SEEDS),
        "seconds": round(time.monotonic() - started),
        "steps": steps,
        "batch": BATCH,
        "train_questions": len(pairs),
        "families": [q.family for _, q in test],
        "answers": [q.answer for _, q in test],
        "correct": correct,
    }
    if smoke:
        print("tried; nothing was written")
        return
    RESULT.write_text(json.dumps(result) + "\n", "utf8")
    print(f"wrote {RESULT.name} in {result['seconds']} s")


if __name__ == "__main__":
    main()
