"""A page's section with a real checkpoint: run where the hub is, else shown from the last record.

A page writes what it asks of a checkpoint as a function that returns what JSON can hold, and hands
it to Section.run. VLMBOOK_HUB decides: 1 runs it, 0 does not, and auto, the default, does where
there is a GPU and the hub answers. With VLMBOOK_HUB_RECORD=1 what came out is kept, in
vlmbook/results/checkpoints/, for builds that can't run it.

Book: appendix/checkpoints.md.
"""

from __future__ import annotations

import json
import os
import socket
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SETTING, RECORD = "VLMBOOK_HUB", "VLMBOOK_HUB_RECORD"
CHOICES = ("0", "1", "auto")
RECORDS = Path(__file__).parent / "results" / "checkpoints"


def wanted(gpu: bool | None = None) -> bool:
    """Whether pages load real checkpoints here. gpu is whether there is one; left out, torch says.

    Raises ValueError for a setting that does not exist.
    """
    setting = os.environ.get(SETTING, "auto")
    if setting not in CHOICES:
        raise ValueError(f"{SETTING} is {setting!r}; set it to one of {', '.join(CHOICES)}")
    if setting != "auto":
        return setting == "1"
    return (_has_gpu() if gpu is None else gpu) and _answers()


class Section:
    """One section, by the name of its record.

    found is what came out, here or when it was recorded, and None without either; a section is
    true where there is something to show.
    """

    def __init__(self, name: str) -> None:
        self.name, self.found, self.about = name, None, {}

    def __bool__(self) -> bool:
        return self.found is not None

    def run(self, ask: Callable[[], Any], folder: Path = RECORDS, gpu: bool = False) -> Section:
        """Run ask() where pages load checkpoints, or read its record; say which.

        gpu: it needs one, and does not run without.
        """
        path, why = folder / f"{self.name}.json", f"{SETTING}={os.environ.get(SETTING, 'auto')}"
        wants = wanted()
        if wants and gpu and not _has_gpu():
            wants, why = False, "it needs a GPU"
        if wants:
            from vlmbook import checkpoint

            self.found, self.about = ask(), checkpoint.provenance([0])
            print(f"ran here, on {self.about['device']}")
            if os.environ.get(RECORD) == "1":
                path.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps({**self.about, "found": self.found}, ensure_ascii=False, indent=1)
                path.write_text(text + "\n", "utf8")
        elif path.is_file():
            self.about = json.loads(path.read_text("utf8"))
            self.found = self.about.pop("found")
            print(f"recorded on {self.about['date']}, on {self.about['device']}")
        else:
            print(f"not run: {why}, and there is no record")
        return self


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def photographs() -> dict[str, Tensor]:
    """Four photographs that scikit-image ships, by what they show: pixels (1, 3, H, W) in [0, 1].

    A cat (Stéfan van der Walt), the astronaut Eileen Collins (NASA), a cup of coffee (Rachel
    Michetti, courtesy of Pikolo Espresso Bar) and the launch of a rocket (SpaceX): CC0, or in the
    public domain.
    """
    from skimage import data

    from vlmbook import images

    shown = {
        "a cat": data.chelsea,
        "an astronaut": data.astronaut,
        "a cup of coffee": data.coffee,
        "a rocket": data.rocket,
    }
    return {name: images.open_rgb(photograph())[None] for name, photograph in shown.items()}


def _answers() -> bool:
    """Whether the hub takes a connection."""
    address = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname, port), timeout=5):
            return True
    except OSError:
        return False
