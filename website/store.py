"""The executed pages, one file each, named by the page's key: _build/executed/<key>.page.

An entry is a notebook below a line with its digest. One that was cut short, or changed on disk,
counts as absent, so that its page runs again.
"""

from __future__ import annotations

import hashlib
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
        content = self._content(key)
        return None if content is None else nbformat.reads(content.decode(), as_version=4)

    def has(self, key: str) -> bool:
        """Whether a page with this key has been executed, and its entry is whole."""
        return self._content(key) is not None

    def save(self, key: str, page: str, notebook: nbformat.NotebookNode) -> None:
        """Keep an executed page, and how long it took."""
        content = nbformat.writes(notebook)
        entry = f"{_digest(content.encode())}\n{content}"
        write_atomically(self._path(key), entry)
        seconds = self.seconds() | {page: notebook.metadata["run"]["seconds"]}
        write_atomically(self._seconds, json.dumps(seconds, indent=1, sort_keys=True))

    def seconds(self) -> dict[str, float]:
        """How long each page took when it last ran."""
        try:
            return dict(json.loads(self._seconds.read_text("utf8")))
        except (FileNotFoundError, ValueError, TypeError):
            return {}  # it decides the order of running alone

    def prune(self) -> None:
        """Delete the entries that have not been used for longest, and what interruptions left."""
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        entries = sorted(self.folder.glob("*.page"), key=lambda path: path.stat().st_mtime)
        for path in entries[:-KEEP]:
            path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.page"

    def _content(self, key: str) -> bytes | None:
        """An entry's notebook as it was written, or None where it is missing or damaged."""
        path = self._path(key)
        if not path.is_file():
            return None
        digest, _, content = path.read_bytes().partition(b"\n")
        if digest != _digest(content).encode():
            return None
        os.utime(path)  # used today: prune keeps it
        return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
