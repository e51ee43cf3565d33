"""Run one page in a kernel of its own, and say what it cost or how it failed."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from website import device
from website.pages import Cell, Page

CELL_SECONDS, TRAIN_SECONDS, PAGE_SECONDS = 30, 120, 200
HUB_SECONDS = 3600  # a cell that loads a real checkpoint, fetching included; no part of its page's
PAGE_BYTES = 2e9  # a page fits the notebook service with the least memory
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class PageFailed(Exception):
    """A page did not run as it should; the message says where and why."""


def slowness() -> float:
    """How many times longer than on the reference machine (2 cores) a page may take."""
    return float(os.environ.get("BOOK_SLOW", "1"))


def environment(root: Path, threads: int, scratch: str) -> dict[str, str]:
    """A kernel's environment: our vlmbook, so many threads, no progress bars, no user start-up."""
    here = str(Path(__file__).resolve().parent.parent)  # for the guard
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    return {
        **os.environ,
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
    with tempfile.TemporaryDirectory() as scratch:
        env = environment(page.root, threads, scratch)
        await client.async_start_new_kernel(cwd=scratch, env=env, stderr=subprocess.DEVNULL)
        try:
            await client.async_start_new_kernel_client()
            seconds = fetching = 0.0
            for cell in page.code:
                started = time.monotonic()
                await _run_cell(client, page, cell, seconds - fetching)
                took = time.monotonic() - started
                seconds += took
                fetching += took if page.at_hub and cell.at_hub else 0.0
            report = await _report(client, page)
        finally:
            if client.kc is not None:
                client.kc.stop_channels()
            if client.km is not None:
                await client.km.shutdown_kernel(now=True)
    _check(page, report)
    notebook.metadata["run"] = {
        "seconds": round(seconds, 1),
        "peak_bytes": report["peak_bytes"],
        "device": device.device_class(),
        "device_name": device.gpu_name() if device.device_class() == "cuda" else "CPU",
        "threads": threads,
        "date": date.today().isoformat(),
    }
    return notebook


async def _run_cell(client: NotebookClient, page: Page, cell: Cell, spent: float) -> None:
    """Run one cell in place; raises PageFailed when it fails, is slow, or warns."""
    where = f"{page.name}:{cell.line} (code cell {cell.number})"
    allowed = (TRAIN_SECONDS if "train" in cell.tags else CELL_SECONDS) * slowness()
    left = PAGE_SECONDS * slowness() - spent
    at_hub = page.at_hub and cell.at_hub
    if at_hub:
        allowed = left = HUB_SECONDS * slowness()
    client.timeout_func = lambda _: max(1, min(allowed, left))
    node = client.nb.cells[cell.index]
    try:
        await client.async_execute_cell(node, cell.index)
    except CellExecutionError as error:
        raise PageFailed(f"{where} failed\n{ANSI.sub('', error.traceback)}") from error
    except CellTimeoutError as error:
        reason = (
            f"took longer than {allowed:g} s; make it cheaper, or tag it train if it trains"
            if allowed <= left
            else f"brought its page over {PAGE_SECONDS * slowness():g} s; make the page cheaper"
        )
        raise PageFailed(f"{where} {reason} (on a slow machine, set BOOK_SLOW=3)") from error
    except DeadKernelError as error:
        raise PageFailed(f"{where} ended its kernel, perhaps for lack of memory") from error
    if at_hub:  # libraries tell there of what they have survived
        node.outputs = [o for o in node.outputs if o.get("name") != "stderr"]
    if stderr := "".join(o.text for o in node.outputs if o.get("name") == "stderr"):
        raise PageFailed(f"{where} warns or writes to stderr; a page prints none\n{stderr}")
    if "raises-exception" in cell.tags and not any(o.output_type == "error" for o in node.outputs):
        raise PageFailed(f"{where} is tagged raises-exception but raises none")


async def _report(client: NotebookClient, page: Page) -> dict:
    """What the guard saw in the page's kernel."""
    root = str(page.root.resolve())
    cell = nbformat.v4.new_code_cell(f"__import__('website.guard').guard.report({root!r})")
    client.nb.cells.append(
        cell
    )  # nbclient runs cells of its notebook; this one is none of the page's
    try:
        cell = await client.async_execute_cell(cell, len(client.nb.cells) - 1)
    finally:
        client.nb.cells.pop()
    return json.loads(cell.outputs[0].text)


def _check(page: Page, report: dict) -> None:
    """Raise PageFailed for files that the page read without saying so, and for too much memory."""
    named = [Path(name) for name in page.depends]
    for opened in report["opened"]:
        if not any(Path(opened).is_relative_to(name) for name in named):
            raise PageFailed(
                f"{page.name} read {opened}, which its front matter does not name; add it there "
                "under depends:, so that the page runs again when the file changes"
            )
    if device.device_class() == "cpu" and not page.at_hub and report["peak_bytes"] > PAGE_BYTES:
        raise PageFailed(
            f"{page.name} took {report['peak_bytes'] / 1e9:.1f} GB of memory; a page has "
            f"{PAGE_BYTES / 1e9:g} GB, so make it smaller"
        )
