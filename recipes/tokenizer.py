"""Train the book's tokenizer on captions, questions and answers of the world, in both languages.

    python recipes/tokenizer.py [--out FOLDER] [--smoke]

Only scenes of split train and templates that captions of training use are read. The same command
writes the same bytes. About ten seconds on one core.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Iterator
from pathlib import Path

import tokenizers

from vlmbook import tokenizer, world

SEED, VOCAB_SIZE = 0, 832
NUM_SCENES = {"full": 3000, "standard": 1000}
STYLES = ("full", "partial", "counts")
NEGATION = 0.2  # probability of a sentence about what is absent


def corpus(share: float = 1.0) -> Iterator[str]:
    """Captions, questions and answers; share is the part of NUM_SCENES that is used."""
    rng = random.Random(SEED)
    for preset, num in NUM_SCENES.items():
        for i, scene in enumerate(world.sample(round(num * share), preset, seed=SEED)):
            for language in ("en", "ko"):
                style = STYLES[i % len(STYLES)]
                counts = ("exact", "vague")[i % 2]
                yield world.caption(scene, language, style, rng, counts=counts, negation=NEGATION)
                for question in world.questions(scene, language, rng):
                    yield from (question.text, question.answer)


def main() -> None:
    """Train, save, and record how."""
    parser = argparse.ArgumentParser(description="Train the book's tokenizer.")
    parser.add_argument("--out", type=Path, default=tokenizer.SHIPPED, help="where to write it")
    parser.add_argument("--smoke", action="store_true", help="a fiftieth of the text, to try it")
    arguments = parser.parse_args()
    started = time.monotonic()
    texts = list(corpus(0.02 if arguments.smoke else 1.0))
    made = tokenizer.train(texts, VOCAB_SIZE)
    made.save(arguments.out)
    run = {
        "command": "python recipes/tokenizer.py" + (" --smoke" if arguments.smoke else ""),
        "seed": SEED,
        "texts": len(texts),
        "characters": sum(map(len, texts)),
        "vocab_size": len(made),
        "device": f"{platform.machine()}, CPU",
        "tokenizers": tokenizers.__version__,
        "seconds": round(time.monotonic() - started, 1),
    }
    (arguments.out / "run.json").write_text(json.dumps(run, indent=1) + "\n", "utf8")
    print(json.dumps(run))


if __name__ == "__main__":
    main()
