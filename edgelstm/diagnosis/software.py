"""Python and the packages beside the runtimes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Mapping

from edgelstm.diagnosis.finding import Finding, pip_install

SECTION = "python"
LOWEST_PYTHON = (3, 11)
LOWEST_NUMPY = (1, 24)  # as pyproject.toml has it
PACKAGES = (
    "edgelstm",
    "numpy",
    "click",
    "pyserial",
    "ai-edge-litert",
    "tflite-runtime",
    "tensorflow",
)


def versions() -> dict[str, str | None]:
    """The version of each of `PACKAGES` as pip knows it; None where it is not installed."""
    return {name: version_of(name) for name in PACKAGES}


def version_of(*names: str) -> str | None:
    """The version of the first of some distributions that is installed, as pip knows it."""
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def python(
    version: tuple[int, int, int], implementation: str, prefix: str, own_environment: bool
) -> Finding:
    """Looks at this Python.

    Args:
        version: of the language.
        implementation: such as "CPython".
        prefix: the folder it is installed in.
        own_environment: whether that is a virtual environment.
    """
    shown = ".".join(map(str, version))
    where = (
        f"virtual environment {prefix}" if own_environment else f"no virtual environment, {prefix}"
    )
    data = {"version": shown, "prefix": prefix, "virtual_environment": own_environment}
    if version[:2] < LOWEST_PYTHON:
        mend = "Install Python 3.11 or later, such as with Raspberry Pi OS 12."
        return Finding(SECTION, "python", "problem", f"{shown} is older than 3.11.", mend, data)
    return Finding(SECTION, "python", "ok", f"{implementation} {shown}, {where}", data=data)


def packages(installed: Mapping[str, str | None]) -> list[Finding]:
    """Looks at what edgelstm needs besides a runtime.

    Args:
        installed: from `versions`.
    """
    findings = []
    for name in ("edgelstm", "numpy", "click", "pyserial"):
        version = installed.get(name)
        data = {"package": name, "version": version}
        if version is None and name == "edgelstm":
            what = "it runs from its sources, without being installed."
            findings.append(Finding(SECTION, name, "note", what, data=data))
        elif version is None:
            findings.append(
                Finding(SECTION, name, "problem", "not installed.", pip_install(name), data)
            )
        elif name == "numpy" and _release(version) < LOWEST_NUMPY:
            what = f"{version} is older than {'.'.join(map(str, LOWEST_NUMPY))}."
            mend = pip_install(
                "--upgrade", "numpy<2" if installed.get("tflite-runtime") else "numpy"
            )
            findings.append(Finding(SECTION, name, "problem", what, mend, data))
        else:
            findings.append(Finding(SECTION, name, "ok", version, data=data))
    return findings


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def this_python() -> Finding:
    """`python` of the one that runs."""
    return python(
        sys.version_info[:3],
        platform.python_implementation(),
        sys.prefix,
        sys.prefix != sys.base_prefix,
    )
