from __future__ import annotations

import numpy as np
import pytest

from edgelstm_quantize.excerpts import are_within, take_excerpts

VALUES = np.random.default_rng(0).normal(size=(1000, 2)).round(2)


@pytest.mark.parametrize(
    "part",
    [VALUES, VALUES[:700], VALUES[300:400], np.concatenate([VALUES[500:], VALUES[:500]])],
    ids=["all", "most", "few", "in another order"],
)
def test_readings_that_were_trained_on_are_known(part: np.ndarray) -> None:
    assert are_within(take_excerpts(VALUES), part)


def test_other_readings_are_not() -> None:
    excerpts = take_excerpts(VALUES)
    other = np.random.default_rng(1).normal(size=(1000, 2)).round(2)
    assert not are_within(excerpts, other)
    assert not are_within(excerpts, VALUES + 0.01)
    assert not are_within(excerpts, VALUES[:10])
    assert not are_within((), VALUES)


def test_what_stands_still_tells_nothing() -> None:
    still = np.full((1000, 2), 3.0)
    assert take_excerpts(still) == ()
    assert take_excerpts(VALUES[:15]) == ()
    # One excerpt that is found may be chance.
    still[500:516] = VALUES[:16]
    assert not are_within(take_excerpts(VALUES), still)
