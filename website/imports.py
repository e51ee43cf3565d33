"""Which modules of vlmbook, and which other packages, some Python source imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "vlmbook"
DYNAMIC = ("import_module", "__import__", "exec", "eval", "run_path", "run_module")


class ImportProblem(Exception):
    """Source whose imports cannot be told by reading it; line is where."""

    def __init__(self, line: int, reason: str):
        super().__init__(reason)
        self.line = line


def _called(node: ast.Call) -> str:
    """The last part of a called function's name."""
    function = node.func
    return getattr(function, "attr", None) or getattr(function, "id", "")


@cache
def imports(source: str, package: tuple[str, ...] = ()) -> tuple[frozenset[str], int | None]:
    """Dotted names that a source imports, and the line of its first dynamic import if any.

    package is the package that the source belongs to, for relative imports. `from a import b`
    counts as a and as a.b, because b may be a module. Raises ImportProblem when the source is not
    plain Python, or imports everything from one of the book's modules.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        reason = f"is not plain Python ({error.msg}: {(error.text or '').strip()!r})"
        raise ImportProblem(error.lineno or 1, reason) from error
    names, dynamic = set(), None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(_names(node, package))
        elif isinstance(node, ast.Call):
            if (
                _called(node) == "find_spec"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                names.add(str(node.args[0].value))
            elif _called(node) in DYNAMIC and not _is_method(node):
                dynamic = dynamic or node.lineno
    return frozenset(names), dynamic


def _is_method(node: ast.Call) -> bool:
    """model.eval() is no import, and neither is pattern.exec(); importlib.import_module() is."""
    return _called(node) in ("exec", "eval") and isinstance(node.func, ast.Attribute)


def _names(node: ast.Import | ast.ImportFrom, package: tuple[str, ...]) -> Iterator[str]:
    """The dotted names in one import statement."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = list(package[: len(package) - node.level + 1]) if node.level else []
    base += node.module.split(".") if node.module else []
    yield ".".join(base)
    for alias in node.names:
        if alias.name == "*" and base[:1] == [PACKAGE]:
            raise ImportProblem(node.lineno, f"imports * from {'.'.join(base)}; name what it needs")
        yield ".".join([*base, alias.name])


def module_files(root: Path, name: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The files that importing a dotted name runs (parents first), each with its package."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:length])
        if (stem / "__init__.py").is_file():
            yield stem / "__init__.py", tuple(parts[:length])
        elif stem.with_suffix(".py").is_file():
            yield stem.with_suffix(".py"), tuple(parts[: length - 1])


def closure(root: Path, names: set[str]) -> tuple[list[Path], set[str]]:
    """The files of vlmbook that some imports reach, and the other packages that all of it needs.

    Raises ImportProblem, naming the file, where a module's imports cannot be told.
    """
    todo, files, others = set(names), set(), set()
    while todo:
        name = todo.pop()
        if name.split(".")[0] != PACKAGE:
            others.add(name.split(".")[0])
            continue
        for path, package in module_files(root, name):
            if path in files:
                continue
            files.add(path)
            todo |= _module_imports(root, path, package)
    return sorted(files), others


def _module_imports(root: Path, path: Path, package: tuple[str, ...]) -> set[str]:
    """What one file of vlmbook imports."""
    place = path.relative_to(root).as_posix()
    try:
        names, dynamic = imports(path.read_text("utf8"), package)
    except ImportProblem as problem:
        raise ImportProblem(problem.line, f"{place}:{problem.line} {problem}") from problem
    if dynamic:
        raise ImportProblem(
            dynamic,
            f"{place}:{dynamic} imports or runs code by a name known only when it runs; "
            "write an import statement, so that the build sees what the pages depend on",
        )
    return set(names)
