"""Run the tests that touch transformers, with its lowest and its newest version.

    python tests/contract.py [lowest] [newest]

The lowest are those that pyproject.toml admits, of transformers and what goes with it. Both sets
are installed beside the environment, in _build/contract, and come before it; all else is what
requirements.txt pins. bitsandbytes is tested here alone: where it is installed, other libraries
load it, and it writes warnings into pages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("transformers", "tokenizers", "huggingface_hub", "bitsandbytes")
TESTS = ("layers", "clip", "siglip", "blip", "llava", "attribution", "tokenizer", "pretrained")
TESTS += ("pretrained_files",)


def wanted(which: str) -> list[str]:
    """What pip is to install for "lowest" or "newest"."""
    if which == "newest":
        return list(PACKAGES)
    return environment.lowest(PACKAGES)


def run(which: str) -> int:
    """Install a set where it is not yet, and run the tests with it."""
    folder, asked = ROOT / "_build" / "contract" / which, wanted(which)
    done = folder / "installed.txt"
    if which == "newest" or not done.is_file() or done.read_text("utf8").split() != asked:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--no-deps"]
        subprocess.run([*pip, "--target", str(folder), *asked], check=True)
        done.write_text(" ".join(asked), "utf8")
    before = os.environ.get("PYTHONPATH")
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), before]))}
    show = "import transformers as t, huggingface_hub as h; print(t.__version__, h.__version__)"
    print(f"{which}:", end=" ", flush=True)
    subprocess.run([sys.executable, "-c", show], env=given, check=True)
    tests = [f"tests/test_{name}.py" for name in TESTS]
    pytest = [sys.executable, "-m", "pytest", "-q", "-n", "auto", *tests]
    return subprocess.run(pytest, cwd=ROOT, env=given, check=False).returncode


if __name__ == "__main__":
    sys.exit(max(run(which) for which in sys.argv[1:] or ["lowest", "newest"]))
