"""Every model answers the same items: the predictions behind the chapter on comparison.

    python experiments/comparison.py [--smoke] [entrant ...]

What is named, or every entrant, is asked all items of the battery, in both languages, by as many
processes as there are cores. What was answered is kept in _build/comparison, so a run that was
interrupted goes on. Writes vlmbook/results/comparison/<entrant>.parquet. Half an hour on two cores.
Book: comparison.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from vlmbook import checkpoint
from vlmbook.evaluate import battery, entrants, predictions
from vlmbook.evaluate.entrants import Prediction

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "_build" / "comparison"
SMOKE = 20  # items


def source() -> str:
    """Changes with what asks, answers and grades: with all of the package's code."""
    files = sorted(Path(checkpoint.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:10]


@torch.no_grad()
def asked(name: str, num: int) -> tuple[list[Prediction], str, float]:
    """All that an entrant says, the fingerprint of its weights, and the seconds that it took."""
    torch.set_num_threads(1)
    entrant, found, seconds = entrants.ENTRANTS[name](), [], 0.0
    weights = entrant.weights
    folder = KEPT / source() / f"{predictions.path_of(name).stem}-{weights[:10]}-{num}"
    folder.mkdir(parents=True, exist_ok=True)
    for skill in battery.SKILLS:
        for language in battery.LANGUAGES:
            path = folder / f"{skill} {language}.json"
            if not path.is_file():
                started = time.perf_counter()
                some = entrant.predict(battery.items(skill, language, num))
                took = time.perf_counter() - started
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps({"seconds": took, "said": some}), "utf8")
                partial.replace(path)
            record = json.loads(path.read_text("utf8"))
            found += [Prediction(*row) for row in record["said"]]
            seconds += record["seconds"]
    return found, weights, seconds


def main() -> None:
    """Ask, and write what was said."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="entrant", help=", ".join(entrants.ENTRANTS))
    parser.add_argument("--smoke", action="store_true", help="a few items; writes nothing")
    given = parser.parse_args()
    names = given.names or list(entrants.ENTRANTS)
    if unknown := sorted(set(names) - set(entrants.ENTRANTS)):
        parser.error(f"there is no entrant {unknown[0]!r}; see --help")
    num = SMOKE if given.smoke else battery.NUM
    about = checkpoint.provenance([0]) | {"battery": battery.fingerprint()}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        results = {name: pool.submit(asked, name, num) for name in names}
        for name, result in results.items():
            found, weights, seconds = result.result()
            print(f"{name}: {len(found)} answers in {seconds:.0f} s", flush=True)
            if not given.smoke:
                own = about | {"weights": weights, "seconds": round(seconds), "items": num}
                predictions.save(name, found, own)


if __name__ == "__main__":
    main()
