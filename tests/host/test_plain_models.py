"""Models that TensorFlow itself converts, without edgelstm: `Session` runs those that can be."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm import Streams, load
from edgelstm.errors import ArtifactError
from edgelstm.model_file import read_model
from edgelstm.session import Session

F = TypeVar("F", bound=Callable[..., Any])
READINGS = np.random.default_rng(3).normal(size=(60, 2))


def spec(*shape: int | None) -> Any:
    return tf.TensorSpec(shape, tf.float32)


def traced(*specs: Any) -> Callable[[F], F]:
    decorate: Callable[[F], F] = tf.function(input_signature=specs)
    return decorate


def converted(
    module: Any, signatures: dict[str, Any], path: Path, *, options: bool = False
) -> Path:
    """A model as TensorFlow's converter leaves it."""
    folder = path.with_suffix("")
    tf.saved_model.save(module, str(folder), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=list(signatures)
    )
    if options:
        converter.experimental_enable_resource_variables = True
    with quiet():
        path.write_bytes(converter.convert())
    return path


class quiet:  # noqa: N801  # used like a function
    """Keeps the converter's remarks off the screen and out of the warnings."""

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *error: object) -> None:
        self._caught.__exit__(None, None, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "filter.tflite"


def smoother(module: Any) -> Any:
    @traced(spec(1, 2), spec(1, 2))
    def step(x: Any, level: Any) -> dict[str, Any]:
        level = 0.9 * level + 0.1 * x
        return {"rest": x - level, "level_next": level}

    module.step = step
    return step


def stepped(session: Session, x: NDArray[np.float64]) -> NDArray[np.float64]:
    y = session.step(x)
    assert y is not None
    return y


def test_filter_with_a_state(path: Path) -> None:
    module = tf.Module()
    converted(module, {"serving_default": smoother(module)}, path)
    with Session(read_model(path)) as session:
        assert [c.name for c in session.artifact.manifest.channels] == ["x_0", "x_1"]
        assert [c.name for c in session.artifact.manifest.targets] == ["rest_0", "rest_1"]
        level = np.zeros(2)
        for x in READINGS:
            level = 0.9 * level + 0.1 * x
            np.testing.assert_allclose(stepped(session, x), x - level, atol=1e-5)


def test_delay_line(path: Path) -> None:
    """The converter makes one tensor of `next_b` and `a`, which carrying `x` would overwrite."""
    module = tf.Module()

    @traced(spec(1, 2), spec(1, 2), spec(1, 2))
    def step(x: Any, a: Any, b: Any) -> dict[str, Any]:
        return {"y": x + a + b, "next_a": x, "next_b": a}

    module.step = step
    converted(module, {"step": step}, path)
    with pytest.raises(ArtifactError, match="'next_b' is the state 'a' as it came in"):
        read_model(path)


def test_output_that_is_a_state_as_it_came_in(path: Path) -> None:
    module = tf.Module()

    @traced(spec(1, 2), spec(1, 2))
    def step(x: Any, a: Any) -> dict[str, Any]:
        return {"y": a, "next_a": x + a}

    module.step = step
    converted(module, {"step": step}, path)
    with Session(read_model(path)) as session:
        before = np.zeros(2)
        for x in READINGS:
            np.testing.assert_allclose(stepped(session, x), before, atol=1e-5)
            before = before + x


def test_delay_line_in_one_state(path: Path) -> None:
    """What the error advises."""
    module = tf.Module()

    @traced(spec(1, 2), spec(1, 4))
    def step(x: Any, line: Any) -> dict[str, Any]:
        line = tf.concat([line, x], axis=1)
        return {"y": line[:, :2] + line[:, 2:4] + line[:, 4:], "next_line": line[:, 2:]}

    module.step = step
    converted(module, {"step": step}, path)
    padded = np.concatenate([np.zeros((2, 2)), READINGS])
    with Session(read_model(path)) as session:
        for i, x in enumerate(READINGS):
            np.testing.assert_allclose(
                stepped(session, x), padded[i : i + 3].sum(axis=0), atol=1e-5
            )


def test_model_without_states(path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="tanh")])
    with quiet():
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    with Session(read_model(path)) as session:
        assert session.artifact.manifest.states == ()
        expected = model(READINGS.astype(np.float32)).numpy()
        steps = [stepped(session, x) for x in READINGS]
        np.testing.assert_allclose(np.array(steps), expected, atol=1e-5)


def test_model_with_a_time_axis(path: Path) -> None:
    inputs = keras.Input((24, 2))
    model = keras.Model(inputs, keras.layers.Conv1D(3, 5)(inputs))
    with quiet():
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    with pytest.raises(ArtifactError, match=r"\(1x24x2\) takes several readings at once"):
        read_model(path)


