"""Exact and approximate search over a hundred thousand scenes: how much is found, how fast.

    python experiments/search.py [--smoke]

Scenes are rendered and embedded by clip-mini in parts, kept in _build/search-100000; under
torchrun, by several processes. Then texts that describe a thing or two are searched for, by all
indexes of vlmbook.search, on one thread. Writes vlmbook/results/search.json. Ten minutes on two
cores. Book: applications/search.md.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from vlmbook import checkpoint, search, tokenizer, world

RESULTS = Path(__file__).resolve().parent.parent / "vlmbook" / "results"
NUM, NUM_QUERIES, K, REPEATS = 100_000, 1000, 10, 5
EFFORTS = {
    "flat": (1,),
    "ivf": (1, 2, 4, 8, 16, 32, 64),
    "hnsw": (10, 16, 32, 64, 128, 256),
}


def scenes(rows: range) -> list[world.Scene]:
    """Some scenes of the collection."""
    return world.sample(len(rows), "full", "train", 1000, num_objects=(1, 3), start=rows.start)


def texts(num: int) -> list[str]:
    """What is searched for: one thing or two, half of them in Korean."""
    rng, found = random.Random("search"), []
    for scene in world.sample(num, "full", "val", num_objects=(1, 2)):
        language = rng.choice(("en", "ko"))
        found.append(world.caption(scene, language, rng=rng, relations=False))
    return found


def measured(index: search.Index, queries: np.ndarray, exact: search.Found, effort: int) -> dict:
    """How much is found, and how many queries are answered a second, all at once and one by one."""
    rates, alone = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        found = index.find(queries, K, effort)
        rates.append(len(queries) / (time.perf_counter() - started))
    for query in queries[:200]:
        started = time.perf_counter()
        index.find(query[None], K, effort)
        alone.append(time.perf_counter() - started)
    return {
        "effort": effort,
        "recall": round(float(search.agreement(found, exact).mean()), 4),
        "a second": round(float(np.median(rates)), 1),
        "ms alone": round(1000 * float(np.median(alone)), 3),
    }


def main() -> None:
    """Embed, search, and write what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="a fiftieth of it; writes nothing")
    smoke = parser.parse_args().smoke
    num = NUM // 50 if smoke else NUM
    model, words = checkpoint.load("clip-mini")
    spent = {"rendering": 0.0, "encoding": 0.0}

    def look(rows: range) -> torch.Tensor:
        started = time.perf_counter()
        pixels = world.render(scenes(rows)).pixels
        spent["rendering"] += time.perf_counter() - started
        started = time.perf_counter()
        with torch.no_grad():
            emb = torch.cat([model.encode_image(some) for some in pixels.split(200)])
        spent["encoding"] += time.perf_counter() - started
        return emb

    emb = search.embed(look, num, Path("_build") / f"search-{num}", model).astype(np.float32)
    emb /= np.linalg.norm(emb, axis=1, keepdims=True)
    names = [str(n) for n in range(num)]
    queries = queried(model, words, texts(NUM_QUERIES))
    faiss.omp_set_num_threads(1)
    found: dict[str, Any] = {}
    for kind, efforts in EFFORTS.items():
        started = time.perf_counter()
        index = search.build(kind, emb, names, model)
        seconds = time.perf_counter() - started
        if kind == "flat":
            exact = index.find(queries, K)
        folder = index.save(Path("_build") / f"search-{num}-{kind}")
        rows = [measured(index, queries, exact, effort) for effort in efforts]
        size = (folder / "index.faiss").stat().st_size
        found[kind] = {"seconds": round(seconds, 2), "bytes": size, "rows": rows}
        print(kind, json.dumps(found[kind]), flush=True)
    record = checkpoint.provenance([0]) | {"items": num, "width": emb.shape[1], "k": K}
    record |= {"spent": {k: round(v, 1) for k, v in spent.items()}, "indexes": found}
    if smoke:
        print("tried; nothing was written")
        return
    (RESULTS / "search.json").write_text(json.dumps(record, indent=1) + "\n", "utf8")


def queried(model: torch.nn.Module, words: tokenizer.Tokenizer, texts: list[str]) -> np.ndarray:
    """Embeddings of texts, (Q, E)."""
    with torch.no_grad():
        return model.encode_text(*words.batch(texts)).numpy()


if __name__ == "__main__":
    main()
