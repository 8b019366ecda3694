from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.artifact import Artifact
from edgelstm.errors import ArtifactError
from edgelstm.manifest import (
    SCHEMA_VERSION,
    Channel,
    ChannelLimits,
    Detection,
    Manifest,
    Port,
    Tail,
    TensorSpec,
)

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def manifest(tiny: Artifact) -> Manifest:
    return tiny.manifest


def refusal(text: str | bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(text)
    return str(caught.value)


def changed(manifest: Manifest, change: Change) -> str:
    data = json.loads(manifest.to_json())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize("name", ["tiny", "tiny_float", "tiny_window", "tiny_ports", "tiny_tokens"])
def test_json_round_trip(name: str, request: pytest.FixtureRequest) -> None:
    manifest: Manifest = request.getfixturevalue(name).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json().encode()) == manifest


def test_channels_and_targets_are_those_of_all_ports(tiny_ports: Artifact) -> None:
    manifest = tiny_ports.manifest
    assert [port.tensor.name for port in manifest.inputs] == ["vibration", "load"]
    assert [c.name for c in manifest.channels] == ["vibration_0", "vibration_1", "load_0"]
    assert [port.tensor.name for port in manifest.outputs] == ["higher", "next_load"]
    assert [t.name for t in manifest.targets] == ["higher_0", "higher_1", "next_load"]


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


_positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
_channels = st.builds(
    Channel,
    st.text(max_size=3),
    st.text(max_size=3),
    mean=st.floats(allow_nan=False, allow_infinity=False),
    std=_positive,
    tokens=st.none() | st.integers(1),
    categories=st.none() | st.lists(st.text(max_size=3), max_size=3).map(tuple),
)
_tasks = st.just(("none", 0)) | st.tuples(st.just("forecast"), st.integers(1))
_modes = st.just(("stream", None, 1)) | st.tuples(
    st.just("window"), st.integers(1, 999), st.integers(1, 999)
)


@st.composite
def _some_ports(draw: st.DrawFn, window: int | None) -> tuple[Port, ...]:
    ports = []
    for _ in range(draw(st.integers(1, 2))):
        channels = tuple(draw(st.lists(_channels, min_size=1, max_size=3)))
        shape = (1, window, len(channels)) if window else (1, len(channels))
        tensor = draw(
            st.builds(
                TensorSpec,
                dtype=st.sampled_from(["int8", "int16", "float32"]),
                shape=st.just(shape),
                scale=st.floats(0, allow_infinity=False),
                zero_point=st.just(0),
            )
        )
        clip, scaling = draw(st.none() | st.floats()), draw(st.sampled_from(["session", "graph"]))
        ports.append(Port(channels, clip, scaling, tensor))
    return tuple(ports)


