"""The versions that a page's outputs depend on: pins of what it imports and requires."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", re.M)


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    """Which installed distributions provide each top-level module."""
    return metadata.packages_distributions()


@cache
def _requires(name: str) -> frozenset[str]:
    """The distributions that an installed one requires here, without extras."""
    try:
        lines = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return frozenset()
    wanted = (Requirement(line) for line in lines)
    return frozenset(
        canonicalize_name(each.name)
        for each in wanted
        if each.marker is None or each.marker.evaluate({"extra": ""})
    )


@cache
def _installed(name: str) -> str | None:
    """The installed version without a local part such as +cpu, or None."""
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def versions(requirements: str, modules: Iterable[str]) -> dict[str, str]:
    """The version of each distribution behind some top-level modules, transitively.

    requirements is the text of requirements.txt. Where what is installed differs from the pin,
    both count, so that outputs made with the one are never shown for the other. A module that no
    installed distribution provides (the standard library, something optional) is left out.
    """
    pins = {canonicalize_name(name): version for name, version in PIN.findall(requirements)}
    todo = {"ipykernel"}
    for module in modules:
        todo.update(canonicalize_name(name) for name in _distributions().get(module, []))
    found: dict[str, str] = {}
    while todo:
        name = todo.pop()
        pin, installed = pins.get(name), _installed(name)
        if name in found or (pin or installed) is None:
            continue
        found[name] = pin or installed
        if installed and pin not in (None, installed):
            found[name] += f" (installed: {installed})"
        todo |= _requires(name)
    return found
