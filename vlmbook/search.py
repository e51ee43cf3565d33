"""Searching a large collection: embeddings made in parts, indexes that find the nearest of them.

    emb = search.embed(look, 100_000, "my-parts", model)  # (100000, E), by all processes together
    index = search.build("hnsw", emb, names, model)
    index.find(model.encode_text(*tokenizer.batch(["a red cube"])), k=10)
    index.save("my-index")
    index = search.load("my-index", model)                   # refused for another model

The indexes are those of the library FAISS; what is added here is the names of the items, and the
memory of which model made it, since vectors of two models can be compared and mean nothing.

G items of a collection, Q queries, E numbers of an embedding, which has length 1; the score of two
is their dot product. Book: applications/search.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import TqdmWarning

from vlmbook import checkpoint, folders

with warnings.catch_warnings():
    # In a notebook, accelerate's own bars, which are not used here, ask for ipywidgets.
    warnings.simplefilter("ignore", TqdmWarning)
    from accelerate import PartialState

KINDS = ("flat", "ivf", "hnsw")
FILES = ("index.faiss", "names.json")
LINKS = 32  # of an item in each layer of an HNSW graph


class SearchError(ValueError):
    """An index that can't be used here; the message names the folder, the reason and the remedy."""


class Found(NamedTuple):
    """What is nearest to each query, best first. Where a row is -1, nothing more was found."""

    rows: np.ndarray  # (Q, k) int64, in the order in which items were added
    scores: np.ndarray  # (Q, k) float32


@dataclass
class Index:
    """Items that can be found. kind is "flat" (all are compared), "ivf" or "hnsw".

    model is the checkpoint.fingerprint of what made the embeddings.
    """

    kind: str
    model: str
    names: list[str]
    inner: faiss.Index

    def __len__(self) -> int:
        return len(self.names)

    def add(self, emb: Tensor | np.ndarray, names: Sequence[str]) -> None:
        """Add items, emb (G, E). ValueError, and nothing is added, for names that are there."""
        emb = _normalised(emb, self.inner.d)
        if len(emb) != len(names):
            raise ValueError(f"{len(emb)} embeddings come with {len(names)} names")
        twice = [name for name, n in Counter([*self.names, *names]).items() if n > 1]
        if twice:
            raise ValueError(
                f"{twice[0]!r} would be the name of two items"
                + f" (and {len(twice) - 1} more would)" * (len(twice) > 1)
                + "; leave out what is there, or give it another name"
            )
        self.inner.add(emb)
        self.names += map(str, names)

    def find(self, emb: Tensor | np.ndarray, k: int = 10, effort: int = 64) -> Found:
        """The k items nearest to each query, emb (Q, E).

        effort is how many items HNSW keeps in view, or how many cells IVF opens: more find more and
        take longer. A flat index has no use for it.
        """
        if not 1 <= k <= len(self):
            raise ValueError(f"k {k} is not a number of items, 1 to {len(self)}")
        if self.kind == "ivf":
            self.inner.nprobe = effort
        elif self.kind == "hnsw":
            self.inner.hnsw.efSearch = max(effort, k)
        scores, rows = self.inner.search(_normalised(emb, self.inner.d), k)
        return Found(rows, scores)

    def save(self, folder: str | Path) -> Path:
        """Write the index, in the place of what the folder held before."""
        folder = Path(folder)
        partial = folders.begin(folder)
        faiss.write_index(self.inner, str(partial / FILES[0]))
        (partial / FILES[1]).write_text(json.dumps(self.names), "utf8")
        sums = {name: _sha256(partial / name) for name in FILES}
        about = {"kind": self.kind, "model": self.model, "sha256": sums}
        (partial / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf8")
        folders.finish(folder)
        return folder


def build(
    kind: str,
    emb: Tensor | np.ndarray,
    names: Sequence[str],
    model: nn.Module,
    cells: int | None = None,
) -> Index:
    """An index of items, emb (G, E), made by a model.

    "flat" compares a query with all items, and is exact. "ivf" sorts items into cells around means
    of them, and looks into the nearest cells (Jegou et al. 2011); left out, cells is 4 times the
    root of G. "hnsw" walks along a graph whose neighbours are near (Malkov and Yashunin 2020).
    """
    emb = _normalised(emb)
    width = emb.shape[1]
    if kind == "flat":
        inner = faiss.IndexFlatIP(width)
    elif kind == "ivf":
        cells = cells or max(1, round(4 * len(emb) ** 0.5))
        if cells > len(emb):
            raise ValueError(f"{len(emb)} items can't fill {cells} cells; ask for fewer")
        inner = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT
        )
        inner.cp.min_points_per_centroid = 1  # so that little collections are not complained of
        inner.train(emb)
    elif kind == "hnsw":
        inner = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
        inner.hnsw.efConstruction = 100
    else:
        raise ValueError(f"there is no index {kind!r}; there are: {', '.join(KINDS)}")
    index = Index(kind, checkpoint.fingerprint(model), [], inner)
    index.add(emb, names)
    return index


