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
from edgelstm.manifest import Channel, Manifest

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


def test_json_round_trip(manifest: Manifest) -> None:
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert Manifest.from_json(manifest.to_json().encode()) == manifest


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
)
_some_channels = st.lists(_channels, min_size=1, max_size=3).map(tuple)


@settings(deadline=None, max_examples=20)
@given(
    st.builds(
        Manifest,
        schema_version=st.just(1),
        channels=_some_channels,
        targets=_some_channels,
        sample_period=_positive,
    )
)
def test_json_round_trip_of_any_manifest(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text).to_json() == text  # not ==, because of nan


@pytest.mark.parametrize("std", [0, -1, math.nan, math.inf])
def test_channel_that_scales_nothing_is_refused(manifest: Manifest, std: float) -> None:
    assert "'flow'" in refusal(changed(manifest, lambda d: d["channels"][0].update(std=std)))


@pytest.mark.parametrize("field", ["channels", "targets"])
def test_manifest_without_channels_is_refused(manifest: Manifest, field: str) -> None:
    assert "names no channels or no targets" in refusal(
        changed(manifest, lambda d: d.update({field: []}))
    )


@pytest.mark.parametrize("period", [0, -1, math.nan, math.inf])
def test_sample_period_that_is_none_is_refused(manifest: Manifest, period: float) -> None:
    assert "sample period" in refusal(changed(manifest, lambda d: d.update(sample_period=period)))


def test_json_is_sorted_and_indented(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize("field", ["clip", "detection"])
def test_optional_fields_may_be_null(manifest: Manifest, field: str) -> None:
    text = changed(manifest, lambda d: d.update({field: None}))
    assert getattr(Manifest.from_json(text), field) is None


def test_whole_numbers_are_read_where_fractions_are_allowed(manifest: Manifest) -> None:
    read = Manifest.from_json(changed(manifest, lambda d: d.update(sample_period=60, clip=8)))
    assert (read.sample_period, read.clip) == (60.0, 8.0)
    assert isinstance(read.sample_period, float)


@pytest.mark.parametrize("text", ["", "{", "manifest", b"\xff\xfe{}", b"\x00"])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    assert "not JSON" in refusal(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"schema_version"', "{}"])
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    assert "schema version None" in refusal(text)


@pytest.mark.parametrize("version", [0, 2, 99, "1"])
def test_another_schema_version_names_both_versions(manifest: Manifest, version: object) -> None:
    message = refusal(changed(manifest, lambda d: d.update(schema_version=version)))
    assert f"schema version {version!r}" in message
    assert "knows version 1" in message


def test_another_schema_version_is_refused_before_its_fields_are_read() -> None:
    assert "schema version 2" in refusal('{"schema_version": 2, "new": true}')


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("clip"), "The manifest misses the field 'clip'"),
        (lambda d: d["input"].pop("scale"), "The manifest.input misses the field 'scale'"),
        (
            lambda d: d["states"][1]["output"].pop("shape"),
            "The manifest.states[1].output misses the field 'shape'",
        ),
        (lambda d: d.update(colour=1), "The manifest has an unknown field 'colour'"),
        (
            lambda d: d["channels"][0].update(colour=1),
            "The manifest.channels[0] has an unknown field 'colour'",
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
        (lambda d: d.update(clip=[8]), "manifest.clip"),
        (lambda d: d.update(channels={}), "manifest.channels"),
        (lambda d: d.update(channels=["flow"]), "manifest.channels[0]"),
        (lambda d: d.update(states="none"), "manifest.states"),
        (lambda d: d.update(input=None), "manifest.input"),
        (lambda d: d.update(fidelity=None), "manifest.fidelity"),
        (lambda d: d["channels"][1].update(mean="0"), "manifest.channels[1].mean"),
        (lambda d: d["input"].update(shape=[1, 1.5]), "manifest.input.shape[1]"),
        (lambda d: d["output"].update(zero_point=0.5), "manifest.output.zero_point"),
        (lambda d: d["states"][0]["input"].update(dtype=8), "manifest.states[0].input.dtype"),
        (lambda d: d["detection"].update(span=20.5), "manifest.detection.span"),
        (
            lambda d: d["detection"].update(residual_scale=[0.1, None]),
            "manifest.detection.residual_scale[1]",
        ),
        (lambda d: d.update(operations=[1]), "manifest.operations[0]"),
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
        data["bound"] = data.pop("clip")

    assert "misses the field 'clip'" in refusal(changed(manifest, rename))


@settings(deadline=None, max_examples=100)
@given(field=st.sampled_from([f.name for f in dataclasses.fields(Manifest)]), value=_json_values)
def test_any_value_of_a_field_is_read_or_refused(
    manifest: Manifest, field: str, value: object
) -> None:
    text = changed(manifest, lambda d: d.update({field: value}))
    with contextlib.suppress(ArtifactError):
        Manifest.from_json(text)


def test_number_beyond_the_range_of_a_float_is_refused(manifest: Manifest) -> None:
    assert "manifest.clip" in refusal(changed(manifest, lambda d: d.update(clip=10**400)))
