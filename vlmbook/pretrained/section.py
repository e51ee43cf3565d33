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
from typing import Any

import torch
from huggingface_hub import constants

from vlmbook import checkpoint

SETTING, RECORD = "VLMBOOK_HUB", "VLMBOOK_HUB_RECORD"
CHOICES = ("0", "1", "auto")
RECORDS = Path(__file__).parent.parent / "results" / "checkpoints"


def wanted() -> bool:
    """Whether pages load real checkpoints here."""
    setting = os.environ.get(SETTING, "auto")
    if setting not in CHOICES:
        raise ValueError(f"{SETTING} is {setting!r}; set it to one of {', '.join(CHOICES)}")
    if setting == "auto":
        return torch.cuda.is_available() and _answers()
    return setting == "1"


class Section:
    """One section, by the name of its record.

    found is what came out, here or when it was recorded, and None without either; it is true where
    there is something to show.
    """

    def __init__(self, name: str) -> None:
        self.name, self.found, self.about = name, None, {}

    def __bool__(self) -> bool:
        return self.found is not None

    def run(self, ask: Callable[[], Any], folder: Path = RECORDS) -> Section:
        """Run ask() where pages load checkpoints, or read its record; say which."""
        path = folder / f"{self.name}.json"
        if wanted():
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
            print(f"not run: {SETTING}={os.environ.get(SETTING, 'auto')}, and there is no record")
        return self


def _answers() -> bool:
    """Whether the hub takes a connection."""
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname, port), timeout=5):
            return True
    except OSError:
        return False
