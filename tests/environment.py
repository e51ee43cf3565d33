"""Run the tests with the lowest or the newest versions of what the package needs.

    python tests/environment.py lowest
    python tests/environment.py newest --book

The lowest are those that pyproject.toml admits, the newest those that pip finds today. Either set
is installed into an environment of its own, _build/environments, with the Python that runs this.
The lowest are for the package alone, since requirements.txt pins what the site is built with; with
--book the newest ones build the book as well.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OF_THE_SITE = ("book", "book_hub", "private", "publishing", "tidy")  # their tests need Sphinx
NEEDS = {"lowest": ".[dev]", "newest": ".[book,dev,datasets]"}
BOUND = re.compile(r'"([A-Za-z0-9_-]+)>=([0-9.]+)')


def lowest(names: Iterable[str] = ()) -> list[str]:
    """The lowest versions that pyproject.toml admits, of some packages or of all, as pip's pins."""
    bounds = BOUND.findall((ROOT / "pyproject.toml").read_text("utf8"))
    wanted = set(names)
    return sorted(f"{name}=={bound}" for name, bound in bounds if not wanted or name in wanted)


def install(which: str) -> Path:
    """An environment with these versions; returns its Python."""
    folder = ROOT / "_build" / "environments" / which
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [folder / "bin" / "pip", "install", "--disable-pip-version-check", "-e", NEEDS[which]]
    if which == "lowest":
        constraints = folder / "constraints.txt"
        constraints.write_text("\n".join(lowest()) + "\n", "utf8")
        pip += ["--constraint", constraints]
    subprocess.run(pip, cwd=ROOT, check=True)
    return folder / "bin" / "python"


def main() -> int:
    """Install, run the tests, and build the book if that is asked; returns 1 when one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=sorted(NEEDS))
    parser.add_argument("--book", action="store_true", help="build the book, too")
    arguments = parser.parse_args()
    python = install(arguments.which)
    tests = [python, "-m", "pytest", "-n", "auto"]
    if arguments.which == "lowest":
        tests += ["-W", "ignore::DeprecationWarning"]  # of what came out since
        tests += [f"--ignore=tests/test_{name}.py" for name in OF_THE_SITE]
        tests += ["--ignore=tests/site"]
    commands = [tests]
    if arguments.book:
        commands.append([python, "-m", "website.build"])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = [subprocess.run(command, cwd=ROOT, env=environment) for command in commands]
    return int(any(it.returncode for it in done))


if __name__ == "__main__":
    sys.exit(main())
