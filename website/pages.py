"""Read the book's pages: which there are, what their front matter says, and their cells."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nbformat
import yaml
from myst_nb.core.read import read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from sphinx_external_toc.parsing import parse_toc_yaml

from vlmbook import hub
from website import device

CELL_FENCE = re.compile(r"^[ \t>]*(?:`{3,}|~{3,}|:{3,})\{code-cell\}", re.M)


class PageError(Exception):
    """Something is wrong with a page; the message names it and says what to do."""


@dataclass(frozen=True)
class Page:
    """One page of the book; name is its path below the root, such as book/clip.md."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """Where the page is."""
        return self.root / self.name

    @cached_property
    def text(self) -> str:
        """The page's source; Python's reader has already turned CRLF into LF."""
        return self.path.read_text("utf8")

    @cached_property
    def notebook(self) -> nbformat.NotebookNode | None:
        """The page as a notebook without outputs, or None for a page without code cells."""
        if not CELL_FENCE.search(self.text):
            return None
        return read_notebook(self.text, str(self.path))

    @cached_property
    def code(self) -> list[Cell]:
        """The code cells, in order."""
        if self.notebook is None:
            return []
        lines = self.notebook.metadata["source_map"]
        cells = [
            Cell(number, index, line + 1, cell.source, dict(cell.metadata))
            for number, (index, line, cell) in enumerate(
                (
                    (index, line, cell)
                    for index, (line, cell) in enumerate(
                        zip(lines, self.notebook.cells, strict=True)
                    )
                    if cell.cell_type == "code"
                ),
                start=1,
            )
        ]
        fences = len(CELL_FENCE.findall(self.text))
        if fences != len(cells):
            raise PageError(
                f"{self.name} has {fences} code cells, of which {len(cells)} would run; write each "
                "at the top level (not inside a list or directive) and fence it with backticks"
            )
        return cells

    @property
    def depends(self) -> list[str]:
        """The files and folders that the page reads when it runs, as its front matter says."""
        names = self._front("depends", [])
        return [names] if isinstance(names, str) else list(names)

    @property
    def extras(self) -> list[str]:
        """The extras of vlmbook that the page needs, as pyproject.toml names them."""
        return list(self._front("extras", []))

    @property
    def alone(self) -> bool:
        """Whether the page runs by itself with all cores."""
        return bool(self._front("alone", False))

    @property
    def at_hub(self) -> bool:
        """Whether the page loads real checkpoints when it runs here."""
        if not any(cell.at_hub for cell in self.code):
            return False
        try:
            return hub.wanted(device.device_class() == "cuda")
        except ValueError as error:
            raise PageError(str(error)) from None

    def _front(self, key: str, default: Any) -> Any:
        return default if self.notebook is None else self.notebook.metadata.get(key, default)


@dataclass(frozen=True)
class Cell:
    """One code cell: its number among the code cells, its place among all, its line in the .md."""

    number: int
    index: int
    line: int
    source: str
    metadata: dict[str, Any]

    @property
    def tags(self) -> list[str]:
        """The cell's tags."""
        return list(self.metadata.get("tags", []))

    @property
    def at_hub(self) -> bool:
        """Whether it loads a real checkpoint, where that is wanted."""
        return "hub" in self.tags


def read_notebook(text: str, path: str) -> nbformat.NotebookNode:
    """A page's source as MyST-NB understands it, with the line of each cell."""
    return read_myst_markdown_notebook(
        text, config=MdParserConfig(), add_source_map=True, path=path
    )


def book_pages(root: Path) -> list[Page]:
    """The pages that _toc.yml lists, in its order."""
    toc = parse_toc_yaml(root / "_toc.yml")
    pages = [Page(root, f"{name}.md") for name in toc]
    for page in pages:
        if not page.path.is_file():
            raise PageError(f"_toc.yml lists {page.name}, which does not exist")
    return pages


def load_config(root: Path) -> dict[str, Any]:
    """What _config.yml says."""
    return yaml.safe_load((root / "_config.yml").read_text("utf8"))
