"""The firmware for AVR, compiled with avr-gcc and run by simavr with its UART on a pty."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from board import (
    INPUTS,
    acceleration,
    board,
    firmware,
    needs_simulator,
    steps_of,
    waveform_mv,
)
from port_reader import DEADLINE_S, PortReader

from edgelstm_bridge.decoder import FrameDecoder, Restart
from edgelstm_bridge.hello import ChannelInfo, Hello, ValueType
from edgelstm_bridge.messages import (
    End,
    Log,
    LogLevel,
    Ping,
    Pong,
    Rate,
    Report,
    Sample,
    Statistics,
    Stop,
)

pytestmark = needs_simulator

VOLT = 5 / 1023
FAST = 0.0


class Contract(ABC):
    """What every firmware that streams the six analogue inputs does."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the ELF file."""

    @property
    @abstractmethod
    def hello(self) -> Hello:
        """Its first hello."""

    @pytest.fixture
    def reader(self) -> Iterator[PortReader]:
        """A board that runs as fast as it is read."""
        with board(firmware(self.name), speed=FAST) as running, PortReader(running.port) as reader:
            yield reader

    def period_us(self, first: Sample, second: Sample) -> int:
        ticks = (second.device_clock - first.device_clock) % 2**32
        numbers = second.sequence_number - first.sequence_number
        return ticks * self.hello.clock_tick_us // numbers

    def test_says_hello_and_waits(self, reader: PortReader) -> None:
        reader.read_until(lambda: bool(reader.messages))
        assert reader.messages == [self.hello]
        assert reader.ask(Report(), Statistics) == Statistics(0, 0, 0, 0)
        assert reader.ask(Ping(1), Pong)
        assert not reader.samples

    def test_streams_what_is_on_its_inputs(self, tmp_path: Path) -> None:
        log = tmp_path / "conversions"
        with (
            board(firmware(self.name), speed=FAST, conversions=log) as running,
            PortReader(running.port) as reader,
        ):
            reader.start()
            reader.read_samples(600)
            end = reader.ask(Stop(), End)
        counters = reader.decoder.counters
        assert (counters.damaged, counters.unknown, counters.lost) == (0, 0, 0)
        samples = reader.samples
        assert [sample.sequence_number for sample in samples] == list(range(end.sample_count))
        for first, second in pairwise(samples):
            assert abs(self.period_us(first, second) - 10_000) < 1000
        conversions = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        scale = self.hello.channels[0].scale
        tick_ms = self.hello.clock_tick_us / 1000
        for number, sample in enumerate(samples):
            rows = conversions[number * INPUTS : (number + 1) * INPUTS]
            assert [channel for channel, _, _ in rows] == list(range(INPUTS))
            assert [mv for _, mv, _ in rows] == [waveform_mv(c, ms) for c, _, ms in rows]
            assert sample.values == tuple(steps_of(mv) * scale for _, mv, _ in rows)
            assert 0 <= rows[0][2] - sample.device_clock * tick_ms + 1 < 3

    def test_ping(self, reader: PortReader) -> None:
        reader.start()
        clocks = []
        for token in (1, 0, 2**32 - 1):
            pong = reader.ask(Ping(token), Pong)
            assert pong.token == token
            clocks.append(pong.device_clock)
            reader.read_samples(2)
        assert clocks == sorted(clocks)
        assert reader.decoder.counters.lost == 0

    @pytest.mark.parametrize(("asked", "made"), [(20_000, 20_000), (5000, 5000), (1, 1000)])
    def test_rate(self, reader: PortReader, asked: int, made: int) -> None:
        reader.start()
        reader.read_samples(5)
        hello = reader.ask(Rate(asked), Hello)
        assert hello.sample_period_us == made
        begin = len(reader.samples)
        reader.read_samples(20)
        steps = [self.period_us(*pair) for pair in pairwise(reader.samples[begin:])]
        assert all(abs(step - made) < 0.2 * made + 500 for step in steps), steps
        if made > 1000:
            assert reader.decoder.counters.lost == 0

    def test_a_slow_rate(self, reader: PortReader) -> None:
        reader.wait_for_device()
        assert reader.ask(Rate(1_000_000), Hello).sample_period_us == 1_000_000
        reader.start()
        reader.read_samples(3)
        for pair in pairwise(reader.samples):
            assert abs(self.period_us(*pair) - 1_000_000) < 1000

    def test_stop_and_start(self, reader: PortReader) -> None:
        for _ in range(3):
            count = len(reader.samples)
            assert reader.start().sample_count == count
            reader.read_samples(7)
            end = reader.ask(Stop(), End)
            assert end.sample_count == len(reader.samples)
            statistics = reader.messages[-2]
            assert isinstance(statistics, Statistics)
            assert statistics.sample_count == end.sample_count
            assert statistics.dropped == statistics.overruns == 0
            clock = reader.ask(Ping(1), Pong).device_clock
            # A second of the device's time passes without a sample.
            second = 1e6 / self.hello.clock_tick_us
            while (reader.ask(Ping(2), Pong).device_clock - clock) % 2**32 < second:
                pass
            assert end.sample_count == len(reader.samples)
        assert reader.decoder.counters.lost == 0

    def test_bad_commands_are_counted(self, reader: PortReader) -> None:
        reader.wait_for_device()  # what it took in while it booted may count
        before = reader.ask(Report(), Statistics).bad_commands
        reader.send_bytes(b"\0\x02\x12\0" + bytes(range(1, 60)) + b"\0")
        assert reader.ask(Report(), Statistics).bad_commands == before + 2

    def test_a_restart_is_recognised(self) -> None:
        with (
            board(firmware(self.name), speed=FAST) as running,
            PortReader(running.port) as reader,
        ):
            reader.start()
            reader.read_samples(100)
            running.restart()
            reader.read_until(lambda: Restart() in reader.messages)
            again = reader.messages[reader.messages.index(Restart()) + 1]
            assert isinstance(again, Hello)
            assert (again.boot_id, again.sample_count) == (2, 0)
            before = reader.samples
            reader.wait_for_device()
            assert reader.samples == before, "it waits for a start"
            reader.start()
            reader.read_samples(3)
        after = reader.samples[len(before) :]
        assert [sample.sequence_number for sample in after[:3]] == [0, 1, 2]
        assert reader.decoder.counters.restarts == 1
        assert running.summary["restarts"] == 1

    def test_no_two_boots_have_the_same_number(self) -> None:
        """Over the end of the lowest byte of the count, too."""
        with (
            board(firmware(self.name), speed=FAST) as running,
            PortReader(running.port) as reader,
        ):
            reader.read_until(lambda: len(reader.messages) == 1)
            for _ in range(257):
                count = len(reader.messages)
                running.restart()
                reader.read_until(lambda: len(reader.messages) == count + 2)  # noqa: B023
        hellos = [message for message in reader.messages if isinstance(message, Hello)]
        assert [hello.boot_id for hello in hellos] == list(range(1, 259))

    def test_little_of_the_stack_is_used(self) -> None:
        with (
            board(firmware(self.name), speed=FAST) as running,
            PortReader(running.port) as reader,
        ):
            reader.start()
            reader.ask(Rate(1000), Hello)
            reader.read_samples(200)
            reader.ask(Stop(), End)
        assert 20 < running.summary["stack"] < 256

    def test_what_the_line_cannot_carry_is_dropped_and_counted(self, reader: PortReader) -> None:
        """1,000 frames of 23 bytes a second, where there is time for 500."""
        reader.wait_for_device()
        reader.ask(Rate(1000), Hello)
        reader.start()
        reader.read_samples(500)
        end = reader.ask(Stop(), End)
        statistics = reader.messages[-2]
        assert isinstance(statistics, Statistics)
        lost = statistics.dropped + statistics.overruns
        assert statistics.dropped > 200
        assert len(reader.samples) + lost == end.sample_count == statistics.sample_count
        assert reader.decoder.counters.lost == lost
        assert reader.decoder.counters.damaged == 0
        self.check_pace(reader.samples, statistics.overruns)

    def check_pace(self, samples: list[Sample], overruns: int) -> None:
        """The samples were still taken at their times."""
        whole = (samples[-1].device_clock - samples[0].device_clock) * self.hello.clock_tick_us
        assert overruns < len(samples)
        periods = samples[-1].sequence_number - samples[0].sequence_number
        assert abs(whole - 1000 * periods) < 2000

    def test_what_nobody_reads_is_missed_by_number(self, tmp_path: Path) -> None:
        truth = tmp_path / "truth"
        with (
            board(firmware(self.name), speed=50.0, truth=truth) as running,
            PortReader(running.port) as reader,
        ):
            reader.wait_for_device()
            reader.ask(Rate(2500), Hello)
            reader.start()
            reader.read_samples(3)
            wait_for_size(truth, truth.stat().st_size + 50_000)
            reader.read_samples(100)
            end = reader.ask(Stop(), End)
            statistics = reader.ask(Report(), Statistics)
        assert running.summary["overflowed"] > 0
        counters = reader.decoder.counters
        assert counters.lost > 100
        assert counters.samples + counters.lost == end.sample_count
        assert (statistics.dropped, statistics.overruns) == (0, 0), "the device had room and time"

    def test_damage_on_the_line(self, tmp_path: Path) -> None:
        truth = tmp_path / "truth"
        elf = firmware(self.name)
        with (
            board(elf, speed=FAST, drop_ppm=2000, garble_ppm=2000, truth=truth) as running,
            PortReader(running.port) as reader,
        ):
            reader.start()
            reader.read_samples(1000)
            end = reader.ask(Stop(), End)
        hello = next(message for message in reader.messages if isinstance(message, Hello))
        assert running.summary["dropped"] > 30
        assert running.summary["garbled"] > 30
        counters = reader.decoder.counters
        assert counters.damaged > 60
        assert counters.samples + counters.lost == end.sample_count - hello.sample_count
        sent = {sample.sequence_number: sample for sample in samples_of(truth)}
        assert len(sent) == end.sample_count
        for sample in reader.samples:
            assert sample == sent[sample.sequence_number]