def _detections(channels: int, targets: int) -> st.SearchStrategy[Detection]:
    def per(count: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
        return st.lists(values, min_size=count, max_size=count).map(tuple)

    numbers = st.floats(allow_nan=False, allow_infinity=False)
    limits = st.builds(
        ChannelLimits,
        low=st.none() | st.floats(-9, 0),
        high=st.none() | st.floats(1, 9),
        flat=st.none() | st.integers(2),
    )
    return st.builds(
        Detection,
        residual_scale=per(targets, _positive),
        span=st.integers(1),
        tail=st.builds(Tail, _positive, _positive),
        score_body=st.lists(numbers, max_size=3).map(tuple),
        score_peaks=st.lists(numbers, max_size=3).map(tuple),
        readings=st.integers(0),
        channel_mean=per(channels, numbers),
        channel_std=per(channels, numbers),
        limits=per(channels, limits),
        false_alarms_per_day=_positive,
    )


@st.composite
def _manifests(draw: st.DrawFn) -> Manifest:
    mode, window, hop = draw(_modes)
    outputs = draw(_some_ports(None))
    inputs = draw(_some_ports(window))
    task, horizon = draw(_tasks)
    channels, targets = (sum(len(p.channels) for p in ports) for ports in (inputs, outputs))
    detection = draw(st.none() | _detections(channels, targets)) if horizon else None
    return draw(
        st.builds(
            Manifest,
            schema_version=st.just(SCHEMA_VERSION),
            mode=st.just(mode),
            window=st.just(window),
            hop=st.just(hop),
            inputs=st.just(inputs),
            outputs=st.just(outputs),
            task=st.just(task),
            horizon=st.just(horizon),
            detection=st.just(detection),
            states=st.just(()),
            sample_period=_positive,
            golden_tolerance=st.just((1.0,) * sum(len(port.channels) for port in outputs)),
        )
    )


@settings(deadline=None, max_examples=20)
@given(_manifests())
def test_json_round_trip_of_any_manifest(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text).to_json() == text  # not ==, because of nan


@pytest.mark.parametrize("ports", ["inputs", "outputs"])
@pytest.mark.parametrize("std", [0, -1, math.nan, math.inf])
def test_channel_that_scales_nothing_is_refused(manifest: Manifest, ports: str, std: float) -> None:
    text = changed(manifest, lambda d: d[ports][0]["channels"][0].update(std=std))
    assert "'flow'" in refusal(text)


@pytest.mark.parametrize("mean", [math.nan, math.inf])
def test_channel_without_a_middle_is_refused(manifest: Manifest, mean: float) -> None:
    text = changed(manifest, lambda d: d["inputs"][0]["channels"][0].update(mean=mean))
    assert "'flow'" in refusal(text)


def test_unknown_scaling_is_refused(manifest: Manifest) -> None:
    message = refusal(changed(manifest, lambda d: d["outputs"][0].update(scaling="none")))
    assert "'y' is scaled by 'none'" in message
    assert "'session' and 'graph'" in message


@pytest.mark.parametrize("mode", ["", "batch", "Stream"])
def test_unknown_mode_is_refused(manifest: Manifest, mode: str) -> None:
    assert f"the mode {mode!r}" in refusal(changed(manifest, lambda d: d.update(mode=mode)))


@pytest.mark.parametrize(
    ("mode", "window", "hop"),
    [
        ("stream", 8, 1),
        ("stream", 0, 1),
        ("stream", None, 3),
        ("stream", None, 0),
        ("window", None, 1),
        ("window", 0, 1),
        ("window", -8, 1),
        ("window", 8, 0),
        ("window", 8, -1),
    ],
)
def test_window_that_does_not_fit_the_mode_is_refused(
    manifest: Manifest, mode: str, window: int | None, hop: int
) -> None:
    message = refusal(changed(manifest, lambda d: d.update(mode=mode, window=window, hop=hop)))
    assert f"{mode!r} with a window of {window} readings and a hop of {hop}" in message


@pytest.mark.parametrize("tolerance", [[], [1.0], [1.0, 1.0, 1.0]])
def test_a_golden_tolerance_for_each_target_is_needed(
    manifest: Manifest, tolerance: list[float]
) -> None:
    message = refusal(changed(manifest, lambda d: d.update(golden_tolerance=tolerance)))
    assert f"{len(tolerance)} golden tolerances for 2 targets" in message


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_manifest_without_channels_is_refused(manifest: Manifest, field: str) -> None:
    message = "names no channels or no targets"
    assert message in refusal(changed(manifest, lambda d: d.update({field: []})))
    assert message in refusal(changed(manifest, lambda d: d[field][0].update(channels=[])))


@pytest.mark.parametrize("period", [0, -1, math.nan, math.inf])
def test_sample_period_that_is_none_is_refused(manifest: Manifest, period: float) -> None:
    assert "sample period" in refusal(changed(manifest, lambda d: d.update(sample_period=period)))


def test_json_is_sorted_and_indented(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_optional_fields_may_be_null_or_not(manifest: Manifest) -> None:
    def fill(data: dict[str, Any]) -> None:
        data["detection"] = None
        data["inputs"][0]["clip"] = 8.0
        data["inputs"][0]["channels"][0]["tokens"] = 5
        data["fidelity"].update(correlation=None, score_change=None)

    read = Manifest.from_json(changed(manifest, fill))
    assert read.detection is None
    assert (read.inputs[0].clip, manifest.inputs[0].clip) == (8.0, None)
    assert [c.tokens for c in read.channels] == [5, None]
    assert (read.fidelity.correlation, read.fidelity.score_change) == (None, None)


def test_whole_numbers_are_read_where_fractions_are_allowed(manifest: Manifest) -> None:
    text = changed(manifest, lambda d: d.update(sample_period=60, golden_tolerance=[1, 2]))
    read = Manifest.from_json(text)
    assert (read.sample_period, read.golden_tolerance) == (60.0, (1.0, 2.0))
    assert isinstance(read.sample_period, float)
    assert isinstance(read.golden_tolerance[0], float)


@pytest.mark.parametrize("text", ["", "{", "manifest", b"\xff\xfe{}", b"\x00"])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    assert "not JSON" in refusal(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"schema_version"', "{}"])
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    assert "schema version None" in refusal(text)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 5, 99, "4", 4.5, None])
def test_another_schema_version_names_both_versions(manifest: Manifest, version: object) -> None:
    message = refusal(changed(manifest, lambda d: d.update(schema_version=version)))
    assert f"schema version {version!r}" in message
    assert "knows version 4: quantize the model again" in message


def test_another_schema_version_is_refused_before_its_fields_are_read() -> None:
    assert "schema version 5" in refusal('{"schema_version": 5, "new": true}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("runtimes"), "The manifest misses the field 'runtimes'"),
        (
            lambda d: d["inputs"][0].pop("clip"),
            "The manifest.inputs[0] misses the field 'clip'",
        ),
        (
            lambda d: d["inputs"][0]["tensor"].pop("scale"),
            "The manifest.inputs[0].tensor misses the field 'scale'",
        ),
        (
            lambda d: d["operations"][2].pop("version"),
            "The manifest.operations[2] misses the field 'version'",
        ),
        (
            lambda d: d["states"][1]["output"].pop("shape"),
            "The manifest.states[1].output misses the field 'shape'",
        ),
        (lambda d: d.update(colour=1), "The manifest has an unknown field 'colour'"),
        (
            lambda d: d["inputs"][0]["channels"][0].update(colour=1),
            "The manifest.inputs[0].channels[0] has an unknown field 'colour'",
        ),
    ],
)
def test_missing_and_unknown_fields_are_named(
    manifest: Manifest, change: Change, message: str
) -> None:
    assert message in refusal(changed(manifest, change))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.update(name=7), "manifest.name"),
        (lambda d: d.update(name=None), "manifest.name"),
        (lambda d: d.update(horizon=1.0), "manifest.horizon"),
        (lambda d: d.update(horizon=True), "manifest.horizon"),
        (lambda d: d.update(warm_up="20"), "manifest.warm_up"),
        (lambda d: d.update(sample_period=True), "manifest.sample_period"),
        (lambda d: d.update(sample_period="60"), "manifest.sample_period"),
        (lambda d: d.update(window=8.0), "manifest.window"),
        (lambda d: d.update(hop=None), "manifest.hop"),
        (lambda d: d.update(golden_tolerance=1), "manifest.golden_tolerance"),
        (lambda d: d.update(runtimes=["ai-edge-litert"]), "manifest.runtimes"),
        (lambda d: d.update(runtimes={"ai-edge-litert": 2}), "manifest.runtimes.ai-edge-litert"),
        (lambda d: d.update(inputs={}), "manifest.inputs"),
        (lambda d: d.update(inputs=["flow"]), "manifest.inputs[0]"),
        (lambda d: d["inputs"][0].update(clip=[8]), "manifest.inputs[0].clip"),
        (lambda d: d["inputs"][0].update(scaling=None), "manifest.inputs[0].scaling"),
        (lambda d: d["inputs"][0].update(tensor=None), "manifest.inputs[0].tensor"),
        (lambda d: d["outputs"][0].update(channels={}), "manifest.outputs[0].channels"),
        (
            lambda d: d["inputs"][0]["channels"][0].update(tokens=5.0),
            "manifest.inputs[0].channels[0].tokens",
        ),
        (lambda d: d.update(states="none"), "manifest.states"),
        (lambda d: d.update(fidelity=None), "manifest.fidelity"),
        (lambda d: d.update(signature=None), "manifest.signature"),
        (lambda d: d.update(cpu_sha256=7), "manifest.cpu_sha256"),
        (
            lambda d: d["inputs"][0]["channels"][1].update(mean="0"),
            "manifest.inputs[0].channels[1].mean",
        ),
        (
            lambda d: d["inputs"][0]["tensor"].update(shape=[1, 1.5]),
            "manifest.inputs[0].tensor.shape[1]",
        ),
        (
            lambda d: d["outputs"][0]["tensor"].update(zero_point=0.5),
            "manifest.outputs[0].tensor.zero_point",
        ),
        (lambda d: d["states"][0]["input"].update(dtype=8), "manifest.states[0].input.dtype"),
        (lambda d: d["detection"].update(span=20.5), "manifest.detection.span"),
        (
            lambda d: d["detection"].update(residual_scale=[0.1, None]),
            "manifest.detection.residual_scale[1]",
        ),
        (lambda d: d["detection"]["tail"].update(start="2"), "manifest.detection.tail.start"),
        (lambda d: d["detection"].update(tail=2.0), "manifest.detection.tail"),
        (
            lambda d: d["detection"]["limits"][1].update(flat=60.0),
            "manifest.detection.limits[1].flat",
        ),
        (
            lambda d: d["detection"].update(score_peaks=[1, None]),
            "manifest.detection.score_peaks[1]",
        ),
        (
            lambda d: d["inputs"][0]["channels"][0].update(categories=[0, 1]),
            "manifest.inputs[0].channels[0].categories[0]",
        ),
        (lambda d: d.update(task=None), "manifest.task"),
        (lambda d: d.update(operations=["ADD"]), "manifest.operations[0]"),
        (lambda d: d["operations"][0].update(version="1"), "manifest.operations[0].version"),
        (lambda d: d.update(versions={"numpy": 2}), "manifest.versions.numpy"),
        (lambda d: d.update(versions=["numpy"]), "manifest.versions"),
    ],
)
def test_wrong_types_are_named(manifest: Manifest, change: Change, field: str) -> None:
    message = refusal(changed(manifest, change))
    assert f"The field {field} is " in message
    assert "not of type" in message


