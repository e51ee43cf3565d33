"""The world as data: a map-style dataset, an endless stream, a cache on disk, and a folder for
other trainers.

Book: appendix/world.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from tqdm import tqdm

from vlmbook.world import language, splits
from vlmbook.world.render import View, render
from vlmbook.world.scene import Scene

AT_ONCE = 256  # scenes rendered in one call
# The modules that decide what a rendered set looks like: when one changes, sets are made anew.
SOURCES = (
    "layout",
    "placement",
    "plates",
    "render",
    "scene",
    "shading",
    "shapes",
    "splits",
    "vocabulary",
)


class SceneDataset(Dataset):
    """num scenes of a split, rendered when they are asked for.

    Item i is a dict: pixels (3, H, W) float32 in [0, 1], scene, index, and caption if
    a language is given.
    """

    def __init__(
        self,
        num: int,
        preset: str = "standard",
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        language: str | None = None,
        **how: object,
    ) -> None:
        self.scenes = splits.sample(num, preset, split, seed, **how)
        self.size, self.language = size, language

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, i: int) -> dict:
        if not 0 <= i < len(self):
            raise IndexError(f"there is no scene {i} among {len(self)}")
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: list[int]) -> list[dict]:
        """Several items from one call of the renderer; torch's DataLoader asks in this way."""
        return _items([self.scenes[i] for i in indices], self.size, self.language)


class SceneStream(IterableDataset):
    """The scenes of a split without end; workers of a DataLoader take turns, so that none is seen
    twice.

    Items are those of SceneDataset.
    """

    def __init__(
        self,
        preset: str = "standard",
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        language: str | None = None,
        **how: object,
    ) -> None:
        self.arguments = preset, split, seed
        self.how, self.size, self.language = how, size, language
        splits.stream(*self.arguments, **how)  # complain now, not in a worker

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        scenes = splits.stream(*self.arguments, **self.how, start=start, step=step)
        while True:
            yield from _items([next(scenes) for _ in range(32)], self.size, self.language)


def _items(scenes: list[Scene], size: int, spoken: str | None) -> list[dict]:
    pixels = render(scenes, size).pixels
    items = [
        {"pixels": p, "scene": s, "index": s.index} for p, s in zip(pixels, scenes, strict=True)
    ]
    if spoken is not None:
        for item in items:
            item["caption"] = language.caption(item["scene"], spoken)
    return items


@dataclass(frozen=True)
class Cached:
    """A rendered set, memory-mapped: scenes, and pixels (num, 3, H, W) and visible (num, N, H, W)
    as uint8 arrays.
    """

    scenes: list[Scene]
    uint8: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.scenes)

    def pixels(self, indices: slice | list[int] | Tensor = slice(None)) -> Tensor:
        """(n, 3, H, W) float32 in [0, 1] of some of the scenes; the others stay on disk."""
        return torch.from_numpy(np.array(self.uint8[indices])).float() / 255


