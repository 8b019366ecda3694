"""Recipes: the ways to quantise that users can choose from."""

from __future__ import annotations

from dataclasses import dataclass

from edgelstm.errors import ConfigurationError


@dataclass(frozen=True)
class Recipe:
    """How to quantise.

    Attributes:
        name: as users know it.
        dtype: of the activations, the states and the interface.
        largest_error: mean |error| in standard deviations of the output above which a conversion
            counts as failed.
        rounding: by how much two correct runtimes may differ in a step: 1 LSB for integers
            (kernels round differently), an absolute rounding for float32.
    """

    name: str
    dtype: str
    largest_error: float
    rounding: float

    @property
    def needs_ranges(self) -> bool:
        """Whether activations are quantised, so that their ranges must be recorded."""
        return self.dtype != "float32"


RECIPES = {
    "int8": Recipe("int8", "int8", largest_error=0.1, rounding=1),
    "float32": Recipe("float32", "float32", largest_error=1e-3, rounding=1e-4),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in RECIPES:
        raise ConfigurationError(f"No recipe is called {name!r}; try {' or '.join(RECIPES)}.")
    return RECIPES[name]
