"""List the pages that ran: when, where, for how long, with how much memory, and for which build."""

from __future__ import annotations

import os
from collections.abc import Iterable

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation
from sphinx.util.docutils import SphinxDirective

from website import execute, repository
from website.ext.costline import device, seconds
from website.ext.executed import ExecutedParser
from website.pages import load_config

_ = get_translation("book")


def fresh(run: dict) -> bool:
    """Whether a run belongs to the build that is going on, rather than to one before it."""
    return run["ended"] >= os.environ.get(execute.STARTED, "9999")


def row(cells: Iterable[nodes.Node | str]) -> nodes.row:
    """A row of a table."""
    made = nodes.row()
    for cell in cells:
        content = cell if isinstance(cell, nodes.Node) else nodes.Text(str(cell))
        made += nodes.entry("", nodes.paragraph("", "", content))
    return made


def table(head: list[str], rows: list[nodes.row]) -> nodes.table:
    """A table with a line of heads."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _head in head]
    group += nodes.thead("", row(head))
    group += nodes.tbody("", *rows)
    return nodes.table("", group, classes=["page-status"])


class PageStatus(SphinxDirective):
    """A sentence that sums up, and a row for each page with code, in the book's order."""

    def run(self) -> list[nodes.Node]:
        """The sentence and the table."""
        kept = execute.store(execute.ROOT)
        runs = {path: kept.load(key).metadata["run"] for path, key in ExecutedParser.keys.items()}
        rows = [row(self._cells(path, run)) for path, run in runs.items()]
        num_fresh = sum(fresh(run) for run in runs.values())
        values = {
            "commit": repository.commit(execute.ROOT, load_config(execute.ROOT))[:10],
            "pages": len(runs),
            "fresh": num_fresh,
            "kept": len(runs) - num_fresh,
            "seconds": f"{sum(run['seconds'] for run in runs.values()):.0f}",
            "memory": f"{max(run['peak_bytes'] for run in runs.values()) / 1e9:.1f}",
        }
        summary = _(
            "Built from commit %(commit)s. %(pages)d pages ran for %(seconds)s s in all, none with "
            "more than %(memory)s GB. For this build: %(fresh)d; kept from before, as nothing had "
            "changed on which they depend: %(kept)d."
        )
        head = [_("Page"), _("Ran, in UTC"), _("Where"), _("Seconds"), _("GB"), _("For this build")]
        return [nodes.paragraph("", summary % values), table(head, rows)]

    def _cells(self, path: str, run: dict) -> list[nodes.Node | str]:
        """What the table says of one page."""
        docname = self.env.path2doc(path)
        link = addnodes.pending_xref(
            "", nodes.inline(), refdomain="std", reftype="doc", refdoc=self.env.docname,
            reftarget=f"/{docname}", refexplicit=False, refwarn=True,
        )  # fmt: skip
        when = run["ended"][:16].replace("T", " ")
        memory = f"{run['peak_bytes'] / 1e9:.1f}"
        return [
            link,
            when,
            device(run),
            seconds(run),
            memory,
            _("ran") if fresh(run) else _("kept"),
        ]


def setup(app: Sphinx) -> dict:
    """Add the directive."""
    app.add_directive("page-status", PageStatus)
    return {"version": "1", "parallel_read_safe": True}