class TestAnalogInputs(Contract):
    """The sketch of the Arduino library, on the Arduino core."""

    name = "AnalogInputs"
    hello = Hello(
        channels=tuple(ChannelInfo(f"a{i}", "V", VOLT) for i in range(INPUTS)),
        value_type=ValueType.INT16,
        sample_period_us=10_000,
        clock_tick_us=1,
        boot_id=1,
        device_id="analog-inputs",
        firmware_version="1.0.0",
    )


class TestAvrAnalog(Contract):
    """The plain example, whose samples a timer begins."""

    name = "avr-analog"
    hello = Hello(
        channels=tuple(ChannelInfo(f"a{i}", "V", VOLT) for i in range(INPUTS)),
        value_type=ValueType.INT16,
        sample_period_us=10_000,
        clock_tick_us=4,
        boot_id=1,
        device_id="avr-analog",
        firmware_version="1.0.0",
    )

    def check_pace(self, samples: list[Sample], overruns: int) -> None:
        """To the tick, each of them: the line being full delays none."""
        assert overruns == 0
        for first, second in pairwise(samples):
            numbers = second.sequence_number - first.sequence_number
            assert second.device_clock - first.device_clock == 250 * numbers

    def test_its_pace_is_exact(self, reader: PortReader) -> None:
        reader.start()
        reader.read_samples(300)
        assert {b.device_clock - a.device_clock for a, b in pairwise(reader.samples)} == {2500}

    def test_what_it_has_no_time_to_measure_is_an_overrun(self) -> None:
        """Every second sample is due while the one before it is still measured."""
        elf = firmware(self.name, "-DSAMPLER_SHORTEST_PERIOD_US=500")
        with board(elf, speed=FAST) as running, PortReader(running.port) as reader:
            reader.wait_for_device()
            assert reader.ask(Rate(500), Hello).sample_period_us == 500
            reader.start()
            reader.read_samples(300)
            end = reader.ask(Stop(), End)
        statistics = next(m for m in reversed(reader.messages) if isinstance(m, Statistics))
        assert statistics.overruns == pytest.approx(end.sample_count / 2, abs=10)
        assert len(reader.samples) + statistics.dropped + statistics.overruns == end.sample_count
        for first, second in pairwise(reader.samples):
            numbers = second.sequence_number - first.sequence_number
            assert second.device_clock - first.device_clock == 125 * numbers


