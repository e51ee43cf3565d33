"""Say under each page's title what running it cost, as the executor measured it."""

from __future__ import annotations

import json

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation

_ = get_translation("book")


def device(run: dict) -> str:
    """What a page ran on, such as: a CPU (2 threads)."""
    if run["device"] == "cuda":
        return _("an %(device_name)s") % run
    if run["threads"] == 1:
        return _("a CPU (1 thread)")
    return _("a CPU (%(threads)d threads)") % run


def seconds(run: dict) -> str:
    """How long a page ran, with a decimal where it was short."""
    return f"{run['seconds']:.0f}" if run["seconds"] >= 9.95 else f"{run['seconds']:.1f}"


def sentence(run: dict) -> str:
    """A run in words, such as: Ran in 12 s, 0.6 GB, on a CPU (2 threads), 2026-11-23."""
    values = {
        "seconds": seconds(run),
        "memory": f"{run['peak_bytes'] / 1e9:.1f}",
        "device": device(run),
        "date": run["ended"][:10],
    }
    return _("Ran in %(seconds)s s, %(memory)s GB, on %(device)s, %(date)s.") % values


def add_cost_line(app: Sphinx, doctree: nodes.document) -> None:
    """Insert the sentence below the title of a page that ran."""
    run = app.env.metadata[app.env.docname].pop("run", None)
    if run is None:
        return
    text = sentence(json.loads(run) if isinstance(run, str) else run)
    title = next(doctree.findall(nodes.title))
    title.parent.insert(
        title.parent.index(title) + 1, nodes.paragraph(text, text, classes=["cost-line"])
    )


def setup(app: Sphinx) -> dict:
    """Insert after the pages are read."""
    app.connect("doctree-read", add_cost_line)
    return {"version": "1", "parallel_read_safe": True}
