"""Pictures a second: clip-mini's image encoder by itself, and embedding a collection in parts."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vlmbook import checkpoint, search

NUM, BATCH, ROUNDS = 2000, 250, 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def run() -> list[dict]:
    """Rows of name, value, unit and detail; the two take turns, so that both meet the same load."""
    model, _ = checkpoint.load("clip-mini")
    model = model.to(DEVICE)
    pixels = torch.rand(NUM, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def look(rows: range) -> Tensor:
        return model.encode_image(pixels[rows.start : rows.stop].to(DEVICE)).cpu()

    def alone() -> None:
        for start in range(0, NUM, BATCH):
            look(range(start, start + BATCH))

    def in_parts() -> None:
        with tempfile.TemporaryDirectory() as folder:
            search.embed(look, NUM, folder, model, part=BATCH)

    ways: dict[str, Callable[[], None]] = {"the encoder": alone, "a collection": in_parts}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    alone()
    for _ in range(ROUNDS):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            speeds[name].append(NUM / (time.perf_counter() - started))
    how = f"{DEVICE}, {torch.get_num_threads()} threads, batch {BATCH}"
    return [
        {
            "name": f"embed, {name}",
            "value": statistics.median(found),
            "unit": "images/s",
            "detail": how,
        }
        for name, found in speeds.items()
    ]