def test_renamed_field_is_named_as_missing(manifest: Manifest) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["runners"] = data.pop("runtimes")

    assert "misses the field 'runtimes'" in refusal(changed(manifest, rename))


@settings(deadline=None, max_examples=100)
@given(field=st.sampled_from([f.name for f in dataclasses.fields(Manifest)]), value=_json_values)
def test_any_value_of_a_field_is_read_or_refused(
    manifest: Manifest, field: str, value: object
) -> None:
    text = changed(manifest, lambda d: d.update({field: value}))
    with contextlib.suppress(ArtifactError):
        Manifest.from_json(text)


def test_number_beyond_the_range_of_a_float_is_refused(manifest: Manifest) -> None:
    text = changed(manifest, lambda d: d.update(sample_period=10**400))
    assert "manifest.sample_period" in refusal(text)


# What must fit together


@pytest.mark.parametrize(
    ("where", "field", "value", "message"),
    [
        ("inputs", "dtype", "complex64", "of the type 'complex64'; this edgelstm knows int8"),
        ("inputs", "zero_point", 300, "scale .* and the zero point 300, which no int8 tensor has"),
        ("inputs", "scale", -0.5, "has the scale -0.5"),
        ("inputs", "shape", [1, 3], r"the shape \(1, 3\), which does not hold 2 values"),
        ("inputs", "shape", [1], r"the shape \(1,\), which does not hold 2 values"),
        ("outputs", "shape", [1, 0], "which does not hold 2 values"),
        ("outputs", "shape", [0, 2], "which does not hold 2 values"),
        ("states", "shape", [1, 4], "goes in and comes out in different forms"),
        ("states", "scale", 0.5, "goes in and comes out in different forms"),
    ],
)
def test_what_does_not_fit_a_tensor_is_refused(
    manifest: Manifest, where: str, field: str, value: object, message: str
) -> None:
    part = "output" if where == "states" else "tensor"
    text = changed(manifest, lambda d: d[where][0][part].update({field: value}))
    with pytest.raises(ArtifactError, match=message):
        Manifest.from_json(text)


