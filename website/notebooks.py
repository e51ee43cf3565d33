"""Write each page that has code as an .ipynb for Colab, Binder and Jupyter.

Its text is plain Markdown with the executed numbers in their sentences and links to the site; its
code cells are the page's, without outputs, after one that installs vlmbook in Colab.
"""

from __future__ import annotations

import hashlib
import html
import posixpath
import re
from pathlib import Path

import nbformat
from myst_nb.core.variables import format_plain_text
from pybtex.database import parse_file
from sphinx.util.inventory import InventoryFile

from website import execute, plain, repository
from website.pages import Page, PageError, load_config

GLUED = "application/papermill.record/"
CHECK = re.compile(r"`(check\(.+?\))`")  # how an exercise says that it is checked
SETUP = """\
# In Colab this installs the book's package. Elsewhere it does nothing; there, in a terminal, once:
# pip install "vlmbook{extras} @ git+{url}@{commit}"
import sys

if "google.colab" in sys.modules:
    %pip install -q "vlmbook{extras} @ git+{url}@{commit}"\
"""


class Site:
    """The built English pages, asked for addresses, titles and numbers."""

    def __init__(self, root: Path, folder: Path, address: str):
        self.root, self.folder, self.address = root, folder, address
        with (folder / "objects.inv").open("rb") as file:
            self.inventory = InventoryFile.load(file, address, posixpath.join)
        self.bibliography = {
            key.lower(): entry
            for name in load_config(root).get("bibtex_bibfiles", [])
            for key, entry in parse_file(str(root / name), "bibtex").entries.items()
        }

    def find(self, kind: str, name: str) -> tuple[str, str]:
        """The address and title of something in the inventory."""
        found = self.inventory.get(f"std:{kind}", {})
        entry = found.get(name) or found.get(name.lower())
        if entry is None:
            raise plain.NotPlain(f"there is no {kind} {name!r} in the site")
        return entry[2].replace("#$", f"#{name}"), "" if entry[3] == "-" else entry[3]

    def number(self, label: str) -> tuple[str, str]:
        """The address of a numbered figure, table or equation, and what the site calls it."""
        for path in sorted(self.folder.rglob("*.html")):
            text = path.read_text("utf8")
            for anchor, pattern in (
                (label, r'.*?class="caption-number">([^<]+)<'),
                (f"equation-{label}", r'.*?class="eqno">(\([^)<]*\))'),
            ):
                found = re.search(f'id="{re.escape(anchor)}"{pattern}', text, re.S)
                if found:
                    page = path.relative_to(self.folder).as_posix()
                    return f"{self.address}/{page}#{anchor}", found[1].strip()
        return self.find("label", label)

    def citation(self, keys: str, in_text: bool) -> str:
        """Citations in words, such as (Radford et al., 2021)."""
        works = []
        for key in keys.split(","):
            entry = self.bibliography.get(key.strip().lower())
            if entry is None:
                raise plain.NotPlain(f"there is no entry {key.strip()!r} in the bibliography")
            people = entry.persons.get("author") or entry.persons.get("editor") or []
            names = [" ".join(who.prelast_names + who.last_names) for who in people]
            last = names[0] if people else key.strip()
            several = " et al." if len(people) > 2 else ""
            second = f" and {names[1]}" if len(people) == 2 else ""
            year = entry.fields.get("year", "n.d.")
            name = f"{last}{several}{second}".replace("{", "").replace("}", "")
            works.append(f"{name} ({year})" if in_text else f"{name}, {year}")
        return ", ".join(works) if in_text else f"({'; '.join(works)})"

    def links(self, page: Page, glued: dict[str, str]) -> plain.Links:
        """What the references on one page lead to."""
        here = posixpath.dirname(page.name)
        own = f"{self.address}/{_docname(page)}.html"

        def document(target: str) -> tuple[str, str]:
            name, _, anchor = target.removesuffix(".md").partition(".md#")
            full = posixpath.normpath(posixpath.join(here, name)) if name[0] != "/" else name[1:]
            address, title = self.find("doc", full.removeprefix("book/"))
            return address + (f"#{anchor}" if anchor else ""), title

        def reference(target: str) -> tuple[str, str]:
            try:
                return self.find("label", target)
            except plain.NotPlain:
                return f"{own}#{target}", target

        def image(target: str) -> str:
            name = posixpath.basename(target)
            if not (self.folder / "_images" / name).is_file():
                raise plain.NotPlain(f"the image {target!r} is not in the site")
            return f"{self.address}/_images/{name}"

        def value(body: str) -> str:
            key, _, spec = body.partition(":")
            if key not in glued:
                raise plain.NotPlain(f"nothing is glued as {key!r}")
            return format_plain_text(glued[key], spec)

        def quote(target: str, name: str | None) -> str:
            return plain.python_object((page.path.parent / target).read_text("utf8"), name)

        return plain.Links(
            reference=reference,
            document=document,
            term=lambda name: self.find("term", name)[0],
            image=image,
            number=self.number,
            citation=self.citation,
            glued=value,
            quote=quote,
        )


