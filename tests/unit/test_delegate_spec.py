from __future__ import annotations

import pytest

from edgelstm.backends.child import count_operations
from edgelstm.backends.delegates import parse_delegate
from edgelstm.backends.graph import Delegate
from edgelstm.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("edgetpu:usb", "usb"),
        ("edgetpu:pci", "pci"),
        ("edgetpu:usb:0", "usb:0"),
        ("edgetpu:pci:12", "pci:12"),
        ("edgetpu:1", ":1"),
        ("edgetpu::1", ":1"),
    ],
)
def test_an_edge_tpu_is_named_as_its_library_names_it(text: str, device: str) -> None:
    assert parse_delegate(text) == Delegate("libedgetpu.so.1", {"device": device})


def test_any_edge_tpu() -> None:
    assert parse_delegate("edgetpu") == Delegate("libedgetpu.so.1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("libvx_delegate.so", Delegate("libvx_delegate.so")),
        ("libfoo.so.1.2", Delegate("libfoo.so.1.2")),
        ("/opt/npu/delegate", Delegate("/opt/npu/delegate")),
        ("./foo.so?a=1&b=x=y", Delegate("./foo.so", {"a": "1", "b": "x=y"})),
        ("libfoo.so?empty=", Delegate("libfoo.so", {"empty": ""})),
        ("./edgetpu", Delegate("./edgetpu")),
    ],
)
def test_any_other_delegate_is_a_library(text: str, expected: Delegate) -> None:
    assert parse_delegate(text) == expected
    assert parse_delegate(expected) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "No delegate is called ''; give edgetpu, edgetpu:usb:0 or the like"),
        ("edgtpu", "No delegate is called 'edgtpu'"),
        ("EdgeTPU", "No delegate is called 'EdgeTPU'"),
        ("libfoo.sox", "No delegate is called 'libfoo.sox'"),
        ("edgetpu:", "No Edge TPU is called ''; give edgetpu, edgetpu:usb"),
        ("edgetpu:sub", "No Edge TPU is called 'sub'"),
        ("edgetpu:usb0", "No Edge TPU is called 'usb0'"),
        ("edgetpu:usb:", "No Edge TPU is called 'usb:'"),
        ("edgetpu:-1", "No Edge TPU is called '-1'"),
        ("edgetpu?device=usb", "No delegate is called 'edgetpu.device=usb'"),
        ("libfoo.so?", "The options of the delegate libfoo.so are ''; write them as key=value"),
        ("libfoo.so?a", "The options of the delegate libfoo.so are 'a'"),
        ("libfoo.so?=1", "The options of the delegate libfoo.so are '=1'"),
        ("libfoo.so?a=1&a=2", "each key once"),
    ],
)
def test_what_names_no_delegate_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        parse_delegate(text)


def node(name: str, inputs: list[int], outputs: list[int]) -> dict[str, object]:
    return {"op_name": name, "inputs": inputs, "outputs": outputs}


# 10 and 11 are weights: 0 -> A -> 1 -> B -> 2 -> C -> 3, and 1 -> D -> 4.
GRAPH = [
    node("A", [0, 10], [1]),
    node("B", [1, 11], [2]),
    node("C", [2], [3]),
    node("D", [1], [4]),
]


@pytest.mark.parametrize(
    ("delegates", "taken"),
    [
        ([], 0),
        ([node("DELEGATE", [0, 10], [1])], 1),
        ([node("DELEGATE", [1, 11], [3])], 2),
        ([node("DELEGATE", [0, 10, 11], [3, 4])], 4),
        ([node("DELEGATE", [0, 10], [1]), node("DELEGATE", [2], [3])], 2),
    ],
)
def test_the_operations_that_a_delegate_took_are_counted(
    delegates: list[dict[str, object]], taken: int
) -> None:
    assert count_operations(GRAPH + delegates) == (4, taken)
