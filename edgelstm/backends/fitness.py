"""Whether a runtime computes an artifact correctly, as its manifest has it."""

from __future__ import annotations

import re

from edgelstm.backends import RUNTIME_PACKAGES, Graph
from edgelstm.errors import BackendError
from edgelstm.manifest import Manifest


def require_right_numbers(manifest: Manifest, graph: Graph) -> None:
    """Refuses a runtime that would load the model and compute it wrongly.

    Raises:
        BackendError: the manifest does not name the runtime, or only a later release of it.
    """
    package = RUNTIME_PACKAGES.get(graph.backend)
    if package is None or manifest.plain:
        return
    if package not in manifest.runtimes:
        known = ", ".join(f"{name} {version}" for name, version in manifest.runtimes.items())
        raise BackendError(
            f"{package} loads this model ({manifest.recipe}) but computes it wrongly; run it with "
            f"{known or 'another runtime'}, or convert it with --runtime {package}."
        )
    lowest = manifest.runtimes[package]
    if graph.release and _release(graph.release) < _release(lowest):
        raise BackendError(
            f"This model ({manifest.recipe}) needs {package} {lowest} or later, and "
            f"{graph.release} is installed; run: pip install '{package}>={lowest}'"
        )


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version starts with, without zeros at the end."""
    found = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        del numbers[-1]
    return tuple(numbers)