def cache_folder() -> Path:
    """Where rendered sets are kept: $VLMBOOK_CACHE, or vlmbook in the user's cache folder."""
    if "VLMBOOK_CACHE" in os.environ:
        return Path(os.environ["VLMBOOK_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vlmbook"


def cached(
    split: str,
    num: int,
    preset: str = "standard",
    size: int = 64,
    seed: int = 0,
    device: str = "cpu",
    **how: object,
) -> Cached:
    """num scenes of a split, rendered once on this machine and memory-mapped after that.

    An interrupted rendering is begun again by the next call, and two processes may ask for the same
    set at once: one renders, the other waits.
    """
    scenes = splits.sample(num, preset, split, seed, **how)
    asked = [split, num, preset, size, seed, sorted(how.items()), _source_hash()]
    folder = cache_folder() / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:20]
    _write_whole(folder, lambda partial: _render_to(partial, scenes, size, device))
    return Cached(
        scenes,
        np.load(folder / "pixels.npy", mmap_mode="r"),
        np.load(folder / "visible.npy", mmap_mode="r"),
    )


def _source_hash() -> str:
    digest = hashlib.sha256(torch.__version__.encode())
    for name in SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


def _render_to(folder: Path, scenes: list[Scene], size: int, device: str) -> None:
    slots = max((len(s) for s in scenes), default=0)
    pixels = np.lib.format.open_memmap(
        folder / "pixels.npy", "w+", np.uint8, (len(scenes), 3, size, size)
    )
    visible = np.lib.format.open_memmap(
        folder / "visible.npy", "w+", np.bool_, (len(scenes), slots, size, size)
    )
    for i in tqdm(
        range(0, len(scenes), AT_ONCE),
        desc=f"rendering {len(scenes)} scenes",
        leave=False,
        disable=None,
    ):
        view = render(scenes[i : i + AT_ONCE], size, device)
        rows = slice(i, i + len(view.pixels))
        pixels[rows] = view.to_uint8().permute(0, 3, 1, 2).cpu()
        visible[rows, : view.visible.shape[1]] = view.visible.cpu()
    pixels.flush()
    visible.flush()


def _write_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder unless it is there.

    It appears whole or not at all, and others wait for it meanwhile.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if folder.exists():
            return
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # what a killed writer has left
        partial.mkdir()
        try:
            write(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def export(
    scenes: Sequence[Scene],
    folder: str | Path,
    size: int = 128,
    supersample: int = 2,
    languages: Sequence[str] = ("en", "ko"),
    num_captions: int = 1,
) -> Path:
    """Write scenes as a folder that datasets.load_dataset("imagefolder", data_dir=folder) opens.

    images/*.png, masks/*.png (0 the table, n + 1 where object n is seen) and metadata.jsonl with
    one row a picture: file_name, mask_file_name, a list of captions for each language, and the
    scene as
    JSON. The folder must not exist yet; it appears whole or not at all.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; choose a new folder or remove it first")
    scenes = list(scenes)

    def write(partial: Path) -> None:
        (partial / "images").mkdir()
        (partial / "masks").mkdir()
        with (partial / "metadata.jsonl").open("w", encoding="utf8") as rows:
            for i in tqdm(
                range(0, len(scenes), AT_ONCE),
                desc=f"exporting {len(scenes)} scenes",
                leave=False,
                disable=None,
            ):
                some = scenes[i : i + AT_ONCE]
                view = render(some, size, supersample=supersample)
                for row in _rows(some, view, partial, i, languages, num_captions):
                    rows.write(json.dumps(row, ensure_ascii=False) + "\n")

    _write_whole(folder, write)
    return folder


def _rows(
    scenes: list[Scene],
    view: View,
    folder: Path,
    first: int,
    languages: Sequence[str],
    num_captions: int,
) -> Iterator[dict]:
    images = view.to_uint8().numpy()
    numbers = torch.arange(1, view.visible.shape[1] + 1, dtype=torch.uint8)[:, None, None]
    masks = (view.visible * numbers).sum(1, dtype=torch.uint8).numpy()
    for k, scene_ in enumerate(scenes):
        name = f"{first + k:06d}.png"
        Image.fromarray(images[k]).save(folder / "images" / name)
        Image.fromarray(masks[k]).save(folder / "masks" / name)
        texts = {
            f"captions_{spoken}": language.captions(scene_, num_captions, spoken)
            for spoken in languages
        }
        yield {
            "file_name": f"images/{name}",
            "mask_file_name": f"masks/{name}",
            **texts,
            "scene": scene_.to_json(),
        }


@dataclass(frozen=True)
class Exported:
    """One row of an exported folder: the scene, the paths of its picture and mask, and its captions
    by language.
    """

    scene: Scene
    image: Path
    mask: Path
    captions: dict[str, list[str]]


def load_exported(folder: str | Path) -> list[Exported]:
    """The rows of a folder that export wrote; a ValueError names the line and field that is not
    right.
    """
    path = Path(folder) / "metadata.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no metadata.jsonl; pass a folder that world.export wrote"
        )
    rows = []
    for number, line in enumerate(path.read_text("utf8").splitlines(), 1):
        try:
            row = json.loads(line)
            texts = {
                k.removeprefix("captions_"): v for k, v in row.items() if k.startswith("captions_")
            }
            image, mask = (path.parent / row[k] for k in ("file_name", "mask_file_name"))
            rows.append(Exported(Scene.from_json(row["scene"]), image, mask, texts))
        except KeyError as error:
            raise ValueError(f"{path}, line {number}: the field {error} is missing") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return rows