class TestAccelerometer:
    """The other sketch of the Arduino library."""

    def test_streams_what_its_sensor_measures(self) -> None:
        with (
            board(firmware("Accelerometer"), speed=FAST, sensor=True) as running,
            PortReader(running.port) as reader,
        ):
            hello = reader.start()
            reader.read_samples(300)
            reader.ask(Stop(), End)
        names = [(channel.name, channel.unit) for channel in hello.channels]
        assert names == [("x", "m/s2"), ("y", "m/s2"), ("z", "m/s2")]
        assert reader.decoder.counters.lost == 0
        assert not any(isinstance(message, Log) for message in reader.messages)
        for sample in reader.samples:
            ms = sample.device_clock // 1000
            near = [acceleration(ms + offset) for offset in range(-1, 4)]
            steps = [round(v / s) for v, s in zip(sample.values, hello.scales, strict=True)]
            assert tuple(steps) in near

    def test_a_sensor_that_is_unplugged_and_comes_back(self) -> None:
        gone = Log(LogLevel.ERROR, "the MPU-6050 does not answer")
        with (
            board(firmware("Accelerometer"), speed=FAST) as running,
            PortReader(running.port) as reader,
        ):
            reader.start()
            reader.read_until(lambda: gone in reader.messages)
            assert not reader.samples
            running.plug_sensor()
            reader.read_samples(20)
            running.plug_sensor()
            reader.read_until(lambda: reader.messages.count(gone) == 2)
            running.plug_sensor()
            reader.read_samples(20)
            end = reader.ask(Stop(), End)
            statistics = reader.ask(Report(), Statistics)
        assert statistics.overruns > 0
        assert reader.decoder.counters.lost == statistics.overruns
        assert len(reader.samples) + statistics.overruns == end.sample_count
        assert all(sample.values[2] > 9 for sample in reader.samples), "awake again"


