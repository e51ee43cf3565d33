"""What a page hands to its text: numbers inside sentences, figures, tables.

While the book is built, a glued value waits for the text to show it, with `{glue:text}` in a
sentence or `{glue:figure}` with a caption and alt text. Anywhere else (Colab, Jupyter, a plain
script) there is no such text, so the value is shown where it is glued.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

BUILDING = "VLMBOOK_BUILDING"  # set by website/execute.py in the kernels that run the pages


def _myst_glue():
    """MyST-NB's own glue while the book is built, otherwise None."""
    if BUILDING not in os.environ:
        return None
    try:
        from myst_nb import glue as myst_glue
    except ImportError:
        return None
    return myst_glue


def _show(value: Any) -> None:
    """Display a value as a notebook would, or print it where there is no notebook."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(value)
        return
    display(value) if get_ipython() else print(value)


def glue(name: str, value: Any, display: bool = False) -> None:
    """Keep a value under a name that the page's text refers to as {glue:text}`name`.

    display shows it below the cell as well. Outside the book's build the value is always shown,
    with its name when it is a number or a string.
    """
    myst_glue = _myst_glue()
    if myst_glue is not None:
        myst_glue(name, value, display=display)
    elif isinstance(value, (int, float, str)):
        print(f"{name} = {value}")
    else:
        _show(value)


def figure(name: str, fig: Any) -> None:
    """Keep a matplotlib figure under a name, for a {glue:figure} with its caption and alt text.

    The figure is closed afterwards, so that a notebook does not draw it a second time.
    """
    glue(name, fig)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(fig)


def result(name: str) -> dict:
    """A measured result that the package carries, vlmbook/results/<name>.json.

    A page that reads one names it in its front matter, under depends.
    """
    folder = Path(__file__).parent / "results"
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none yet"
        raise FileNotFoundError(f"there is no result {name!r}; there are: {known}")
    return json.loads(path.read_text("utf8"))
