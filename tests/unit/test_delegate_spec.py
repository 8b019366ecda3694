from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelstm.backends.child import count_operations
from edgelstm.backends.delegates import parse_delegate
from edgelstm.backends.graph import Delegate
from edgelstm.backends.supervisor import _alike, _noise
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


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_trial_has_the_token_that_every_model_knows(dtype: type) -> None:
    assert not _noise(np.ones((1, 4), dtype), np.random.default_rng(0)).any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_a_trial_takes_the_whole_range_of_integers(dtype: type) -> None:
    found = _noise(np.ones((1, 1000), dtype), np.random.default_rng(0))
    assert found.dtype == dtype
    limits = np.iinfo(dtype)
    assert float(found.max()) - float(found.min()) > 0.9 * (float(limits.max) - limits.min)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_numbers_that_could_be_the_cpus(dtype: type) -> None:
    ours: NDArray[Any] = np.zeros((1, 8), dtype)
    near = 2 ** (8 * ours.itemsize) // 20
    assert _alike(ours, np.full_like(ours, near))
    assert not _alike(ours, np.full_like(ours, 2 * near))


FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
import edgelstm

session = edgelstm.load(sys.argv[1], delegate="/nowhere/libnone.so")
held, free = threading.Event(), threading.Event()

def hold():  # as the watching thread may at any moment
    with session._graph._supervisor.lock:
        held.set()
        free.wait()

threading.Thread(target=hold).start()
held.wait()
if pid := os.fork():
    free.set()
    assert os.waitpid(pid, 0)[1] == 0
    assert session.step([20.0, -5.0]) is not None
    print("steps", session.delegate_counters.cpu_steps)
else:
    try:
        session.step([20.0, -5.0])
    except edgelstm.EdgelstmError as error:
        print(error, flush=True)
    session.state
    sys.exit()  # which closes what is left
"""


def test_a_forked_process_ends_whoever_had_the_lock(tiny_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tiny_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    refusal, counted = done.stdout.splitlines()
    assert refusal.startswith("The delegate belongs to the process that forked this one; load")
    assert counted == "steps 1"