def test_states_in_variables(path: Path) -> None:
    module = tf.Module()
    module.level = tf.Variable(tf.zeros((1, 2)))

    @traced(spec(1, 2))
    def step(x: Any) -> dict[str, Any]:
        module.level.assign(0.9 * module.level + 0.1 * x)
        return {"rest": x - module.level}

    module.step = step
    converted(module, {"step": step}, path, options=True)
    with pytest.raises(ArtifactError, match="keeps its states in variables") as caught:
        read_model(path)
    assert "'ASSIGN_VARIABLE', 'READ_VARIABLE', 'VAR_HANDLE'" in str(caught.value)


def with_another(path: Path, names: tuple[str, str]) -> Path:
    module = tf.Module()

    @traced(spec(1, 2))
    def other(x: Any) -> dict[str, Any]:
        return {"z": 2.0 * x}

    module.other = other
    return converted(module, {names[0]: smoother(module), names[1]: other}, path)


def test_two_signatures(path: Path) -> None:
    with pytest.raises(ArtifactError, match="has the signatures 'infer', 'reset'"):
        read_model(with_another(path, ("infer", "reset")))


def test_step_beside_another_signature(path: Path) -> None:
    """The converter numbers the graphs by the names of their signatures."""
    with Session(read_model(with_another(path, ("step", "zoom")))) as session:
        np.testing.assert_allclose(stepped(session, READINGS[0]), 0.9 * READINGS[0], atol=1e-5)
    with pytest.raises(ArtifactError, match="'step' is of subgraph 1"):
        read_model(with_another(path, ("step", "reset")))


# Shapes and types that edgelstm's own models do not have


def both_ways(path: Path, readings: NDArray[Any]) -> None:
    """A session for each stream gives what all streams give together."""
    with Streams(path, 3) as streams:
        sessions = [load(path) for _ in range(3)]
        for t in range(len(readings) - 6):
            x = readings[[t, t + 3, t + 6]]
            expected = [stepped(session, row) for session, row in zip(sessions, x, strict=True)]
            np.testing.assert_allclose(streams.step(x), expected, atol=1e-5)


def with_a_step(path: Path, step: Callable[..., Any], *specs: Any) -> Path:
    module = tf.Module()
    module.step = traced(*specs)(step)
    return converted(module, {"step": module.step}, path)


def test_streams_of_two_inputs(path: Path) -> None:
    def step(x: Any, z: Any, h: Any) -> dict[str, Any]:
        level = tf.tanh(x + 2 * z + h)
        return {"y": level, "next_h": level / 2}

    both_ways(with_a_step(path, step, spec(None, 1), spec(None, 1), spec(None, 1)), READINGS)


def test_streams_of_two_outputs(path: Path) -> None:
    def step(x: Any, h: Any) -> dict[str, Any]:
        level = tf.tanh(x + h)
        return {"y": level, "w": 3 * level, "next_h": level / 2}

    both_ways(with_a_step(path, step, spec(None, 2), spec(None, 2)), READINGS)


def test_streams_with_a_time_axis(path: Path) -> None:
    def step(x: Any, h: Any) -> dict[str, Any]:
        level = tf.tanh(x[:, 0] + h)
        return {"y": level[:, None], "next_h": level / 2}

    both_ways(with_a_step(path, step, spec(None, 1, 2), spec(None, 2)), READINGS)


def test_streams_without_an_axis_of_channels(path: Path) -> None:
    def step(x: Any, h: Any) -> dict[str, Any]:
        level = tf.tanh(x[:, None] + h)
        return {"y": level, "next_h": level / 2}

    both_ways(with_a_step(path, step, spec(None), spec(None, 1)), READINGS[:, :1])


def test_streams_of_long_tokens(path: Path) -> None:
    table = tf.constant(READINGS[:5], tf.float32)

    def step(x: Any, h: Any) -> dict[str, Any]:
        level = tf.tanh(tf.gather(table, x) + h)
        return {"y": level, "next_h": level / 2}

    tokens = tf.TensorSpec((None,), tf.int64)
    readings = np.random.default_rng(1).integers(0, 5, (30, 1))
    both_ways(with_a_step(path, step, tokens, spec(None, 2)), readings)


@pytest.mark.parametrize("dtype", [tf.int8, tf.uint8], ids=lambda t: t.name)
def test_bytes_with_and_without_a_sign(dtype: Any, path: Path) -> None:
    module = tf.Module()

    @traced(spec(1, 2))
    def step(x: Any) -> dict[str, Any]:
        return {"y": tf.tanh(x)}

    module.step = step
    tf.saved_model.save(module, str(path.with_suffix("")), signatures=step)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path.with_suffix("")))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.float32(x[None])] for x in READINGS)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = dtype
    with quiet():
        path.write_bytes(converter.convert())
    with Session(read_model(path)) as session:
        for x in READINGS:
            np.testing.assert_allclose(stepped(session, x), np.tanh(x), atol=0.03)
