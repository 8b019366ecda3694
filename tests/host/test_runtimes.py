"""Which runtimes compute a file correctly: the table against the runtimes themselves.

The graphs are as small as can be: what matters is which kernel an operation meets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from edgelstm.errors import ConfigurationError, ConversionError
from edgelstm_quantize.runtimes import LITERT, TFLITE, lowest_runtimes, operations, require

os.environ["TQDM_DISABLE"] = "1"  # ai-edge-quantizer draws progress bars otherwise

OLD_PYTHON = Path(__file__).parents[2] / ".venv-tflite-runtime" / "bin" / "python"
needs_old = pytest.mark.skipif(
    not OLD_PYTHON.exists(),
    reason="no environment with tflite-runtime; run: make .venv-tflite-runtime/.ready",
)

# Runs FOLDER/*.tflite over FOLDER/<graph>.npy and writes OUT/<file>.npy, or what went wrong.
RUN = """
import sys, pathlib
import numpy as np
try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

def exchange(tensor, value, back=False):
    scale, zero_point = tensor["quantization"]
    if not scale:
        return value if back else value.astype(tensor["dtype"])
    if back:
        return (value.astype(float) - zero_point) * scale
    limits = np.iinfo(tensor["dtype"])
    raw = np.round(value / scale) + zero_point
    return np.clip(raw, limits.min, limits.max).astype(tensor["dtype"])

folder, out = map(pathlib.Path, sys.argv[1:])
for path in folder.glob("*.tflite"):
    try:
        interpreter = Interpreter(model_content=path.read_bytes(), num_threads=1)
        interpreter.allocate_tensors()
        given, got = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        ys = []
        for x in np.load(folder / (path.name.split(".")[0] + ".npy")):
            interpreter.set_tensor(given["index"], exchange(given, x))
            interpreter.invoke()
            ys.append(exchange(got, interpreter.get_tensor(got["index"]), back=True))
        np.save(out / (path.stem + ".npy"), np.array(ys))
    except (RuntimeError, ValueError) as error:
        (out / (path.stem + ".txt")).write_text(str(error))
