"""A reader's own pictures and captions: read, checked as a whole, and only then used.

    data = own_data.read("my-folder")
    data.rows("train")            # their numbers; data.pictures[row], data.captions[row]
    print(data.remarks)           # what is odd, and does no harm

A folder holds pictures and, beside them, one file of captions: metadata.jsonl or metadata.csv with
the columns file_name and text, as Hugging Face's ImageFolder has them; or captions.csv or
captions.tsv with the columns image and caption. A column "split" with train, val and test is used
where there is one; where no picture is in val, some of train are. Book: applications/own_data.md.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlmbook import images

FILES = ("metadata.jsonl", "metadata.csv", "captions.csv", "captions.tsv")
PICTURE, CAPTION = ("file_name", "image", "file"), ("text", "caption")  # names of columns
SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
SHOWN = 3  # names that a report gives of each kind


class DataError(ValueError):
    """Data that can't be used; the message is a report of all that is wrong with it."""


@dataclass
class Report:
    """What was found, by kind: {kind: names}."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Write down one case."""
        self.found.setdefault(kind, []).append(name)

    def __bool__(self) -> bool:
        return bool(self.found)

    def __str__(self) -> str:
        lines = []
        for kind, names in self.found.items():
            more = ", ..." if len(names) > SHOWN else ""
            lines.append(f"{len(names):>6} x {kind}: {', '.join(names[:SHOWN])}{more}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Data:
    """Pictures, whatever images.open_rgb takes, each with captions and a split."""

    pictures: list[Any]
    captions: list[list[str]]
    splits: list[str]
    remarks: Report

    def __len__(self) -> int:
        return len(self.pictures)

    def rows(self, split: str) -> list[int]:
        """The numbers of a split's pictures."""
        return [row for row, own in enumerate(self.splits) if own == split]


@dataclass
class _Row:
    """A line of a captions file, as it was found."""

    name: str
    picture: Any
    captions: list[str]
    split: str | None


def read(folder: str | Path, caption: str | None = None, val: float = 0.1) -> Data:
    """The pictures and captions of a folder; DataError tells everything that is wrong with it.

    caption is the column of the captions, if it is called otherwise. Where no row is in the split
    val, a share val of those to learn from is; which ones depends on what they show alone.
    """
    folder, wrong = Path(folder), Report()
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; pass the one that holds pictures and captions")
    there = [name for name in FILES if (folder / name).is_file()]
    if not there:
        raise DataError(f"{folder} has no captions; it needs one of {', '.join(FILES)}")
    if len(there) > 1:
        wrong.add("captions in several files, and only one can be meant", ", ".join(there))
    rows = [row for name in there for row in _lines(folder / name, caption, wrong)]
    named = {row.picture for row in rows}
    remarks = Report()
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path not in named:
            remarks.add("picture without a caption, left out", str(path.relative_to(folder)))
    return _checked(str(folder), rows, val, wrong, remarks)


def from_dataset(
    dataset: Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]],
    picture: str = "image",
    caption: str = "text",
    val: float = 0.1,
) -> Data:
    """The same of a Hugging Face dataset, or of a DatasetDict, whose parts are then the splits."""
    parts = dataset if isinstance(dataset, Mapping) else {None: dataset}
    rows, wrong = [], Report()
    for part, items in parts.items():
        split = {"validation": "val"}.get(part, part)
        for number, item in enumerate(items):
            name = f"{part or 'item'} {number}"
            missing = [column for column in (picture, caption) if item.get(column) is None]
            if missing:
                wrong.add(f"item without {' and '.join(missing)}", name)
            else:
                rows.append(_Row(name, item[picture], _texts(item[caption]), split))
    return _checked("the dataset", rows, val, wrong, Report())


def _lines(path: Path, caption: str | None, wrong: Report) -> Iterator[_Row]:
    """The rows of a captions file."""
    lines = path.read_text("utf8", errors="replace").lstrip("\ufeff").splitlines()
    if path.suffix == ".jsonl":
        found = _json_lines(path, lines, wrong)
    else:
        found = _table(path, lines, wrong)
    for number, fields in found:
        name = f"{path.name}:{number}"
        column = [caption] if caption else CAPTION
        picture = next((fields[key] for key in PICTURE if fields.get(key)), None)
        told = next((fields[key] for key in column if fields.get(key) is not None), None)
        if picture is None:
            wrong.add(f"line that names no picture in a column {' or '.join(PICTURE)}", name)
        elif told is None:
            wrong.add(f"line without a column {' or '.join(column)}", name)
        else:
            file = (path.parent / str(picture)).resolve()
            if not file.is_relative_to(path.parent.resolve()):
                wrong.add("picture outside the folder", f"{picture} ({name})")
            else:
                yield _Row(str(picture), path.parent / str(picture), _texts(told),
                           fields.get("split") or None)  # fmt: skip


