"""What the pages run on: a device class for the key, and words for the cost line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import lru_cache


@lru_cache(maxsize=1)
def device_class() -> str:
    """ "cuda" where torch can use an NVIDIA GPU, otherwise "cpu"."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1") or not shutil.which(
        "nvidia-smi"
    ):
        return "cpu"  # known without waiting for torch
    code = "import torch; print(torch.cuda.is_available())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return "cuda" if answer.stdout.strip() == "True" else "cpu"


def gpu_name() -> str:
    """The first GPU's name, such as NVIDIA H200."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True)
    return (answer.stdout.strip().splitlines() or ["GPU"])[0]


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