def test_a_window_has_a_tensor_for_it(tiny_window: Artifact) -> None:
    text = changed(tiny_window.manifest, lambda d: d.update(window=9))
    with pytest.raises(ArtifactError, match="does not hold 18 values"):
        Manifest.from_json(text)


def test_a_window_that_is_reconstructed_has_as_many_outputs(tiny_window: Artifact) -> None:
    manifest = tiny_window.manifest
    assert manifest.window is not None
    (port,) = manifest.outputs
    count = manifest.window * 2
    tensor = dataclasses.replace(port.tensor, shape=(1, manifest.window, 2))
    assert manifest.detection is not None
    fitting = dataclasses.replace(
        manifest,
        task="reconstruction",
        horizon=0,
        outputs=(dataclasses.replace(port, channels=port.channels * 8, tensor=tensor),),
        golden_tolerance=(1.0,) * count,
        detection=dataclasses.replace(manifest.detection, residual_scale=(1.0,) * count),
    )
    assert Manifest.from_json(fitting.to_json()) == fitting
    with pytest.raises(ArtifactError, match="14 outputs reconstruct 8 readings of 2 channels"):
        dataclasses.replace(
            fitting,
            outputs=(dataclasses.replace(port, channels=port.channels * 7, tensor=tensor),),
            golden_tolerance=(1.0,) * 14,
        )


