"""Where a stored result comes from: what made it, when, and on what."""

from __future__ import annotations

import datetime
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


def provenance(command: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The fields that every file in vlmbook/results begins with."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "command": command,
        "commit": found.stdout.strip() or "unknown",
        "date": datetime.date.today().isoformat(),
        "device": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__.split("+")[0],
        "seeds": list(seeds),
    }