def _docname(page: Page) -> str:
    return page.name.removeprefix("book/").removesuffix(".md")


def glued_values(executed: nbformat.NotebookNode) -> dict[str, str]:
    """What an executed page glued, as plain text."""
    values = {}
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = {k.removeprefix(GLUED): v for k, v in output.get("data", {}).items()}
            if name and "text/plain" in text:
                values[name] = text["text/plain"]
    return values


def with_link(source: str, address: str) -> str:
    """A page's first text, with a link to the page below its title."""
    title, _, rest = source.partition("\n")
    note = f"*A page of the book [Vision-Language Models from Scratch]({address}).*"
    return "\n\n".join(part for part in (title, note, rest.strip()) if part)


def convert(
    page: Page, executed: nbformat.NotebookNode, site: Site, setup: str
) -> nbformat.NotebookNode:
    """One page as a notebook; raises PageError where its MyST has no plain form."""
    links = site.links(page, glued_values(executed))
    cells = []
    for cell in page.notebook.cells:
        if cell.cell_type == "code":
            tags = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
            cells.append(nbformat.v4.new_code_cell(cell.source, metadata=tags))
            continue
        try:
            text = plain.convert(cell.source, links)
        except plain.NotPlain as error:
            raise PageError(f"{page.name} cannot become a notebook: {error}") from error
        cells += _text_cells(html.unescape(text))
    if cells and cells[0].cell_type == "markdown":
        cells[0].source = with_link(cells[0].source, f"{site.address}/{_docname(page)}.html")
    if "vlmbook" in "".join(cell.source for cell in page.code):
        cells.insert(1, nbformat.v4.new_code_cell(setup))
    notebook = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
            "colab": {"provenance": []},
        },
    )
    _give_ids(notebook)
    nbformat.validate(notebook)
    return notebook


def _text_cells(text: str) -> list[nbformat.NotebookNode]:
    """A text as cells: below each exercise, one for the reader's answer."""
    cells = []
    *exercises, rest = text.split(plain.ANSWER)
    for exercise in exercises:
        cells.append(nbformat.v4.new_markdown_cell(exercise.strip()))
        call = CHECK.findall(exercise)
        start = "# Your answer" + (f"; then remove the # below\n\n# {call[-1]}" if call else "")
        cells.append(nbformat.v4.new_code_cell(start))
    if rest.strip():
        cells.append(nbformat.v4.new_markdown_cell(rest.strip()))
    return cells


def _give_ids(notebook: nbformat.NotebookNode) -> None:
    """Cell ids that change only with the cell."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def export(root: Path, keys: dict[Page, str], out: Path) -> None:
    """Write the notebooks of a built site (out/en) into out/notebooks."""
    config = load_config(root)
    site = Site(root, out / "en", f"{repository.pages_url(config)}/en")
    where = {"url": repository.url(config), "commit": repository.commit(root, config)}
    (out / "notebooks").mkdir(exist_ok=True)
    for page, key in keys.items():
        target = out / "notebooks" / f"{_docname(page)}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        extras = f"[{','.join(page.extras)}]" if page.extras else ""
        setup = SETUP.format(extras=extras, **where)
        notebook = convert(page, execute.store(root).load(key), site, setup)
        target.write_text(nbformat.writes(notebook) + "\n", "utf8")
