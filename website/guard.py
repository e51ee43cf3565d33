"""Loaded into each kernel that runs a page: notes which of the book's files the page opens.

A file that a page reads without naming it under `depends:` could change without the page running
again. Files are noted when Python opens them; what a compiled library opens by itself is not seen.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_opened: set[str] = set()


def _on_event(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.add(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 (cheaper than Path)


def load_ipython_extension(ipython: object) -> None:
    """Begin to note; IPython calls this before the page's first cell."""
    sys.addaudithook(_on_event)


def _ours(path: Path, root: Path) -> bool:
    """Whether a path is a data file of the book: not code, not hidden, not built, not a package."""
    if not path.is_relative_to(root) or path.is_relative_to(Path(sys.prefix).resolve()):
        return False
    parts = path.relative_to(root).parts
    hidden = any(part.startswith((".", "_")) or part.endswith(".egg-info") for part in parts[:-1])
    return not hidden and path.suffix not in (".py", ".pyc") and path.is_file()


def peak_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: getrusage there counts the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def gpu_build() -> bool:
    """Whether the page used a torch that is built for GPUs, whose libraries alone take much."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.backends.cuda.is_built()


def report(root: str, path: str) -> None:
    """Write, as JSON, what the executor asks for after the last cell."""
    base = Path(root)
    paths = {Path(name).resolve() for name in list(_opened)}
    opened = sorted(path.relative_to(base).as_posix() for path in paths if _ours(path, base))
    told = {"peak_bytes": peak_bytes(), "gpu_build": gpu_build(), "opened": opened}
    Path(path).write_text(json.dumps(told), "utf8")
