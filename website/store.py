"""The executed pages, one file each, named by the page's key: _build/executed/<key>.ipynb."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import nbformat

KEEP = 400  # entries; a reverted page finds its old outputs again


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or an interruption, never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Store:
    """Executed pages below one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._seconds = folder / "seconds.json"

    def load(self, key: str) -> nbformat.NotebookNode | None:
        """The executed page with a key, or None; its metadata["run"] says what it cost."""
        path = self.folder / f"{key}.ipynb"
        if not path.is_file():
            return None
        os.utime(path)  # used today: prune keeps it
        return nbformat.reads(path.read_text("utf8"), as_version=4)

    def has(self, key: str) -> bool:
        """Whether a page with this key has been executed."""
        return (self.folder / f"{key}.ipynb").is_file()

    def save(self, key: str, page: str, notebook: nbformat.NotebookNode) -> None:
        """Keep an executed page, and how long it took."""
        write_atomically(self.folder / f"{key}.ipynb", nbformat.writes(notebook))
        seconds = self.seconds() | {page: notebook.metadata["run"]["seconds"]}
        write_atomically(self._seconds, json.dumps(seconds, indent=1, sort_keys=True))

    def seconds(self) -> dict[str, float]:
        """How long each page took when it last ran."""
        return json.loads(self._seconds.read_text("utf8")) if self._seconds.is_file() else {}

    def prune(self) -> None:
        """Delete the entries that have not been used for longest, and what interruptions left."""
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        entries = sorted(self.folder.glob("*.ipynb"), key=lambda path: path.stat().st_mtime)
        for path in entries[:-KEEP]:
            path.unlink()
