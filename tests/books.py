"""Small books for the tests of the machinery that builds the big one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNEL = "kernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n"
FRONT = "---\n" + KERNEL + "{}---\n\n# {}\n"
CELL = "\n```{{code-cell}} ipython3\n{}\n```\n"


def page_text(title, *cells, front=""):
    return FRONT.format(front, title) + "".join(CELL.format(c) for c in cells)


def edit(name, old, new):
    def change(root):
        path = root / name
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, 1).encode())

    return change


def write(name, text):
    def change(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf8")

    return change


def only(root, **pages):
    """Make the toy book hold just these pages."""
    chapters = "".join(f"  - file: book/{name}\n" for name in pages)
    write("_toc.yml", f"format: jb-book\nroot: book/prose\nchapters:\n{chapters}")(root)
    for name, text in pages.items():
        write(f"book/{name}.md", text)(root)


def small_book(folder):
    """The book's real settings, theme and extensions around two small pages."""
    for name in ("website", "vlmbook"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_config.yml", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    write("_toc.yml", "format: jb-book\nroot: book/index\nchapters:\n  - file: book/deep/b\n")(
        folder
    )
    write("book/references.bib", "@misc{a1, title={T}, author={A, B}, year={2000}}\n")(folder)
    text = page_text(
        "Front",
        "from vlmbook import page\npage.glue('n', 41 + 1)",
        front="extras: [search, datasets]\n",
    )
    exercise = (
        '\n:::{exercise} Add\n:label: ex-add\n:class: dropdown\n\nAdd. `check("add", add)`\n:::\n'
        "\n:::{solution} ex-add\n:class: dropdown\n\n```python\nadd = sum\n```\n:::\n"
    )
    text += "\nThe answer is {glue:text}`n`. See {doc}`deep/b`.\n" + exercise
    write("book/index.md", text)(folder)
    empty = ("{page-status}", "{bibliography}")
    blocks = [f"```{name}\n```\n" for name in empty]
    quote = "```{literalinclude} ../../vlmbook/page.py\n:pyobject: result\n```\n"
    text = "\n".join(["# Back\n", "$x^2$, {cite}`a1`.\n", quote, *blocks])
    write("book/deep/b.md", text)(folder)
    return folder


BUILD = (sys.executable, "-m", "website.build")


def environment(folder):
    return os.environ | {"PYTHONPATH": str(folder), "GITHUB_REPOSITORY": "someone/fork"}


def start(folder, *command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(folder), **pipes)


def build(folder, *command):
    process = start(folder, *(command or BUILD))
    out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)
