"""Recipes: the ways to quantise that users can choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgelstm.errors import ConfigurationError

Arithmetic = Literal["float32", "int16", "int8"]
"""What a graph is computed in."""

AUTO = "auto"
"""Not a recipe: chooses the smallest one that is close enough to the Keras model."""


@dataclass(frozen=True)
class Recipe:
    """How to quantise.

    Attributes:
        name: as users know it.
        summary: what it does and where it serves, in a few words.
        dtype: of the activations, the states and the interface.
        largest_error: mean |error| over the rms of the output above which a conversion counts as
            failed.
        rounding: what two correct runtimes may differ by at least, in a replay of the golden
            vectors: in LSB for integers, relative to the rms of the output for floats
            (docs/decisions/0005).
    """

    name: str
    summary: str
    dtype: Arithmetic
    largest_error: float
    rounding: float

    @property
    def integer(self) -> bool:
        """Whether activations are integers, so that their ranges must be recorded."""
        return self.dtype != "float32"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "int8-float", "int8 weights and products, float32 cell; CPUs", "float32", 0.05, 1e-4
        ),
        Recipe("int8", "every tensor int8; Coral, microcontrollers", "int8", 0.1, 6),
        Recipe("int8-weight", "int8 weights, float32 maths; most precise", "float32", 0.05, 1e-4),
        Recipe("int16x8", "int8 weights, int16 activations and states", "int16", 0.05, 12),
        Recipe("float32", "nothing quantised; a reference", "float32", 1e-3, 1e-4),
    )
}
DEFAULT_RECIPE = "int8-float"


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in RECIPES:
        raise ConfigurationError(
            f"No recipe is called {name!r}; try {', '.join(RECIPES)} or {AUTO}."
        )
    return RECIPES[name]
