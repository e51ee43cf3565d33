"""Run one page in a kernel of its own, and say what it cost or how it failed."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from website import device, private
from website.pages import Cell, Page

CELL_SECONDS, TRAIN_SECONDS, PAGE_SECONDS = 30, 120, 200  # with two cores; with one, twice that
HUB_SECONDS = 1200  # a cell that loads a real checkpoint, fetching included; no part of its page's
PAGE_BYTES = 2e9  # a page fits the notebook service with the least memory
PIXELS = ("image/png", "image/jpeg", "image/gif")  # at the end of a kind of output
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class PageFailed(Exception):
    """A page did not run as it should; the message says where and why.

    notebook is the page with the outputs that it had by then.
    """

    notebook: nbformat.NotebookNode | None = None


def slowness(threads: int) -> float:
    """How many times longer a page may take than with two cores of the reference machine."""
    return float(os.environ.get("BOOK_SLOW", "1")) * (2 if threads == 1 else 1)


def environment(root: Path, threads: int, scratch: str) -> dict[str, str]:
    """A kernel's environment: our vlmbook, so many threads, no progress bars, no user start-up.

    Without the secrets of who builds, but for those that the hub may ask for.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("HF_") or not private.is_secret(name, value)
    }
    here = str(Path(__file__).resolve().parent.parent)  # for the guard
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    return {
        **kept,
        **{f"{library}_NUM_THREADS": str(threads) for library in libraries},
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(root), here, os.environ.get("PYTHONPATH")])
        ),
        "PYTHONHASHSEED": "0",
        "TQDM_DISABLE": "1",
        "IPYTHONDIR": scratch,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # no widgets, since no progress bars
        "HF_HUB_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
        "VLMBOOK_BUILDING": "1",
    }


