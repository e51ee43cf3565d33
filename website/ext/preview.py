"""Show a figure of one page on another, small, as it came out when that page ran.

:::{preview} clip/space
:figure: map-trained
:alt: Two bands of dots, joined by lines.

Look into {doc}`the space <clip/space>` that pictures and sentences share.
:::
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import ClassVar

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from PIL import Image
from sphinx.application import Sphinx
from sphinx.util import docname_join
from sphinx.util.docutils import SphinxDirective

from website import execute
from website.ext.executed import ExecutedParser

WIDTH = 420  # pixels, twice what a preview has on the page
PNG = "image/png"


def figure(executed: nbformat.NotebookNode, name: str) -> bytes | None:
    """The PNG that a page has glued under a name, or None."""
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            if output.get("metadata", {}).get("scrapbook", {}).get("name") == name:
                kinds = output.get("data", {}).items()
                return next((base64.b64decode(v) for k, v in kinds if k.endswith(PNG)), None)
    return None


class Preview(SphinxDirective):
    """A small picture that leads to the page that made it, above some words on it."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict] = {"figure": directives.unchanged_required,
                                   "alt": directives.unchanged_required}  # fmt: skip

    def run(self) -> list[nodes.Node]:
        """The picture and the words."""
        page = docname_join(self.env.docname, self.arguments[0])
        if {"figure", "alt"} - self.options.keys():
            raise self.error("a preview needs :figure:, the name of what is shown, and :alt:")
        name = self.options["figure"]
        key = ExecutedParser.keys.get(str(self.env.doc2path(page)))
        png = key and figure(execute.store(execute.ROOT).load(key), name)
        if not png:
            raise self.error(f"the page {page!r} has glued no figure as {name!r}")
        folder = Path(self.env.app.outdir).parent / "previews"
        folder.mkdir(exist_ok=True)
        path = folder / f"{page.replace('/', '-')}-{name}.webp"
        picture = Image.open(io.BytesIO(png)).convert("RGBA")
        picture.thumbnail((WIDTH, WIDTH))
        picture.save(path, quality=80)
        here = Path(self.env.doc2path(self.env.docname)).parent
        shown = nodes.image(uri=os.path.relpath(path, here), alt=self.options["alt"])
        address = self.env.app.builder.get_relative_uri(self.env.docname, page)
        link = nodes.reference("", "", shown, refuri=address, internal=True)
        card = nodes.container("", nodes.paragraph("", "", link), classes=["preview"])
        self.state.nested_parse(self.content, self.content_offset, card)
        return [card]


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("preview", Preview)
    return {"version": "1", "parallel_read_safe": True}