@pytest.mark.parametrize(
    ("task", "horizon"),
    [
        ("forecast", 0),
        ("forecast", -1),
        ("none", 1),
        ("reconstruction", 1),
        ("prophecy", 0),
        ("", 1),
    ],
)
def test_a_task_has_the_horizon_that_it_needs(manifest: Manifest, task: str, horizon: int) -> None:
    text = changed(manifest, lambda d: d.update(task=task, horizon=horizon, detection=None))
    assert f"the task {task!r} with a horizon of {horizon} steps" in refusal(text)


def test_a_stream_cannot_reconstruct(manifest: Manifest) -> None:
    text = changed(manifest, lambda d: d.update(task="reconstruction", horizon=0, detection=None))
    assert "2 outputs reconstruct None readings of 2 channels" in refusal(text)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["detection"].update(residual_scale=[1.0]),
        lambda d: d["detection"].update(channel_mean=[1.0]),
        lambda d: d["detection"].update(channel_std=[1.0, 1.0, 1.0]),
        lambda d: d["detection"].update(limits=[]),
        lambda d: d.update(task="none", horizon=0),
    ],
)
def test_a_detection_that_is_of_another_model_is_refused(
    manifest: Manifest, change: Change
) -> None:
    assert "a detection that does not fit" in refusal(changed(manifest, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["tail"].update(start=0), "tail of the scores is not positive"),
        (lambda d: d["tail"].update(scale=math.inf), "tail of the scores is not positive"),
        (lambda d: d.update(residual_scale=[1.0, 0.0]), "a residual scale or a span"),
        (lambda d: d.update(span=0), "a residual scale or a span"),
        (lambda d: d.update(false_alarms_per_day=0), "a budget of 0"),
        (lambda d: d["limits"][0].update(low=2.0, high=2.0), "low 2.0, high 2.0"),
        (lambda d: d["limits"][0].update(low=math.nan), "low nan"),
        (lambda d: d["limits"][1].update(flat=1), "flat 1"),
    ],
)
def test_a_detection_that_cannot_be_is_refused(
    manifest: Manifest, change: Change, message: str
) -> None:
    text = changed(manifest, lambda d: change(d["detection"]))
    assert "The manifest is damaged: " in refusal(text)
    assert message in refusal(text)
