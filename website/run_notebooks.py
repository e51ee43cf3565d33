"""Run exported notebooks as a reader would, with the packages of the Python that runs this.

    python website/run_notebooks.py published/notebooks
    python website/run_notebooks.py --colab published/notebooks/clip.ipynb

It needs nbclient and nothing of the book. Each notebook runs in a kernel and a folder of its own; a
cell that fails, or more memory than Binder gives, is a failure. With --colab the notebooks find the
module that tells them that they run in Colab, so their first cell installs the book.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

BINDER_BYTES = 2e9
CELL_SECONDS = 900  # Binder's machines are slow and shared
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def notebooks(paths: list[Path]) -> Iterator[tuple[str, Path]]:
    """The notebooks that some paths name or hold, each with its name below them."""
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*.ipynb")):
                yield file.relative_to(path).with_suffix("").as_posix(), file
        else:
            yield path.stem, path


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held, on Linux; elsewhere 0."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return 0
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])


def pip_failure(cell: nbformat.NotebookNode) -> str:
    """What pip said when it failed, which by itself does not fail a cell; otherwise nothing."""
    said = "".join(output.get("text", "") for output in cell.get("outputs", []))
    return said if "%pip" in cell.source and re.search(r"^ERROR: ", said, re.M) else ""


def run(path: Path, colab: bool) -> int:
    """Run one notebook; returns the most memory that its kernel held, in bytes."""
    notebook = nbformat.read(path, as_version=4)
    arguments = ["--IPKernelApp.exec_lines=import google.colab"] if colab else []
    with tempfile.TemporaryDirectory() as folder:
        # what one notebook installs, the next one does not have
        own = {"PIP_USER": "1", "PYTHONUSERBASE": folder} if colab else {}
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=arguments,
            resources={"metadata": {"path": folder}},
        )
        with client.setup_kernel(env={**os.environ, **own}, stderr=subprocess.DEVNULL):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                if failed := pip_failure(cell):
                    raise RuntimeError(failed)
            return peak_bytes(client.km.provisioner.pid)


def main() -> int:
    """Run from the command line; returns 1 when a notebook failed."""
    parser = argparse.ArgumentParser(description="Run exported notebooks as a reader would.")
    parser.add_argument("paths", nargs="+", type=Path, help="notebooks, or folders of them")
    parser.add_argument("--colab", action="store_true", help="as in Colab")
    arguments = parser.parse_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    found, failed = list(notebooks(arguments.paths)), []
    for name, path in found:
        started, problem, peak = time.monotonic(), "", 0
        try:
            peak = run(path, arguments.colab)
        except CellExecutionError as error:
            problem = ANSI.sub("", str(error))
        except (CellTimeoutError, DeadKernelError, RuntimeError) as error:
            problem = str(error)
        if not arguments.colab and peak > BINDER_BYTES:
            problem = f"it took more than the {BINDER_BYTES / 1e9:g} GB that Binder gives"
        seconds = time.monotonic() - started
        said = "FAILED" if problem else "ran"
        print(f"{name:<28} {said} in {seconds:5.1f} s, {peak / 1e9:.2f} GB", flush=True)
        if problem:
            failed.append(name)
            print(problem, flush=True)
    if not found:
        print(f"there are no notebooks in {', '.join(map(str, arguments.paths))}")
    print(f"{len(found) - len(failed)} of {len(found)} notebooks ran", flush=True)
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
