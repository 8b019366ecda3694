"""Finds the user's own classes that a model file needs: custom cells and layers."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from edgelstm.errors import ConfigurationError


def load_custom_objects(source: str | None) -> dict[str, Any]:
    """The classes and functions of a module or of a Python file, by name.

    Args:
        source: the name of a module that can be imported, or the path of a `.py` file; None has
            nothing.

    Raises:
        ConfigurationError: there is no such module or file, or it cannot be run.
    """
    if source is None:
        return {}
    module = _load(source)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    }


def _load(source: str) -> ModuleType:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        path = Path(source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(source)
        module = importlib.util.module_from_spec(spec)
        # Keras finds a class of a file by its module's name.
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The file {source} with custom objects does not exist."
        ) from error
    except Exception as error:  # whatever the user's code raises
        raise ConfigurationError(
            f"The custom objects cannot be loaded from {source} ({type(error).__name__}: {error})."
        ) from error
