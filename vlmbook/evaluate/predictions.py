"""What entrants said to the items of the battery, on disk, so that a page need not ask again.

    found = predictions.load("clip-mini")
    found.scores["color/ko/0007"], found.said["color/ko/0007"], found.about["commit"]

A file is Parquet, one row an item. Book: comparison.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmbook.evaluate.entrants import Prediction

FOLDER = Path(__file__).resolve().parent.parent / "results" / "comparison"


class PredictionsError(ValueError):
    """A file of predictions that is not there or can't be used; the message says how to make it."""


@dataclass(frozen=True)
class Predictions:
    """By item: what was said, and how good that is, 0 to 1; about is who said it, and when."""

    said: dict[str, str]
    scores: dict[str, float]
    about: dict[str, Any]

    def of(self, skill: str, language: str) -> np.ndarray:
        """The scores of a skill's items in their order, (n,); (0,) where it was not asked."""
        return np.array(self._groups.get(f"{skill}/{language}", ()))

    @cached_property
    def _groups(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for item in sorted(self.scores):
            found.setdefault(item.rpartition("/")[0], []).append(self.scores[item])
        return found


def path_of(name: str, folder: Path = FOLDER) -> Path:
    """Where an entrant's predictions are."""
    return folder / f"{name.replace(', ', '-').replace(' ', '-')}.parquet"


def save(
    name: str, found: Iterable[Prediction], about: Mapping[str, Any], folder: Path = FOLDER
) -> Path:
    """Write an entrant's predictions, in the place of what was there before."""
    item, said, score = zip(*sorted(found), strict=True)
    table = pa.table(
        {"item": pa.array(item), "said": pa.array(said), "score": pa.array(score, pa.float32())}
    )
    path = path_of(name, folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    metadata = {"about": json.dumps({"name": name, **about})}
    pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")
    partial.replace(path)
    return path


def load(name: str, folder: Path = FOLDER) -> Predictions:
    """An entrant's predictions; PredictionsError where there are none."""
    path = path_of(name, folder)
    if not path.is_file():
        raise PredictionsError(
            f"{path} is not there; make it by python experiments/comparison.py '{name}'"
        )
    table = pq.read_table(path)
    item, said, score = (table[key].to_pylist() for key in ("item", "said", "score"))
    about = json.loads(table.schema.metadata[b"about"])
    return Predictions(
        dict(zip(item, said, strict=True)), dict(zip(item, score, strict=True)), about
    )
