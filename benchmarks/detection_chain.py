"""One labelled series through the whole chain: train, quantize, score; for `detection.py`.

Each runs in a process of its own kind, because TensorFlow is slow to load and never gives memory
back. What comes out are arrays, kept in a cache, so that figures can be taken again without it.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgelstm
import edgelstm_quantize
from edgelstm.commands.scoring import Scored, score_recording
from edgelstm.errors import CalibrationWarning
from edgelstm.recording import Recording
from edgelstm.session import Session

RECIPES = ("int8-float", "int8", "float32")
READINGS_PER_ALARM = (500, 1100, 2000, 5000)
"""Budgets that are tried beside the default one, with the first recipe."""


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        name: of the series.
        recording: all of it.
        prefix: rows that train and calibrate.
        seed: of the training.
    """

    name: str
    recording: Recording
    prefix: int
    seed: int

    def path(self, cache: Path) -> Path:
        """Where the arrays are kept: another file for other data, and for other code."""
        digest = hashlib.sha256(self.recording.values.tobytes())
        digest.update(self.recording.timestamps.tobytes())
        digest.update(f"{_code()} {self.prefix} {self.seed}".encode())
        stem = self.name.replace("/", "-").removesuffix(".csv")
        return cache / f"{stem}-{self.seed}-{digest.hexdigest()[:12]}.npz"


@functools.cache
def _code() -> str:
    """A hash of everything that the arrays are computed with."""
    digest = hashlib.sha256()
    for package in (edgelstm, edgelstm_quantize):
        for folder in package.__path__:
            for file in sorted(Path(folder).rglob("*.py")):
                digest.update(file.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def run(job: Job, cache: Path) -> Path:
    """Trains, quantizes and scores, unless the arrays are in the cache; returns where they are.

    For each recipe, `<recipe>/scores` and `<recipe>/thresholds` (NaN where there is none),
    `<recipe>/alarm` and `<recipe>/onsets`, (readings,), at the default budget; `<n>/alarm` and
    `<n>/onsets` with the first recipe at one alarm in n readings; and single figures: `horizon`,
    `budget` (readings per alarm, the default one), `seconds` of training, `causal` (whether the
    scores are the same when the recording ends earlier).
    """
    path = job.path(cache)
    if path.exists():
        return path
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)  # as the command does
    from edgelstm_quantize import keras_files
    from edgelstm_quantize.convert import convert
    from edgelstm_quantize.training import train

    kept: dict[str, NDArray[np.generic] | float] = {}
    known = job.recording.rows(0, job.prefix)
    started = time.monotonic()
    trained = train(known, seed=job.seed)
    kept["seconds"] = time.monotonic() - started
    kept["horizon"] = trained.record.horizon
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        model = Path(folder, "model.keras")
        keras_files.save(trained.model, trained.record, model)
        for recipe in RECIPES:
            artifact = convert(model, known, recipe=recipe, allow_low_fidelity=True).artifact
            period, detection = artifact.manifest.sample_period, artifact.manifest.detection
            if detection is None:
                raise ValueError(f"{job.name} has no detection")

            with Session(artifact) as session:
                whole = _score(session, job.recording, job.prefix)
                kept |= {
                    f"{recipe}/scores": whole.scores,
                    f"{recipe}/thresholds": whole.thresholds,
                    f"{recipe}/alarm": whole.alerts,
                    f"{recipe}/onsets": whole.onsets,
                }
                if recipe != RECIPES[0]:
                    continue
                kept["budget"] = 86_400 / period / detection.false_alarms_per_day
                for readings in READINGS_PER_ALARM:
                    scored = _score(session, job.recording, job.prefix, readings)
                    kept[f"{readings}/alarm"] = scored.alerts
                    kept[f"{readings}/onsets"] = scored.onsets
                end = (job.prefix + len(job.recording)) // 2
                cut = _score(session, job.recording.rows(0, end), job.prefix)
                kept["causal"] = np.array_equal(
                    cut.scores, whole.scores[:end], equal_nan=True
                ) and np.array_equal(cut.alerts, whole.alerts[:end])
    cache.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.npz")
    np.savez_compressed(temporary, **kept)  # type: ignore[arg-type]  # its stub knows only bool
    temporary.rename(path)
    return path


def _score(
    session: Session, recording: Recording, prefix: int, readings: float | None = None
) -> Scored:
    """Scores a recording at the artifact's budget, or at one alarm in so many readings."""
    period = session.artifact.manifest.sample_period
    return score_recording(
        session,
        recording,
        from_row=prefix,
        false_alarms_per_day=None if readings is None else 86_400 / period / readings,
    )
