"""Measure how fast world, training, models, search and build are: a table, results/bench.json.

    make bench
    python experiments/bench.py attention  # some parts alone; the other rows stay as they are

Rows are medians of several runs on this machine. A GPU is measured too where there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable

import bench_attention
import bench_book
import bench_generate
import bench_pretrained
import bench_search
import bench_site
import bench_train
import torch
from bench_book import ROOT

from vlmbook import checkpoint, world

RESULT = ROOT / "vlmbook" / "results" / "bench.json"


def rate(work: Callable[[], int], seconds: float = 2.0) -> float:
    """Things a second: the median over repeated calls of work, which returns how many things it
    made.
    """
    work()
    rates, end = [], time.perf_counter() + seconds
    while len(rates) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        num = work()
        rates.append(num / (time.perf_counter() - start))
    return statistics.median(rates)


def row(name: str, value: float, unit: str, detail: str = "") -> dict:
    """One line of the table, printed as it is measured."""
    print(f"{name:<34} {value:>10.{2 if value < 10 else 1}f} {unit:<14} {detail}", flush=True)
    return {"name": name, "value": round(value, 2), "unit": unit, "detail": detail}


def rendering() -> list[dict]:
    """Images a second by size, rays and threads, with shadows, 1 to 5 objects of preset full."""
    scenes = world.sample(512, "full")
    rows, threads = [], torch.get_num_threads()
    for size, supersample in ((64, 1), (64, 2), (96, 1), (128, 1)):
        num = max(64, 512 * 64 * 64 // (size * supersample) ** 2)
        some = scenes[:num]
        for count in (1, 2):
            torch.set_num_threads(count)
            value = rate(
                lambda some=some, size=size, k=supersample: len(
                    world.render(some, size, supersample=k).pixels
                )
            )
            rows.append(
                row(
                    f"render {size} px",
                    value,
                    "images/s",
                    f"cpu, {count} threads, {supersample**2} rays a pixel",
                )
            )
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        rows += [_on_gpu(scenes * 8, size) for size in (64, 96, 128)]
    return rows


def _on_gpu(scenes: list, size: int) -> dict:
    def work() -> int:
        world.render(scenes, size, "cuda")
        torch.cuda.synchronize()
        return len(scenes)

    return row(
        f"render {size} px",
        rate(work),
        "images/s",
        f"{torch.cuda.get_device_name()}, 1 ray a pixel",
    )


def language() -> list[dict]:
    """Scenes, captions and questions a second, on one core."""
    scenes = world.sample(500, "full")
    rng = random.Random(0)
    rows = [
        row(
            "sample scenes",
            rate(lambda: len(world.sample(500, "full"))),
            "scenes/s",
            "full, 1 to 5 objects",
        )
    ]
    for spoken in ("en", "ko"):
        rows.append(
            row(
                "caption",
                rate(lambda s=spoken: len([world.caption(x, s, rng=rng) for x in scenes])),
                "captions/s",
                spoken,
            )
        )
        asked = rate(lambda s=spoken: sum(len(world.questions(x, s, rng)) for x in scenes))
        rows.append(row("questions", asked, "questions/s", spoken))
    return rows


PARTS: dict[str, Callable[[], list[dict]]] = {
    "world": lambda: rendering() + language(),
    "training": lambda: [row(**r) for r in bench_train.run()],
    "writing": lambda: [row(**r) for r in bench_generate.run()],
    "attention": lambda: [row(**r) for r in bench_attention.run()],
    "checkpoints": lambda: [row(**r) for r in bench_pretrained.run()],
    "searching": lambda: [row(**r) for r in bench_search.run()],
    "book": lambda: [row(**r) for r in bench_book.run()],
    "site": lambda: [row(**r) for r in bench_site.run()],
}


def main() -> None:
    """Measure everything, or some parts, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    chosen = parser.parse_args().parts or list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    about = checkpoint.provenance([0])
    before = json.loads(RESULT.read_text("utf8"))
    if before["device"] != about["device"] and len(chosen) < len(PARTS):
        parser.error(f"the other rows are of {before['device']}; measure all parts on this machine")
    rows = []
    for part, measure in PARTS.items():
        if part in chosen:
            print(f"{part} ...", flush=True)
            rows += [r | {"part": part, "date": about["date"]} for r in measure()]
        else:
            rows += [r for r in before["rows"] if r["part"] == part]
    result = {**about, "command": "make bench", "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", "utf8")
    print(f"wrote {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
