"""Symbolic CLIPs, trained many times over: what the experiments on contrastive losses share.

A seed decides the initial weights, the scenes and captions of training, and their order; the scenes
that are tested are the same for all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmbook import checkpoint, losses, retrieval, symbolic, tokenizer, train, world

RESULTS = Path(__file__).resolve().parent.parent / "vlmbook" / "results"
WORDS = tokenizer.load()
NUM_TRAIN = 20_000
SEEDS = (0, 1, 2, 3, 4)
SETTINGS = train.Settings(steps=1500, batch=64, rate=2e-3)  # a finding may have other steps

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # scene_emb, text_emb, scale, same


def softmax(scene_emb: Tensor, text_emb: Tensor, scale: Tensor | float, same: Tensor) -> Tensor:
    """CLIP's loss."""
    return losses.clip_loss(scene_emb, text_emb, scale, same)


def told(scenes: Sequence[world.Scene], seed: int = 0, **dials: Any) -> symbolic.Pairs:
    """Scenes and one caption of each, without relations; dials are those of world.caption."""
    return symbolic.pairs(scenes, WORDS, rng=random.Random(seed), **{"relations": False, **dials})


def training(preset: str, seed: int, num_objects: Any = 2, **dials: Any) -> symbolic.Pairs:
    """Pairs to learn from."""
    scenes = world.sample(NUM_TRAIN, preset, "train", seed, num_objects=num_objects)
    return told(scenes, seed, **dials)


def rows_of(step: int, num: int, batch: int, seed: int) -> Tensor:
    """Which of num pairs are in a step."""
    return torch.randint(
        num, (batch,), generator=torch.Generator().manual_seed(1_000_003 * seed + step)
    )


def take(pairs: symbolic.Pairs, rows: Tensor) -> symbolic.Pairs:
    """Some of the pairs, with no more padding than they need."""
    objects, present, ids, mask = (part[rows] for part in pairs)
    longest = int(mask.sum(1).max())
    return symbolic.Pairs(objects, present, ids[:, :longest], mask[:, :longest])


def learn(
    pairs: symbolic.Pairs,
    seed: int,
    loss: Loss = softmax,
    settings: train.Settings = SETTINGS,
    scale: float | None = None,
    watch: Callable[[int, symbolic.DualEncoder], None] | None = None,
    model: symbolic.DualEncoder | None = None,
) -> tuple[symbolic.DualEncoder, list[float]]:
    """A symbolic CLIP and its losses; with a scale, that one is kept instead of being learnt."""
    torch.manual_seed(seed)
    model = model or symbolic.DualEncoder(symbolic.Config(len(WORDS)))

    def batch(step: int, part: slice) -> symbolic.Pairs:
        return take(pairs, rows_of(step, len(pairs.ids), settings.batch, seed)[part])

    def value(forward: Callable, batch: symbolic.Pairs) -> Tensor:
        same = losses.same_texts(batch.ids)
        return loss(*forward(batch), model.scale if scale is None else scale, same)

    return model, train.fit(model, value, batch, settings, watch=watch).loss


@torch.no_grad()
def embed(model: symbolic.DualEncoder, pairs: symbolic.Pairs) -> tuple[Tensor, Tensor]:
    """scene_emb and text_emb (n, E) of pairs."""
    return model(pairs)


def hits(scene_emb: Tensor, text_emb: Tensor) -> Tensor:
    """R@1 of each pair, the mean of both directions: (n,)."""
    scores = scene_emb @ text_emb.T
    both = [retrieval.recall(retrieval.ranks(s)).float() for s in (scores, scores.T)]
    return (both[0] + both[1]) / 2


def digits(values: Tensor) -> str:
    """One digit an item: 0 or 1, and for means of two, 0, 1 or 2 halves."""
    factor = 1 if values.dtype == torch.bool else 2
    return "".join(str(int(v)) for v in (values.float() * factor).round())


Runs = Callable[[int, train.Settings], dict[str, Callable[[], dict[str, Any]]]]


def run(
    name: str, runs: Runs, steps: int = 1500, seeds: Sequence[int] = SEEDS, **about: Any
) -> None:
    """Do all runs of all seeds, and write vlmbook/results/<name>.json.

    runs(seed, settings) names what is to be trained, and how; each gives a record, {key: value}.
    A record is kept when it is made, so an experiment that was interrupted goes on when it is
    started again, unless its own file or this one has changed. --smoke tries everything in little
    and writes nothing.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="a few steps, to try it")
    smoke = parser.parse_args().smoke
    torch.set_num_threads(1)  # such small models gain nothing from more
    if smoke:
        for what, make in runs(0, replace(SETTINGS, steps=20)).items():
            print(what, _brief(make()), flush=True)
        print("tried; nothing was written")
        return
    settings, kept = replace(SETTINGS, steps=steps), _kept(name)
    models: dict[str, dict[str, list]] = {}
    seconds = 0.0
    for seed in seeds:
        for what, make in runs(seed, settings).items():
            path = kept / f"{seed} {what}.json"
            if not path.is_file():
                started = time.monotonic()
                record = make() | {"seconds": 0}
                record["seconds"] = round(time.monotonic() - started, 1)
                path.write_text(json.dumps(record), "utf8")
                print(seed, what, _brief(record), flush=True)
            record = json.loads(path.read_text("utf8"))
            seconds += record.pop("seconds")
            for key, value in record.items():
                models.setdefault(what, {}).setdefault(key, []).append(value)
    found = checkpoint.provenance(seeds) | {"seconds": round(seconds), "steps": steps}
    found |= {"batch": settings.batch, "scenes": NUM_TRAIN, **about, "models": models}
    (RESULTS / f"{name}.json").write_text(json.dumps(found) + "\n", "utf8")
    shutil.rmtree(kept)
    print(f"wrote {name}.json; {seconds:.0f} s in all")


def _kept(name: str) -> Path:
    """Where the records of an unfinished experiment are, under a name that follows its source."""
    here = Path(__file__).resolve().parent
    source = b"".join((here / file).read_bytes() for file in ("dual.py", f"{name}.py"))
    folder = here.parent / "_build" / "experiments"
    folder /= f"{name}-{hashlib.sha256(source).hexdigest()[:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    """A record for the eye: shares in place of digits, and no long lists."""
    short = {}
    for key, value in record.items():
        if isinstance(value, str) and value.isdigit():
            short[key] = round(sum(map(int, value)) / len(value), 3)
        elif isinstance(value, (int, float)):
            short[key] = round(value, 3)
    return short