class TestTheBoardItself:
    """What other tests rely on."""

    def test_it_ends_by_itself_when_all_was_read(self, tmp_path: Path) -> None:
        link = tmp_path / "ttyUSB7"
        with (
            board(firmware("avr-analog"), speed=FAST, seconds=2.0, link=link) as running,
            PortReader(str(link)) as reader,
        ):
            reader.read_until(lambda: bool(reader.messages))
            output, _ = running.process.communicate(timeout=DEADLINE_S)
            running.summary = json.loads(output)
        assert not link.exists()
        assert not running.summary["crashed"]
        assert running.summary["simulated"] == pytest.approx(2.0, abs=0.05)

    def test_an_anomaly_disturbs_channel_0_from_its_time_on(self, tmp_path: Path) -> None:
        log = tmp_path / "conversions"
        elf = firmware("AnalogInputs")
        with (
            board(elf, speed=FAST, conversions=log, anomaly_at=4.0) as running,
            PortReader(running.port) as reader,
        ):
            reader.start()
            reader.read_until(lambda: any(s.device_clock > 6_000_000 for s in reader.samples))
        rows = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
        off = [(c, ms, abs(mv - waveform_mv(c, ms))) for c, mv, ms in rows]
        assert all(error == 0 for c, ms, error in off if c > 0 or ms < 4000)
        assert max(error for c, ms, error in off if c == 0 and ms >= 4000) > 500

    def test_the_same_seed_does_the_same_damage(self) -> None:
        hellos = []
        for seed in (1, 1, 2):
            with (
                board(firmware("avr-analog"), drop_ppm=50_000, garble_ppm=50_000, seed=seed) as it,
                PortReader(it.port) as reader,
            ):
                reader.read_until(lambda: len(reader.received) > 60)
                hellos.append(bytes(reader.received[:60]))
        assert hellos[0] == hellos[1] != hellos[2]


def samples_of(truth: Path) -> list[Sample]:
    decoder = FrameDecoder()
    samples = [m for m in decoder.feed(truth.read_bytes()) if isinstance(m, Sample)]
    assert decoder.counters.damaged == decoder.counters.lost == 0
    return samples


def wait_for_size(path: Path, size: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
