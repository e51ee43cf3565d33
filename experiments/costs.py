"""What each model of the comparison costs: weights, operations, memory, time, and its training.

    python experiments/costs.py [--device cpu|cuda] [--smoke]

All are asked the same: how well a sentence fits a picture, a question, answered or chosen among
ten sentences, a description, and how long it takes to see a picture alone; one at a time and 32 at
once. On a CPU, with two threads, and in several processes of its own for each model, since one may
be faster than the next. Writes vlmbook/results/costs.json, in which the rows of the other device
stay as they are. Five minutes on a CPU. Book: comparison.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from vlmbook import checkpoint
from vlmbook.evaluate import battery, entrants

RESULT = Path(__file__).resolve().parent.parent / "vlmbook" / "results" / "costs.json"
BATCHES, TRIES, PROCESSES, THREADS = (1, 32), 15, 3, 2
MODELS = tuple(name for name in entrants.ENTRANTS if name not in entrants.BASELINES)


def work(entrant: entrants.Entrant, num: int) -> dict[str, Callable[[], Any]]:
    """What an entrant can be asked, num at a time."""
    swap, color = battery.items("swap", "en", num), battery.items("color", "en", num)
    shown, asked = entrant.show(swap), entrant.show(color)
    texts, questions = [item.texts[0] for item in swap], [item.question for item in color]
    choices = [text for item in color for text in item.texts]
    rows = [n for n, item in enumerate(color) for _ in item.texts]
    found = {}
    if entrant.way(swap) == "fit":
        found["see"] = lambda: entrant.see(shown)
        found["fit"] = lambda: entrant.fit(entrant.see(shown), texts, "en")
    if entrant.way(color) == "fit":
        found["choose"] = lambda: entrant.fit(entrant.see(asked)[rows], choices, "en")
    if entrant.way(color) == "answer":
        found["answer"] = lambda: entrant.answer(asked, questions, "en")
    if entrant.way(battery.items("describe", "en", num)) == "describe":
        found["describe"] = lambda: entrant.describe(shown, "en")
    return found


def timed(call: Callable[[], Any], tries: int) -> tuple[float, Any]:
    """Milliseconds, the median, and what was made last."""
    call()
    spent = []
    for _ in range(tries):
        started = time.perf_counter()
        made = call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent.append(1000 * (time.perf_counter() - started))
    return float(np.median(spent)), made


def together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record of several processes: the median of what they spent, and the least and most."""
    record = runs[0]
    for what, of in record["asked"].items():
        for num, one in of.items():
            spent = sorted(run["asked"][what][num]["ms"] for run in runs)
            one |= {"ms": spent[len(spent) // 2], "low": spent[0], "high": spent[-1]}
            if "tokens" in one:
                one["tokens/s"] = round(1000 * one.pop("tokens") / one["ms"], 1)
    return record


def memory(device: str) -> float:
    """The most that this process has held so far, on a GPU since it was reset, MB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.no_grad()
def measured(name: str, device: str, tries: int) -> dict[str, Any]:
    """All that is measured of an entrant."""
    torch.set_num_threads(THREADS)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    entrant = entrants.ENTRANTS[name]()
    entrant.model.to(device).requires_grad_(False)
    jobs = {num: work(entrant, num) for num in BATCHES}
    before = memory(device)
    gpu = device == "cuda"
    record: dict[str, Any] = checkpoint.provenance([0]) | {
        "name": name,
        "kind": device,
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {THREADS} threads",
        "weights": sum(w.numel() for w in entrant.model.parameters()),
        "asked": {},
        "memory, MB": {},  # beyond model and pictures, for all of its jobs so far
    }
    for num in BATCHES:
        for what, call in jobs[num].items():
            spent, made = timed(call, tries)
            found: dict[str, Any] = {"ms": round(spent, 3)}
            if what == "describe":
                found["tokens"] = sum(len(entrant.words.encode(text)) - 1 for text in made)
            record["asked"].setdefault(what, {})[str(num)] = found
        record["memory, MB"][str(num)] = round(memory(device) - before)
    for what, call in jobs[1].items() if not gpu else ():  # last, since counting takes memory
        with FlopCounterMode(display=False) as counter:
            call()
        record["asked"][what]["1"]["gflop"] = round(counter.get_total_flops() / 1e9, 4)
    return record | {"shipped": entrant.shipped}


def main() -> None:
    """Measure, and write it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--smoke", action="store_true", help="a few tries; writes nothing")
    given = parser.parse_args()
    found = []
    for name in MODELS:
        asked = functools.partial(measured, name, given.device, 3 if given.smoke else TRIES)
        runs = []
        for _ in range(1 if given.smoke else PROCESSES):
            if given.device == "cuda":
                runs.append(asked())
            else:  # what a process of its own holds at most is what this one needs
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    runs.append(pool.submit(asked).result())
        found.append(together(runs))
        print(json.dumps(found[-1]), flush=True)
    if given.smoke:
        print("tried; nothing was written")
        return
    rows = json.loads(RESULT.read_text("utf8")) if RESULT.is_file() else []
    rows = [row for row in rows if row["kind"] != given.device] + found
    RESULT.write_text(json.dumps(rows, indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main()