async def run(page: Page, threads: int) -> nbformat.NotebookNode:
    """The executed page, with what it cost in metadata["run"]; raises PageFailed."""
    notebook = copy.deepcopy(page.notebook)
    if sum("train" in cell.tags for cell in page.code) > 1:
        raise PageFailed(f"{page.name} has more than one cell tagged train; a page has one")
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        extra_arguments=["--InteractiveShellApp.extra_extensions=website.guard"],
    )
    client.create_kernel_manager()
    try:
        seconds, report = await _run_cells(client, page, threads)
    except PageFailed as failure:
        failure.notebook = notebook
        raise
    _check(page, report)
    notebook.metadata["run"] = {
        "seconds": round(seconds, 1),
        "peak_bytes": report["peak_bytes"],
        "device": device.device_class(),
        "device_name": device.gpu_name() if device.device_class() == "cuda" else "CPU",
        "threads": threads,
        "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return notebook


async def _run_cells(client: NotebookClient, page: Page, threads: int) -> tuple[float, dict]:
    """Run a page's cells in a new kernel; returns the seconds, and what the guard saw."""
    with tempfile.TemporaryDirectory(prefix="book-") as scratch:
        env = environment(page.root, threads, scratch)
        try:
            await _start(client, page, cwd=scratch, env=env)
            tells, slow = private.in_output(page.root), slowness(threads)
            seconds = fetching = 0.0
            for cell in page.code:
                started = time.monotonic()
                await _run_cell(client, page, cell, seconds - fetching, slow, tells)
                took = time.monotonic() - started
                seconds += took
                fetching += took if page.at_hub and cell.at_hub else 0.0
            return seconds, await _report(client, page, Path(scratch) / "report.json")
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            if client.km is not None:
                await client.km.shutdown_kernel(now=True)


async def _start(client: NotebookClient, page: Page, **how: Any) -> None:
    """Start a page's kernel; raises PageFailed where it does not answer."""
    try:
        await client.async_start_new_kernel(stderr=subprocess.DEVNULL, **how)
        await client.async_start_new_kernel_client()
    except RuntimeError as error:
        raise PageFailed(f"{page.name} has no kernel to run in: {error}") from error


async def _run_cell(
    client: NotebookClient,
    page: Page,
    cell: Cell,
    spent: float,
    slow: float,
    tells: Callable[[str], str | None],
) -> None:
    """Run one cell in place; raises PageFailed when it fails, is slow, or warns.

    spent is what the page has taken, in seconds; slow how many times longer it may take; tells
    says what a text tells of this machine.
    """
    where = f"{page.name}:{cell.line} (code cell {cell.number})"
    allowed = (TRAIN_SECONDS if "train" in cell.tags else CELL_SECONDS) * slow
    left = PAGE_SECONDS * slow - spent
    at_hub = page.at_hub and cell.at_hub
    if at_hub:
        allowed = left = HUB_SECONDS
    client.timeout_func = lambda _: max(1, min(allowed, left))
    node = client.nb.cells[cell.index]
    try:
        await client.async_execute_cell(node, cell.index)
    except CellExecutionError as error:
        if tells(error.traceback) == private.A_TOKEN:
            node.outputs = []
            raise PageFailed(f"{where} failed, with a token in what it said") from None
        raise PageFailed(f"{where} failed\n{ANSI.sub('', error.traceback)}") from error
    except CellTimeoutError as error:
        reason = (
            f"took longer than {allowed:g} s; make it cheaper, or tag it train if it trains"
            if allowed <= left
            else f"brought its page over {PAGE_SECONDS * slow:g} s; make the page cheaper"
        )
        raise PageFailed(f"{where} {reason} (on a slow machine, set BOOK_SLOW=3)") from error
    except DeadKernelError as error:
        raise PageFailed(f"{where} ended its kernel, perhaps for lack of memory") from error
    if at_hub:  # libraries tell there of what they have survived
        node.outputs = [o for o in node.outputs if o.get("name") != "stderr"]
    if told := tells(_text_of(node.outputs)):
        node.outputs = []  # nor does a report keep it
        raise PageFailed(f"{where} shows {told} to every reader; print something else")
    if stderr := "".join(o.text for o in node.outputs if o.get("name") == "stderr"):
        raise PageFailed(f"{where} warns or writes to stderr; a page prints none\n{stderr}")
    if "raises-exception" in cell.tags and not any(o.output_type == "error" for o in node.outputs):
        raise PageFailed(f"{where} is tagged raises-exception but raises none")


def _text_of(outputs: list[nbformat.NotebookNode]) -> str:
    """All that outputs say, without the pixels of pictures."""
    said = []
    for output in outputs:
        said += [output.get("text", ""), "\n".join(output.get("traceback", []))]
        said += [str(v) for kind, v in output.get("data", {}).items() if not kind.endswith(PIXELS)]
    return ANSI.sub("", "\n".join(said))


async def _report(client: NotebookClient, page: Page, path: Path) -> dict:
    """What the guard saw in the page's kernel, which it writes to a file."""
    root = str(page.root.resolve())
    source = f"__import__('website.guard').guard.report({root!r}, {str(path)!r})"
    # nbclient runs cells of its notebook; this one is none of the page's
    client.nb.cells.append(nbformat.v4.new_code_cell(source))
    try:
        await client.async_execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise PageFailed(f"{page.name} left its kernel unable to say what it read") from error
    finally:
        client.nb.cells.pop()
    return json.loads(path.read_text("utf8"))


def _check(page: Page, report: dict) -> None:
    """Raise PageFailed for files that the page read without saying so, and for too much memory."""
    named = [Path(name) for name in page.depends]
    for opened in report["opened"]:
        if not any(Path(opened).is_relative_to(name) for name in named):
            raise PageFailed(
                f"{page.name} read {opened}, which its front matter does not name; add it there "
                "under depends:, so that the page runs again when the file changes"
            )
    bounded = not (report["gpu_build"] or page.at_hub)  # neither is what that service has
    if bounded and report["peak_bytes"] > PAGE_BYTES:
        raise PageFailed(
            f"{page.name} took {report['peak_bytes'] / 1e9:.1f} GB of memory; a page has "
            f"{PAGE_BYTES / 1e9:g} GB, so make it smaller"
        )