def load(folder: str | Path, model: nn.Module) -> Index:
    """An index that was saved; SearchError if it is damaged, or of another model's embeddings."""
    folder = Path(folder)
    folders.recover(folder)
    try:
        about = json.loads((folder / "about.json").read_text("utf8"))
        damaged = [name for name in FILES if _sha256(folder / name) != about["sha256"][name]]
        kind, made_by = about["kind"], about["model"]
    except FileNotFoundError as missing:
        raise SearchError(f"{missing.filename} is not there; {folder} holds no index") from None
    except (json.JSONDecodeError, KeyError, TypeError):
        raise SearchError(f"{folder / 'about.json'} can't be read; make the index again") from None
    if damaged:
        raise SearchError(
            f"{folder / damaged[0]} is not the file that was saved (its SHA-256 differs); make the"
            " index again"
        )
    own = checkpoint.fingerprint(model)
    if made_by != own:
        raise SearchError(
            f"{folder} is an index of embeddings by model {made_by[:12]}, and this is model"
            f" {own[:12]}, whose vectors mean something else; open it with the model that made it,"
            " or make it again"
        )
    names = json.loads((folder / FILES[1]).read_text("utf8"))
    return Index(kind, made_by, names, faiss.read_index(str(folder / FILES[0])))


def agreement(found: Found, exact: Found) -> np.ndarray:
    """Of what is nearest to each query, the share that was found: recall@k, (Q,)."""
    return np.array(
        [len(set(a) & set(b)) / len(b) for a, b in zip(found.rows, exact.rows, strict=True)]
    )


def embed(
    look: Callable[[range], Tensor],
    num: int,
    folder: str | Path,
    model: nn.Module,
    part: int = 2000,
) -> np.ndarray:
    """Embeddings (num, E) float16 of a collection, made by all processes together.

    look(rows) gives those of some items, (n, E). Under torchrun each process takes its share of the
    parts; all must see the same folder. A part is a file, so a run that was interrupted goes on
    where it was, with any number of processes. Raises SearchError for a folder that holds parts of
    another collection, or by another model.
    """
    folder, state = Path(folder), PartialState(cpu=not torch.cuda.is_available())
    if state.num_processes != (started := int(os.environ.get("WORLD_SIZE", "1"))):
        raise SearchError(  # each would do the same, and write over the other
            f"{started} processes were started, and accelerate sees {state.num_processes}; on CPUs,"
            " start them with ACCELERATE_USE_CPU=1 in the environment"
        )
    about = {"num": num, "part": part, "model": checkpoint.fingerprint(model)}
    starts = range(0, num, part)
    with state.main_process_first():
        _same_collection(folder, about)
    for start in starts[state.process_index :: state.num_processes]:
        path = _part(folder, start)
        if not path.is_file():
            found = look(range(start, min(start + part, num)))
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, np.asarray(found.detach().half().cpu()))
            partial.rename(path)
    state.wait_for_everyone()
    return np.concatenate([np.load(_part(folder, start)) for start in starts])


def _same_collection(folder: Path, about: dict) -> None:
    """Begin a folder of parts, or see that it was begun for the same."""
    path = folder / "about.json"
    if path.is_file():
        other = json.loads(path.read_text("utf8"))
        differs = [f"{key} is {other.get(key)!r}, not {about[key]!r}" for key in about
                   if other.get(key) != about[key]]  # fmt: skip
        if differs:
            raise SearchError(
                f"{folder} holds parts of something else ({'; '.join(differs)}); use another folder"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about) + "\n", "utf8")


def _part(folder: Path, start: int) -> Path:
    return folder / f"{start:010d}.npy"


def _normalised(emb: Tensor | np.ndarray, width: int | None = None) -> np.ndarray:
    """Embeddings as FAISS wants them, (n, E) float32 in one piece."""
    array = np.ascontiguousarray(
        emb.detach().cpu() if isinstance(emb, Tensor) else emb, dtype=np.float32
    )
    if array.ndim != 2 or (width and array.shape[1] != width):
        raise ValueError(
            f"embeddings of shape {array.shape} don't fit; (n, {width or 'E'}) is needed"
        )
    lengths = np.linalg.norm(array, axis=1)
    if not np.allclose(lengths, 1, atol=0.01):
        worst = int(np.abs(lengths - 1).argmax())
        raise ValueError(
            f"embedding {worst} has length {lengths[worst]:.3g}, and 1 is needed; divide each by"
            " its length"
        )
    return array


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
