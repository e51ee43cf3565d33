"""Folders that are replaced as a whole: a writer who is killed leaves the last whole one."""

from __future__ import annotations

import shutil
from pathlib import Path


def begin(folder: Path) -> Path:
    """An empty folder beside another one, for what shall replace that."""
    recover(folder)
    for left in (coming(folder), _old(folder)):  # by a writer who was killed
        shutil.rmtree(left, ignore_errors=True)
    coming(folder).mkdir(parents=True)
    return coming(folder)


def finish(folder: Path) -> None:
    """Put what begin gave in the place of the folder."""
    if folder.exists():
        folder.rename(_old(folder))
    coming(folder).rename(folder)
    shutil.rmtree(_old(folder), ignore_errors=True)


def recover(folder: Path) -> None:
    """Put the folder back if its writer was killed just before the new one took its place."""
    if _old(folder).exists() and not folder.exists():
        _old(folder).rename(folder)


def coming(folder: Path) -> Path:
    """Where the new content of a folder is written."""
    return folder.with_name(f".{folder.name}.partial")


def _old(folder: Path) -> Path:
    """Where the last content waits until the new one is in place."""
    return folder.with_name(f".{folder.name}.old")
