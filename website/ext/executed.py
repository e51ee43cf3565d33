"""Give each page the outputs that the executor has stored for it, running first what is stale.

MyST-NB's own cache knows a page's cells and nothing of what they import, so it would show stale
outputs; here a page's key covers both (website/fingerprint.py). MyST-NB renders, and never runs.
"""

from __future__ import annotations

from typing import ClassVar

import nbformat
from docutils import nodes
from myst_nb.sphinx_ import Parser
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from website import execute
from website.pages import PageError, read_notebook

READER = "website.ext.executed.read_executed"


class ExecutedParser(Parser):
    """MyST-NB's parser; a page with code cells is read together with its stored outputs."""

    keys: ClassVar[dict[str, str]] = {}

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse a page's source."""
        stock = self.env.mystnb_config
        path = str(self.env.doc2path(self.env.docname))
        if path in self.keys:
            arguments = {"path": path, "key": self.keys[path]}
            self.env.mystnb_config = stock.copy(custom_formats={".md": (READER, arguments, False)})
        try:
            super().parse(inputstring, document)
        finally:
            self.env.mystnb_config = stock


def read_executed(text: str, path: str, key: str) -> nbformat.NotebookNode:
    """A page's source as a notebook, with the outputs of its code cells."""
    notebook = read_notebook(text, path)
    done = execute.store(execute.ROOT).load(key)
    outputs = [cell.outputs for cell in done.cells if cell.cell_type == "code"]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, output in zip(cells, outputs, strict=True):
        cell.outputs = output
    for name in ("depends", "alone"):
        notebook.metadata.pop(name, None)  # for the executor; not part of the page
    notebook.metadata["run"] = done.metadata["run"]
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    return notebook


def run_stale_pages(app: Sphinx) -> None:
    """Bring the stored outputs up to date before the pages are read."""
    try:
        keys = execute.run(execute.ROOT)
    except (execute.ExecutionFailed, PageError) as error:
        raise ExtensionError(str(error)) from error
    ExecutedParser.keys = {str(page.path): key for page, key in keys.items()}


def setup(app: Sphinx) -> dict:
    """Replace MyST-NB's parser."""
    app.setup_extension("myst_nb")
    app.add_source_parser(ExecutedParser, override=True)
    app.connect("builder-inited", run_stale_pages)
    return {"version": "1", "parallel_read_safe": False}
