"""What it costs to keep attention's weights, and to ask where a model looked.

Ours gives its weights; torch's scaled_dot_product_attention does not. Both run forward and backward
at the sizes of blip-mini, in turns, on one thread, as pages do, and on all. Each method of
attribution explains a batch of 64.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmbook import attribution, checkpoint
from vlmbook.layers import attention

BATCH, HEADS, HEAD_WIDTH = 64, 6, 32
SIZES = {"image to image": (65, 65), "text to image": (24, 65), "text to text": (24, 24)}
REPEATS = 150


def run() -> list[dict]:
    """Rows for bench.py."""
    return [*_cost(), *_methods()]


def _cost() -> list[dict]:
    threads = torch.get_num_threads()
    rows = []
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        rows += _cost_on(count)
    torch.set_num_threads(threads)
    return rows


def _cost_on(threads: int) -> list[dict]:
    rows = []
    for name, (queries, keys) in SIZES.items():
        torch.manual_seed(0)
        given = [
            torch.randn(BATCH, HEADS, n, HEAD_WIDTH, requires_grad=True)
            for n in (queries, keys, keys)
        ]
        ways: dict[str, Callable[..., Tensor]] = {
            "ours": lambda q, k, v: attention(q, k, v)[0],
            "torch": F.scaled_dot_product_attention,
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(REPEATS + 3):
            for way, work in ways.items():
                started = time.perf_counter()
                work(*given).sum().backward()
                if turn >= 3:  # the first ones warm up
                    seconds[way].append(time.perf_counter() - started)
        ours, theirs = (statistics.median(seconds[way]) for way in ways)
        about = f"{name}, {queries} x {keys}, forward and backward, threads: {threads}"
        rows.append(
            {
                "name": "attention with its weights",
                "value": ours / theirs,
                "unit": "x sdpa",
                "detail": f"{about}; {1000 * ours:.1f} against {1000 * theirs:.1f} ms",
            }
        )
    return rows


def _methods() -> list[dict]:
    model, words = checkpoint.load("blip-mini")
    items = attribution.named(BATCH, words)
    target = attribution.of_blip(model, items.pixels, items.ids, items.mask, items.word)
    rows = []
    for name, method in attribution.METHODS.items():
        method(target)
        started = time.perf_counter()
        method(target)
        value = time.perf_counter() - started
        detail = f"blip-mini, a batch of {BATCH}, {torch.get_num_threads()} threads"
        rows.append({"name": f"map by {name}", "value": value, "unit": "s", "detail": detail})
    return rows
