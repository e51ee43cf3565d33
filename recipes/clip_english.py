"""Train a CLIP that knows English alone: vlmbook/weights/clip-english, with a tokenizer of its own.

    python recipes/clip_english.py [--out FOLDER] [--smoke]

It is of the nano size, and learns from pictures and captions as clip-mini does at first, without
the Korean ones. The tokenizer has learnt from the English half of what the book's learnt from, so
Korean falls into single bytes. The page on searching in Korean begins with it. About half an hour
on one CPU core.
"""

from __future__ import annotations

import functools
import json
import runpy
from dataclasses import asdict, replace
from pathlib import Path

import clip_mini
import command
import torch
from accelerate import Accelerator

from vlmbook import checkpoint, clip, tokenizer, train

SEED, VOCAB_SIZE = 0, 512
STAGE = clip_mini.Stage(
    train.Settings(steps=3000, batch=128, rate=2e-3, warm_up=100, precision="bf16"),
    (("full", 1), ("full", 2), ("full", 3), ("full", (1, 3))),
    2,
)
KEEP_EVERY = 250


def words(share: float = 1.0) -> tokenizer.Tokenizer:
    """A vocabulary of what is said in English; share is the part of the corpus that is read."""
    corpus = runpy.run_path(str(Path(__file__).with_name("tokenizer.py")))["corpus"]
    return tokenizer.train((text for text in corpus(share) if text.isascii()), VOCAB_SIZE)


def main() -> None:
    """Train, measure, save, and record how."""
    given = command.read("clip-english", clip.STEMS)
    record = checkpoint.provenance([SEED, STAGE.seed])
    torch.manual_seed(SEED)
    own, accelerator = words(0.02 if given.smoke else 1.0), Accelerator()
    config = clip.nano(len(own), given.stem)
    model = clip.build(config)
    stage = replace(STAGE, settings=command.changed(STAGE.settings, given))
    draw = functools.partial(
        clip_mini.batch,
        stage=stage,
        words=own,
        device=str(accelerator.device),
        languages=("en",),
    )
    run = train.fit(model, train.contrastive, draw, stage.settings, given.state, KEEP_EVERY)
    if accelerator.is_main_process:
        record |= {
            "processes": accelerator.num_processes,
            "stages": [asdict(stage)],
            "seconds": round(run.seconds),
            "pictures": stage.settings.steps * stage.settings.batch,
            "loss": [round(sum(run.loss[-100:]) / len(run.loss[-100:]), 4)],
            "curve": [command.curve(run.loss)],
            "parameters": sum(p.numel() for p in model.parameters()),
            "measured": clip_mini.measure(model, own, 100 if given.smoke else 1000, ("en",)),
        }
        checkpoint.save(given.out, model, config, record, half=True)
        own.save(given.out)
        print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