"""


def weights(*shape: int, seed: int = 1) -> Any:
    values = np.random.default_rng(seed).normal(0, 0.6, shape)
    # Output units of very different size, so that one scale for all would be seen.
    return tf.constant((values * np.geomspace(0.3, 1.2, shape[-1])).astype(np.float32))


def cell(x: Any) -> Any:
    """Three steps of a recurrent cell with gates, in two dimensions."""
    h, c = tf.zeros((1, 8)), tf.zeros((1, 8))
    for step in tf.unstack(x, axis=1):
        i, f, g, o = tf.split(step @ weights(4, 32) + h @ weights(8, 32, seed=2) + 0.1, 4, -1)
        c = tf.sigmoid(f) * (c + 0.1) + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return tf.nn.bias_add(h @ weights(8, 3), [0.1, -0.2, 0.3])


def window(x: Any) -> Any:
    """What a model over a whole window does after its cells."""
    h = tf.tanh(x)
    both = tf.concat([tf.reduce_mean(h, 1), tf.stack([h[:, 0], h[:, 1]], 1)[:, 1]], -1)
    return tf.nn.softmax(tf.tile(both @ weights(8, 3), (1, 2)))


def convolution(x: Any) -> Any:
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv1d(x, weights(2, 4, 3), 1, "VALID"), [0.1, 0.2, 0]))


def dense_3d(x: Any) -> Any:
    return tf.nn.bias_add(tf.tensordot(x, weights(4, 3), 1), [0.1, -0.2, 0.3])


def depthwise(x: Any) -> Any:
    kernel = weights(1, 2, 1, 4)
    return tf.nn.depthwise_conv2d(x[:, None], tf.reshape(kernel, (1, 2, 4, 1)), [1] * 4, "VALID")


def quotient(x: Any) -> Any:
    h = x @ weights(4, 4)
    return h / (tf.abs(h[:, ::-1]) + 1.0)


def unread(x: Any) -> Any:
    parts = tf.split(x, 4, -1)
    return tf.tanh(parts[1]) * parts[3]


GRAPHS: dict[str, Callable[[Any], Any]] = {
    "cell": cell,
    "window": window,
    "convolution": convolution,
    "dense_3d": dense_3d,
    "depthwise": depthwise,
    "quotient": quotient,
    "unread": unread,
}
RIGHT, WRONG, REFUSED = "right", "wrong", "refused"
# Graph, recipe, and what tflite-runtime 2.14 and the ai-edge-litert of today make of it.
CASES = [
    ("cell", "float", RIGHT, RIGHT),
    ("cell", "weight", RIGHT, RIGHT),
    ("cell", "tensor", RIGHT, RIGHT),
    ("cell", "channel", WRONG, RIGHT),
    ("cell", "int8", RIGHT, RIGHT),
    ("cell", "int16", RIGHT, RIGHT),
    ("window", "float", RIGHT, RIGHT),
    ("window", "weight", RIGHT, RIGHT),
    ("window", "tensor", RIGHT, RIGHT),
    ("window", "int8", RIGHT, RIGHT),
    ("window", "int16", RIGHT, RIGHT),
    ("convolution", "channel", RIGHT, RIGHT),
    ("convolution", "int8", RIGHT, RIGHT),
    ("convolution", "int16", RIGHT, RIGHT),
    ("dense_3d", "weight", RIGHT, RIGHT),
    ("dense_3d", "int8", RIGHT, RIGHT),
    ("dense_3d", "int16", WRONG, RIGHT),
    ("depthwise", "channel", RIGHT, RIGHT),
    ("depthwise", "tensor", WRONG, WRONG),
    ("quotient", "int8", REFUSED, RIGHT),
    ("quotient", "weight", RIGHT, RIGHT),
    ("unread", "int8", RIGHT, REFUSED),
    ("unread", "float", RIGHT, RIGHT),
]


def convert(graph: Callable[[Any], Any], *, custom: bool = False) -> bytes:
    function = tf.function(graph, autograph=False)
    spec = tf.TensorSpec((1, 3, 4), tf.float32, name="x")
    concrete = function.get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.allow_custom_ops = custom
    return bytes(converter.convert())


def inputs(steps: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).normal(0, 1, (steps, 1, 3, 4)).astype(np.float32)


def ranges(model: bytes) -> dict[str, dict[str, Any]]:
    """The exact range of every tensor that is computed."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    x = interpreter.get_input_details()[0]
    computed = {i for op in interpreter._get_ops_details() for i in op["outputs"]} | {x["index"]}
    seen: dict[str, list[Any]] = {}
    for row in inputs(100):
        interpreter.set_tensor(x["index"], row)
        interpreter.invoke()
        for d in interpreter.get_tensor_details():
            if d["index"] in computed and d["dtype"] == np.float32:
                seen.setdefault(d["name"], []).append(interpreter.get_tensor(d["index"]))
    return {
        name: {
            "min": np.full((1,) * values[0].ndim, np.min(values), np.float32),
            "max": np.full((1,) * values[0].ndim, np.max(values), np.float32),
        }
        for name, values in seen.items()
    }


def quantized(model: bytes, recipe_name: str) -> bytes:
    from ai_edge_quantizer import qtyping, quantizer, recipe, recipe_manager

    if recipe_name == "float":
        return model
    manager = recipe_manager.RecipeManager()
    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    per_tensor = qtyping.QuantGranularity.TENSORWISE
    manager.add_dynamic_config(".*", everything, num_bits=8, granularity=per_tensor)
    recipes = {
        "channel": recipe.dynamic_wi8_afp32(),
        "tensor": manager.get_quantization_recipe(),
        "weight": recipe.weight_only_wi8_afp32(),
        "int8": recipe.static_wi8_ai8(),
        "int16": recipe.static_wi8_ai16(),
    }
    worker = quantizer.Quantizer(bytearray(model), recipes[recipe_name])
    needed = ranges(model) if recipe_name.startswith("int") else None
    with warnings.catch_warnings():  # that to keep all tensors is for debugging
        warnings.filterwarnings("ignore", ".*preserve_all_tensors", UserWarning)
        return bytes(worker.quantize(needed, enable_progress_report=False).quantized_model)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], bytes]:
    floats = {name: convert(graph) for name, graph in GRAPHS.items()}
    return {(name, recipe): quantized(floats[name], recipe) for name, recipe, *_ in CASES}


