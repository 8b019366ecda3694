"""How readings become what a network sees: normalised, clipped, categories one-hot.

The model does the same with layers (`forecasters`); this is for all that is computed without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelstm.errors import RecordingError
from edgelstm_quantize.training_data import TrainingData

CLIP = 8.0
# Categories are spread over so much of what the clip leaves, so that int8 tells them apart.
_CODES_REACH = 7 / 8
ROUNDING = 1e-12  # of the mean; a constant that was resampled has no more of a spread
_FINEST = 1e-7  # standard deviation; Keras's Normalization takes none below this
_FARTHEST = 1e6  # standard deviations from zero; beyond, float32 is off by 0.06 of one and more


@dataclass(frozen=True)
class Encoding:
    """The scaling of channels, and the features that come of them.

    The features are the numbers in the order of their channels, and then for each categorical
    channel a one-hot of its codes.

    Attributes:
        mean: of the known values, (channels,); of a categorical channel the middle of its codes.
        std: (channels,), 1 for a constant channel; of a categorical channel what spreads its codes
            over seven eighths of what the clip leaves.
        codes: of each channel its codes, ascending, where it is categorical; else None.
        clip: bound on |normalised|.
        constant: the columns of numbers that never change.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    codes: tuple[tuple[float, ...] | None, ...]
    clip: float = CLIP
    constant: frozenset[int] = frozenset()

    @property
    def numbers(self) -> list[int]:
        """The columns that hold numbers."""
        return [k for k, codes in enumerate(self.codes) if codes is None]

    @property
    def width(self) -> int:
        """The number of features."""
        return sum(1 if codes is None else len(codes) for codes in self.codes)

    def normalise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical units, (readings, channels), to standard deviations from the mean, unclipped."""
        z: NDArray[np.float64] = (values - self.mean) / self.std
        return z

    def features(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Physical units, (readings, channels), to what a network sees, (readings, features)."""
        numbers = np.clip(self.normalise(values)[:, self.numbers], -self.clip, self.clip)
        one_hot = [
            (values[:, [k]] == np.array(codes)).astype(np.float64)
            for k, codes in enumerate(self.codes)
            if codes is not None
        ]
        return np.concatenate([numbers, *one_hot], axis=1)


def fit_encoding(data: TrainingData, clip: float = CLIP) -> Encoding:
    """Measures the scaling on the known values.

    Args:
        data: to train on.
        clip: bound on |normalised|.

    Raises:
        RecordingError: a channel has no value at all, or changes by too little for float32, or none
            of the targets ever changes.
    """
    mean, std = np.zeros(len(data.channels)), np.ones(len(data.channels))
    constant = set()
    for k, name in enumerate(data.channels):
        known = data.values[data.known[:, k], k]
        if not known.size:
            raise RecordingError(
                f"The channel {name!r} has no value in any reading; leave it out with --columns."
            )
        if name in data.categories:
            codes = data.categories[name]
            mean[k] = (codes[0] + codes[-1]) / 2
            std[k] = (codes[-1] - codes[0]) / (2 * _CODES_REACH * clip) or 1.0
            continue
        mean[k], spread = known.mean(), known.std()
        if spread <= ROUNDING * abs(mean[k]):
            constant.add(k)
            continue
        std[k] = spread
        if spread < _FINEST or abs(mean[k]) > _FARTHEST * std[k]:
            raise RecordingError(
                f"The channel {name!r} changes by only {std[k]:.2g} around {mean[k]:.6g}, which is "
                "too fine for a model in float32; give it in another unit or less a constant, or "
                "leave it out with --columns."
            )
    if {data.channels[k] for k in constant}.issuperset(data.targets):
        raise RecordingError(
            f"The readings of {', '.join(data.targets)} never change, so there is nothing to "
            "learn; train on a recording in which the sensor works."
        )
    all_codes = tuple(data.categories.get(name) for name in data.channels)
    return Encoding(mean, std, all_codes, clip, frozenset(constant))
