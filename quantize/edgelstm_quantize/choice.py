"""Chooses the recipe: the one asked for, unless it would break the model, or the smallest."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgelstm.errors import ConversionError
from edgelstm_quantize.candidates import Candidate
from edgelstm_quantize.memory import Memory
from edgelstm_quantize.recipes import RECIPES, Recipe
from edgelstm_quantize.summary import Trial

DEFAULT_MAX_ERROR = 0.01
_ENDLESS = 10_000  # steps; a saturated gate forgets nothing that could be measured


class Maker(Protocol):
    """Makes candidates: see `candidates.Candidates`."""

    def make(self, recipe: Recipe) -> Candidate:
        """Applies a recipe."""

    def memory(self) -> list[Memory]:
        """How long the states remember."""


def choose(
    maker: Maker,
    recipe: Recipe,
    *,
    max_error: float | None,
    force_recipe: bool,
    allow_low_fidelity: bool,
) -> tuple[Candidate, list[Trial]]:
    """Applies the recipe that was asked for.

    Args:
        maker: makes the candidate.
        recipe: the recipe.
        max_error: largest relative error to accept; None for the recipe's own.
        force_recipe: use it even where the model remembers too long for it.
        allow_low_fidelity: accept any error.

    Raises:
        ConversionError: the recipe would break the model, or it lost too much.
    """
    reason = None if force_recipe else advise_against(recipe, maker)
    if reason:
        raise ConversionError(
            f"{reason} Use --recipe int8-float or int16x8, or insist with --force-recipe."
        )
    made = maker.make(recipe)
    limit = max_error or recipe.largest_error
    if made.fidelity.relative_error > limit and not allow_low_fidelity:
        raise ConversionError(
            f"The {recipe.name} model differs from the Keras model by "
            f"{made.fidelity.relative_error:.2%} of its output, more than the {limit:.2%} that are "
            "allowed. Give the model a Normalization layer in front where it has none, calibrate "
            "on a longer recording, try --recipe auto, or accept it with --allow-low-fidelity."
        )
    return made, [_trial(made, "")]


def choose_smallest(
    maker: Maker, *, max_error: float | None, recipes: dict[str, Recipe] = RECIPES
) -> tuple[Candidate, list[Trial]]:
    """Applies every recipe and takes the smallest model that is close enough.

    Args:
        maker: makes the candidates.
        max_error: largest relative error to accept; None for 1 %.
        recipes: those to try.

    Raises:
        ConversionError: none is close enough.
    """
    limit = max_error or DEFAULT_MAX_ERROR
    trials: list[Trial] = []
    fits: list[Candidate] = []
    for recipe in recipes.values():
        try:
            if reason := advise_against(recipe, maker):
                raise ConversionError(reason)
            made = maker.make(recipe)
        except ConversionError as error:
            trials.append(Trial(recipe.name, None, None, str(error)))
            continue
        if made.fidelity.relative_error > limit:
            trials.append(_trial(made, f"its error is above {limit:.2%}"))
        else:
            fits.append(made)
    if not fits:
        raise ConversionError(
            f"No recipe is within {limit:.2%} of the Keras model; allow more with --max-error. "
            + " ".join(f"{t.recipe}: {t.remark.rstrip('.')}." for t in trials)
        )
    fits.sort(key=_size)
    taken, *larger = fits
    trials += [_trial(made, "a smaller one is close enough") for made in reversed(larger)]
    return taken, [*trials, _trial(taken, "")]


def advise_against(recipe: Recipe, maker: Maker) -> str | None:
    """Why a recipe would break the model; None when nothing speaks against it."""
    if recipe.dtype != "int8":
        return None
    slow = [memory for memory in maker.memory() if memory.too_long_for_int8]
    if not slow:
        return None
    worst = max(slow, key=lambda memory: memory.deadband)
    tau = float(np.median(worst.time_constants))
    steps = f"{tau:.0f} steps" if tau < _ENDLESS else f"over {_ENDLESS:,} steps"
    return (
        f"The layer {worst.layer!r} remembers for long (median time constant {steps}), and an int8 "
        f"state would stick at {worst.deadband:.0%} of its range instead of decaying."
    )


def _size(made: Candidate) -> int:
    return len(made.artifact.flatbuffer)


def _trial(made: Candidate, remark: str) -> Trial:
    return Trial(made.recipe.name, _size(made), made.fidelity, remark)