def run_all(
    python: str, files: dict[tuple[str, str], bytes], folder: Path
) -> dict[tuple[str, str], NDArray[np.float64] | str]:
    """What each file gave in the runtime of a Python, or the message with which it was refused."""
    out = folder / "out"
    out.mkdir()
    for (name, recipe), content in files.items():
        np.save(folder / f"{name}.npy", inputs(100))
        (folder / f"{name}.{recipe}.tflite").write_bytes(content)
    result = subprocess.run(
        [python, "-c", RUN, str(folder), str(out)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    answers: dict[tuple[str, str], NDArray[np.float64] | str] = {}
    for name, recipe in files:
        path = out / f"{name}.{recipe}.npy"
        answers[name, recipe] = (
            np.load(path).astype(np.float64)
            if path.exists()
            else path.with_suffix(".txt").read_text()
        )
    return answers


@pytest.fixture(scope="module")
def exact() -> dict[str, NDArray[np.float64]]:
    return {
        name: np.array([np.asarray(graph(tf.constant(x))) for x in inputs(100)], np.float64)
        for name, graph in GRAPHS.items()
    }


Outcomes = dict[tuple[str, str], NDArray[np.float64] | str]


@pytest.fixture(scope="module")
def here(files: dict[tuple[str, str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return run_all(sys.executable, files, tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def old(files: dict[tuple[str, str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return run_all(str(OLD_PYTHON), files, tmp_path_factory.mktemp("old"))


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean difference over the rms of what is right."""
    return float(np.abs(a - b).mean() / np.sqrt((b**2).mean()))


def verdict(answer: NDArray[np.float64] | str, right: NDArray[np.float64]) -> str:
    if isinstance(answer, str):
        return REFUSED
    # These graphs lose at most 3 % to quantisation; the kernels that are wrong are far off.
    error = distance(answer, right)
    assert error < 0.05 or not error < 0.3, error
    return RIGHT if error < 0.05 else WRONG


@needs_old
@pytest.mark.parametrize(("graph", "recipe", "expected", "_"), CASES)
def test_the_table_knows_what_tflite_runtime_does(
    graph: str,
    recipe: str,
    expected: str,
    _: str,
    files: dict[tuple[str, str], bytes],
    old: Outcomes,
    here: Outcomes,
    exact: dict[str, NDArray[np.float64]],
) -> None:
    file, answer = files[graph, recipe], old[graph, recipe]
    assert verdict(answer, exact[graph]) == expected
    assert lowest_runtimes(file)[TFLITE] == ("2.14.0" if expected == RIGHT else None)
    if expected == RIGHT:
        require(file, TFLITE)
        reference = here[graph, recipe]
        if not isinstance(answer, str) and not isinstance(reference, str):
            assert distance(answer, reference) < 0.01 or recipe == "int8"
    else:
        verb = {WRONG: "miscomputes", REFUSED: "refuses"}[expected]
        with pytest.raises(ConversionError, match=f"^tflite-runtime {verb} .*int8-weight"):
            require(file, TFLITE)


@pytest.mark.parametrize(("graph", "recipe", "_", "expected"), CASES)
def test_the_table_knows_what_ai_edge_litert_does(
    graph: str,
    recipe: str,
    _: str,
    expected: str,
    files: dict[tuple[str, str], bytes],
    here: Outcomes,
    exact: dict[str, NDArray[np.float64]],
) -> None:
    file = files[graph, recipe]
    assert verdict(here[graph, recipe], exact[graph]) == expected
    assert (lowest_runtimes(file)[LITERT] is not None) == (expected == RIGHT)
    if expected == RIGHT:
        require(file, LITERT)
    else:
        with pytest.raises(ConversionError, match="--recipe int8-weight"):
            require(file, LITERT)


@needs_old
def test_per_channel_dynamic_products_load_in_tflite_runtime_and_are_garbage(
    files: dict[tuple[str, str], bytes], old: Outcomes, exact: dict[str, NDArray[np.float64]]
) -> None:
    answer = old["cell", "channel"]
    assert not isinstance(answer, str), "it was refused, which is better than garbage"
    assert distance(answer, exact["cell"]) > 0.3
    assert lowest_runtimes(files["cell", "channel"]) == {LITERT: "1.0.0", TFLITE: None}
    with pytest.raises(ConversionError) as caught:
        require(files["cell", "channel"], TFLITE)
    assert str(caught.value) == (
        "tflite-runtime miscomputes FULLY_CONNECTED with float values and per-channel int8 "
        "weights; use --recipe int8-weight."
    )


def test_operations_are_listed_with_versions_counts_and_types(
    files: dict[tuple[str, str], bytes],
) -> None:
    found = operations(files["dense_3d", "int16"])
    (product,) = [op for op in found if op.name == "FULLY_CONNECTED"]
    assert product.count == 1
    assert product.types == ("int16", "int64", "int8")
    by_name = {op.name: op for op in operations(files["cell", "float"])}
    assert by_name["SPLIT"].count == 3
    assert by_name["SPLIT"].types == ("float32", "int32")
    assert [op.name for op in operations(files["cell", "float"])] == sorted(by_name)


def test_a_zip_at_the_end_changes_nothing(
    files: dict[tuple[str, str], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(files["cell", "int8"])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note", "x" * 100)
    assert operations(path.read_bytes()) == operations(files["cell", "int8"])


def test_an_operation_beyond_the_table_is_claimed_for_nothing_but_the_reference() -> None:
    model = convert(lambda x: tf.atan2(x, x + 9.0))
    assert "ATAN2" in [op.name for op in operations(model)]  # its code does not fit into a byte
    assert lowest_runtimes(model) == {LITERT: "2.3.0", TFLITE: None}
    require(model, LITERT)
    with pytest.raises(ConversionError, match=r"was not tried with ATAN2.*; use ai-edge-litert"):
        require(model, TFLITE)


def test_a_custom_operation_runs_nowhere() -> None:
    model = convert(tf.math.erf, custom=True)
    assert [op.name for op in operations(model)] == ["Erf"]
    assert lowest_runtimes(model) == {LITERT: None, TFLITE: None}
    with pytest.raises(ConversionError, match="has no custom operation Erf; replace the layer"):
        require(model, LITERT)


def test_a_release_can_be_named(files: dict[tuple[str, str], bytes]) -> None:
    file = files["quotient", "int8"]
    assert lowest_runtimes(file)[LITERT] == "1.4.0"
    require(file, "ai-edge-litert==1.10.0")  # 10 is more than 4
    with pytest.raises(ConversionError, match=r"^ai-edge-litert 1\.3 refuses DIV .* 1\.4\.0 or"):
        require(file, "ai-edge-litert==1.3")
    with pytest.raises(ConversionError, match=r"older than 2\.14\.0"):
        require(files["cell", "float"], "tflite-runtime==2.5.0")


@pytest.mark.parametrize("runtime", ["onnxruntime", "ai-edge-litert==two", "ai-edge-litert=="])
def test_an_unknown_runtime_is_refused(runtime: str, files: dict[tuple[str, str], bytes]) -> None:
    with pytest.raises(ConfigurationError, match="No runtime is called"):
        require(files["cell", "float"], runtime)


@pytest.mark.parametrize("cut", [b"", b"no model at all", None])
def test_what_is_no_tflite_file_is_refused(
    cut: bytes | None, files: dict[tuple[str, str], bytes]
) -> None:
    content = files["cell", "int8"][:300] if cut is None else cut
    with pytest.raises(ConversionError, match="TFLite file"):
        operations(content)
