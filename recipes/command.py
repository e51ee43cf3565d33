"""What the recipes that train a model have in common: their options.

    given = command.read("clip-mini", clip.STEMS)
    settings = command.changed(SETTINGS, given)

A recipe finds this file beside itself, as Python does for whatever file is run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vlmbook import checkpoint, tokenizer, train


def read(
    name: str, stems: Sequence[str], measure: bool = False, workers: bool = False
) -> argparse.Namespace:
    """The options that a recipe was started with; out and state are folders even where none
    was given. measure and workers say whether the recipe has these options.

    The number of threads is set here.
    """
    parser = argparse.ArgumentParser(description=f"Train {name}.")
    parser.add_argument("--out", type=Path, help="where to save; --smoke does so in _build")
    parser.add_argument("--smoke", action="store_true", help="a hundredth of it, to try it")
    parser.add_argument("--stem", choices=stems, default="conv")
    parser.add_argument("--steps", type=int, help="another number of steps, of each stage")
    parser.add_argument("--batch", type=int, help="another number of pictures in a step")
    parser.add_argument("--threads", type=int, help="CPU threads to use")
    parser.add_argument("--state", type=Path, help="where the unfinished run is kept")
    if measure:
        parser.add_argument("--measure", action="store_true", help="only measure what was saved")
    if workers:
        parser.add_argument("--workers", type=int, default=0, help="processes to draw ahead with")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    given.out = given.out or (
        Path("_build") / f"{name}-smoke" if given.smoke else checkpoint.SHIPPED / name
    )
    given.state = given.state or Path("_build") / f"{name}-{given.stem}{'-smoke' * given.smoke}"
    return given


def measure_again(
    given: argparse.Namespace, measure: Callable[[nn.Module, tokenizer.Tokenizer], dict[str, str]]
) -> None:
    """Measure what was saved, and keep that with how it was trained."""
    model, words = checkpoint.load(given.out)
    now = checkpoint.provenance([])
    record = checkpoint.run_of(given.out) | {
        "measured": measure(model, words),
        "measured_by": {key: now[key] for key in ("commit", "date")},
    }
    checkpoint.save(given.out, model, model.config, record, half=True)
    print(json.dumps(record, indent=1))


def curve(losses: Sequence[float], num: int = 40) -> list[float]:
    """How the loss fell: its mean over so many parts of a run, or one fewer."""
    parts = torch.tensor(losses).split(-(-len(losses) // num))
    return [round(part.mean().item(), 4) for part in parts]


def changed(settings: train.Settings, given: argparse.Namespace, **smoke: Any) -> train.Settings:
    """Settings as the options want them; smoke is what --smoke changes beside steps and warm-up."""
    if given.smoke:
        settings = replace(settings, steps=max(1, settings.steps // 100), warm_up=5, **smoke)
    return replace(
        settings, steps=given.steps or settings.steps, batch=given.batch or settings.batch
    )
