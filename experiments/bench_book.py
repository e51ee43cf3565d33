"""Seconds that building the book takes: cold, from kept pages, after a change, or none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = Path("book/appendix/world.md")


def run() -> list[dict]:
    """Rows of name, value, unit and detail, measured in a copy of the tree."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "book"
        skip = shutil.ignore_patterns(".venv", ".git", "_build", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, tree, ignore=skip)
        page = tree / PAGE
        cold = _build(tree)
        pages = json.loads((tree / "_build/executed/seconds.json").read_text("utf8")).values()
        bound = max(*pages, sum(pages) / 2)
        what = f"{cold / bound:.2f} of its bound: the slowest page, or half of all, {bound:.0f} s"
        rows = [_row("cold build", cold, what)]
        shutil.rmtree(tree / "_build/site")
        rows.append(_row("build from kept pages", _build(tree), "the site deleted"))
        page.write_text(page.read_text("utf8") + "\nOne more sentence.\n", "utf8")
        rows.append(_row("build after a change of prose", _build(tree), PAGE.name))
        text = page.read_text("utf8").replace(
            "```{code-cell} ipython3\n", "```{code-cell} ipython3\n# changed\n", 1
        )
        page.write_text(text, "utf8")
        rows.append(_row("build after a change of a cell", _build(tree), PAGE.name))
        rows.append(_row("build after no change", _build(tree)))
    return rows


def _row(name: str, seconds: float, detail: str = "") -> dict:
    return {"name": name, "value": seconds, "unit": "s", "detail": detail}


def _build(tree: Path) -> float:
    """Seconds of one build of the tree, with this interpreter and the tree's own package."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "website.build"]
    subprocess.run(
        command,
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start