def _json_lines(path: Path, lines: Sequence[str], wrong: Report) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                fields = json.loads(line)
            except json.JSONDecodeError:
                fields = None
            if isinstance(fields, dict):
                yield number, fields
            else:
                wrong.add(
                    "line that is not JSON among lines that should be", f"{path.name}:{number}"
                )


def _table(path: Path, lines: Sequence[str], wrong: Report) -> Iterator[tuple[int, dict]]:
    reader = csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
    names = [name.strip() for name in next(reader, [])]
    for values in reader:
        where = f"{path.name}:{reader.line_num}"
        if not values:
            continue
        if values[0].lstrip().startswith("{"):
            wrong.add("line of JSON in a table", where)
        elif len(values) != len(names):
            wrong.add(f"line that has not {len(names)} columns, as the first has", where)
        else:
            yield reader.line_num, dict(zip(names, values, strict=True))


def _texts(told: Any) -> list[str]:
    texts = [told] if isinstance(told, str) else list(told)
    return [str(text).strip() for text in texts]


def _checked(where: str, rows: list[_Row], val: float, wrong: Report, remarks: Report) -> Data:
    """The data, if all rows together can be used."""
    split = any(row.split for row in rows)
    for row in rows:
        if not row.captions or "" in row.captions:
            wrong.add("empty caption", row.name)
        if row.split not in (None, *SPLITS):
            wrong.add(f"split that is none of {', '.join(SPLITS)}", f"{row.split!r} of {row.name}")
        elif split and row.split is None:
            wrong.add("row without a split, where others have one", row.name)
    kept = _merged(rows, wrong, remarks)
    if not wrong and len(kept) < 2:
        wrong.add("too few pictures, at least two are needed", str(len(kept)))
    if wrong:
        raise DataError(f"{where} can't be used as it is; nothing was written:\n{wrong}")
    rows = list(kept.values())
    splits = {shows: row.split or "train" for shows, row in kept.items()}
    if "val" not in splits.values():
        free = sorted(shows for shows in kept if splits[shows] == "train")  # as good as drawn
        splits |= dict.fromkeys(free[: max(1, round(val * len(free)))], "val")
    return Data(
        [row.picture for row in rows],
        [row.captions for row in rows],
        list(splits.values()),
        remarks,
    )


def _merged(rows: list[_Row], wrong: Report, remarks: Report) -> dict[str, _Row]:
    """One row for each picture, with all its captions, by what it shows."""
    seen: dict[str, str | None] = {}  # what pictures show, by their names; None for unusable ones
    kept: dict[str, _Row] = {}
    for row in rows:
        if row.name not in seen:
            seen[row.name] = _shown(row, wrong)
        if (shows := seen[row.name]) is None:
            continue
        first = kept.setdefault(shows, row)
        if first is row:
            continue
        if first.split != row.split:
            wrong.add("picture in two splits", f"{row.name} ({row.split}, {first.split})")
        if first.name != row.name:
            remarks.add("same picture under another name, taken once", f"{row.name} = {first.name}")
        new = [text for text in row.captions if text not in first.captions]
        if len(new) < len(row.captions):
            remarks.add("same caption of the same picture, taken once", row.name)
        first.captions.extend(new)
    return kept


def _shown(row: _Row, wrong: Report) -> str | None:
    """What tells the picture of a row from others, whatever its file is called."""
    if isinstance(row.picture, Path) and not row.picture.is_file():
        wrong.add("picture that is named and not there", row.name)
        return None
    try:
        pixels = images.open_rgb(row.picture)
    except images.ImageError as error:
        wrong.add("picture that does not open", f"{row.name} ({str(error).split('; ')[0]})")
        return None
    bytes_ = (pixels * 255).round().byte().numpy().tobytes()
    return hashlib.sha256(f"{tuple(pixels.shape)}".encode() + bytes_).hexdigest()
