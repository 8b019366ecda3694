from __future__ import annotations

import csv
import errno
import io
import math
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm import parquet_writing
from edgelstm.errors import (
    ConfigurationError,
    MissingDependencyError,
    OutputExistsError,
    SourceError,
)
from edgelstm.parquet import read_recording
from edgelstm.reading import Reading
from edgelstm_bridge.events import Ended, Event, Gap, Restarted
from edgelstm_bridge.messages import Statistics
from edgelstm_bridge.recorder import Recorder, RecordingSummary
from edgelstm_bridge.recording_file import RecordingFile, column_names, part_path
from edgelstm_bridge.resampling import Resampler
from edgelstm_bridge.source import FakeSource

EPOCH_2024 = 1_704_067_200.0  # 2024-01-01 00:00:00 UTC
CHANNELS = ("flow", "level")
finite = st.floats(allow_nan=False, allow_infinity=False)


def readings(count: int, *, period: float = 0.01, start: int = 0) -> list[Reading]:
    return [
        Reading(EPOCH_2024 + period * i, (math.sin(i), 1 / (i + 1)), start + i)
        for i in range(count)
    ]


def wait_until(what: str, path: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while text not in path.read_text():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for each example of a Hypothesis test."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(path: Path, given: Sequence[Reading], channels: Sequence[str] = CHANNELS) -> None:
    with RecordingFile(path, channels) as file:
        for reading in given:
            file.append(reading)
        file.finish()


# The file


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_is_read_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run.{suffix}"
    write(path, readings(500))
    recording = read_recording(path)
    assert recording.channels == CHANNELS
    assert recording.values.tolist() == [list(reading.values) for reading in readings(500)]
    expected = [reading.timestamp for reading in readings(500)]
    assert np.abs(recording.timestamps - expected).max() < 1e-6
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@given(
    rows=st.lists(st.tuples(finite, finite), min_size=2, max_size=30),
    start=st.floats(-6e10, 9e10),
    suffix=st.sampled_from(["csv", "parquet"]),
)
def test_any_finite_values_at_any_time_are_read_back(
    rows: list[tuple[float, float]], start: float, suffix: str
) -> None:
    with folder() as here:
        path = here / f"run.{suffix}"
        write(path, [Reading(start + 10 * i, row) for i, row in enumerate(rows)])
        recording = read_recording(path)
    assert recording.values.tolist() == [list(row) for row in rows]
    assert np.abs(recording.timestamps - [start + 10 * i for i in range(len(rows))]).max() < 2e-5


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True))
def test_channels_of_any_name_become_columns(names: list[str]) -> None:
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return  # no device can send it
    row = tuple(float(i) for i in range(len(names)))
    for suffix in ("csv", "parquet"):
        with folder() as here:
            path = here / f"run.{suffix}"
            write(path, [Reading(0.0, row), Reading(1.0, row)], names)
            recording = read_recording(path)
        assert recording.values.tolist() == [list(row), list(row)]
        assert list(recording.channels) == [name.strip() for name in column_names(names)]


def test_columns_are_called_as_the_channels_are_where_that_can_be() -> None:
    assert column_names(["x", "Temperature °C", "time"]) == ["x", "Temperature °C", "time"]
    assert column_names(["a;b", "a,b", "timestamp", " "]) == [
        "a_b",
        "a_b_2",
        "timestamp_2",
        "channel_3",
    ]


def test_times_are_iso_8601_with_microseconds(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    write(path, [Reading(EPOCH_2024 + 1.123456, (1.5, -2.0)), Reading(EPOCH_2024 + 2, (0.1, 3))])
    assert path.read_text() == (
        "timestamp,flow,level\n"
        "2024-01-01T00:00:01.123456Z,1.5,-2.0\n"
        "2024-01-01T00:00:02.000000Z,0.1,3.0\n"
    )


@given(st.floats(-6e10, 9e10))
def test_times_are_right_to_the_microsecond(timestamp: float) -> None:
    with folder() as here:
        write(
            here / "run.csv", [Reading(timestamp, (0.0,)), Reading(timestamp + 1e-6, (0.0,))], "x"
        )
        first, _ = (here / "run.csv").read_text().splitlines()[1:]
    moment = datetime.fromisoformat(first.partition(",")[0])
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) / (
        datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    )
    assert abs(microseconds - timestamp) <= 5e-7 + 2 * math.ulp(abs(timestamp))


@pytest.mark.parametrize(
    "unusable",
    [
        Reading(EPOCH_2024, (math.nan, 1.0)),
        Reading(EPOCH_2024, (1.0, math.inf)),
        Reading(EPOCH_2024, (math.inf, -math.inf)),
        Reading(math.nan, (1.0, 1.0)),
        Reading(math.inf, (1.0, 1.0)),
        Reading(1e12, (1.0, 1.0)),
        Reading(-1e12, (1.0, 1.0)),
    ],
)
def test_what_no_model_can_read_is_left_out_and_counted(tmp_path: Path, unusable: Reading) -> None:
    path = tmp_path / "run.csv"
    with RecordingFile(path, CHANNELS) as file:
        assert file.append(readings(1)[0])
        assert not file.append(unusable)
        assert file.append(readings(2)[1])
        assert (file.rows, file.unusable) == (2, 1)
        file.finish()
    assert len(read_recording(path)) == 2


def test_values_whose_sum_is_not_finite_are_values(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    write(path, [Reading(0.0, (1.7e308, 1.7e308)), Reading(1.0, (0.0, 0.0))])
    assert read_recording(path).values[0].tolist() == [1.7e308, 1.7e308]


# Until it is finished


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_reach_the_disk_while_nothing_more_comes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run.{suffix}"
    with RecordingFile(path, CHANNELS, flush_interval=0.01) as file:
        file.append(readings(1)[0])
        wait_until("the row stayed in memory", part_path(path), "2024-01-01T00:00:00.000000Z,0.0,")
        assert not path.exists()
        file.discard()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finished_stays_beside_the_target(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    with RecordingFile(path, CHANNELS) as file:
        for reading in readings(10):
            file.append(reading)
    assert not path.exists()
    part_path(path).rename(path)
    assert len(read_recording(path)) == 10


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    code = (
        "import itertools, sys, time\nfrom pathlib import Path\n"
        "from edgelstm.reading import Reading\n"
        "from edgelstm_bridge.recording_file import RecordingFile\n"
        "file = RecordingFile(Path(sys.argv[1]), ['flow', 'level'], flush_interval=0.005)\n"
        "for i in itertools.count():\n"
        "    file.append(Reading(i / 1000, (i / 7, i)))\n"
        "    if i % 100 == 0: time.sleep(0.001)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
        deadline = time.monotonic() + 30
        while not part_path(path).exists() or part_path(path).stat().st_size < 100_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    text = part_path(path).read_text()
    assert text.endswith("\n")
    rows = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in rows} == {3}
    with pytest.raises(
        OutputExistsError, match=r"recording that was cut off.*rename it to run\.csv"
    ):
        RecordingFile(path, CHANNELS)
    assert part_path(path).read_text() == text
    with RecordingFile(path, CHANNELS, force=True) as file:
        file.append(readings(1)[0])
        file.finish()
    assert len(path.read_text().splitlines()) == 2


def test_two_programs_do_not_record_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    with RecordingFile(path, CHANNELS) as file:
        file.append(readings(1)[0])
        with pytest.raises(ConfigurationError, match="Another program is recording"):
            RecordingFile(path, CHANNELS, force=True)
        file.append(readings(2)[1])
        file.finish()
    assert len(read_recording(path)) == 2


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="--force"):
        RecordingFile(path, CHANNELS)
    path.unlink()
    with RecordingFile(path, CHANNELS) as file:
        file.append(readings(1)[0])
        path.write_text("made meanwhile")
        with pytest.raises(OutputExistsError, match=r"this recording is in .*run\.csv\.part"):
            file.finish()
    assert path.read_text() == "made meanwhile"
    assert len(part_path(path).read_text().splitlines()) == 2


@pytest.mark.parametrize("name", ["run.txt", "run", "run.csv.gz", "no/run.csv"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError):
        RecordingFile(tmp_path / name, CHANNELS)
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_pyarrow_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        RecordingFile(tmp_path / "run.parquet", CHANNELS)
    write(tmp_path / "run.csv", readings(2))


def test_a_full_disk_ends_it_with_whole_lines(tmp_path: Path) -> None:
    """The limit on the size of a file stands for the disk's; the kernel gives another number."""
    path = tmp_path / "run.csv"
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from edgelstm.reading import Reading\n"
        "from edgelstm_bridge.recording_file import RecordingFile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "file = RecordingFile(Path(sys.argv[1]), ['flow', 'level'], flush_interval=0.001)\n"
        "try:\n"
        "    for i in range(10_000_000): file.append(Reading(i / 1000, (i / 7, i)))\n"
        "except OSError as error:\n"
        "    print(error.errno, error.filename)\n"
        "try: file.finish()\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{errno.EFBIG} {part_path(path)}", str(errno.EFBIG)]
    text = part_path(path).read_text()
    assert text.endswith("\n")
    assert not path.exists()


def test_parquet_of_many_blocks_has_bounded_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writing, "_BLOCK_SIZE", 4096)
    path = tmp_path / "run.parquet"
    write(path, readings(2000))
    file = pq.ParquetFile(path)
    assert file.metadata.num_rows == 2000
    assert file.metadata.num_row_groups > 10
    assert str(file.schema_arrow.field("timestamp").type) == "timestamp[us, tz=UTC]"


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()
    for number in range(20):
        write(tmp_path / f"{number}.csv", readings(2))
        with pytest.raises(OutputExistsError):
            write(tmp_path / f"{number}.csv", readings(2))
    assert (sum(1 for _ in Path("/proc/self/fd").iterdir()), threading.active_count()) == before


# The recorder


def record(
    path: Path,
    events: Sequence[Event],
    *,
    channels: Sequence[str] | None = None,
    resampler: Resampler | None = None,
    limit: int | None = None,
    sample_period: float | None = None,
) -> RecordingSummary:
    source = FakeSource(CHANNELS, events, sample_period)
    with Recorder(source, path, channels=channels, resampler=resampler, limit=limit) as recorder:
        seen = list(recorder.events())
        assert seen == list(events)[: len(seen)]
        recorder.finish()
    return recorder.summary()


def test_a_summary_of_everything_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    summary = record(path, [*readings(501), Ended()], sample_period=0.01)
    assert (summary.readings, summary.rows) == (501, 501)
    assert summary.channels == CHANNELS
    assert summary.seconds == pytest.approx(5.0)
    assert summary.rate_hz == pytest.approx(100.0)
    assert summary.announced_rate_hz == pytest.approx(100.0)
    assert summary.sequence_complete is True
    assert summary.file == str(path)
    assert summary.size == path.stat().st_size
    assert summary.to_dict()["lost"] == 0


def test_a_gap_breaks_the_sequence_but_not_the_rate(tmp_path: Path) -> None:
    some: list[Event] = [*readings(200)[:50], Gap(100, True, 0.0, 0.0), *readings(200)[150:]]
    summary = record(tmp_path / "run.csv", some)
    assert summary.sequence_complete is False
    assert summary.rate_hz == pytest.approx(100.0)


def test_readings_without_numbers(tmp_path: Path) -> None:
    plain = [reading._replace(sequence_number=None) for reading in readings(101)]
    summary = record(tmp_path / "run.csv", plain)
    assert summary.numbered is False
    assert summary.sequence_complete is None
    assert summary.rate_hz == pytest.approx(100.0)


def test_times_that_do_not_grow_are_counted(tmp_path: Path) -> None:
    at_once = [Reading(EPOCH_2024 + i // 5, (1.0, 2.0), i) for i in range(20)]
    assert record(tmp_path / "run.csv", at_once).repeated_times == 16
    assert record(tmp_path / "even.csv", readings(20)).repeated_times == 0
    apart = [Reading(EPOCH_2024 + i * 1e-6, (1.0, 2.0)) for i in range(20)]
    assert record(tmp_path / "apart.csv", apart).repeated_times == 19


@pytest.mark.parametrize("count", [1, 2])
def test_short_recordings(tmp_path: Path, count: int) -> None:
    summary = record(tmp_path / "run.csv", readings(count))
    assert summary.readings == count
    assert (summary.rate_hz is None) == (count == 1)


def test_nothing_leaves_no_file(tmp_path: Path) -> None:
    nan = Reading(EPOCH_2024, (math.nan, 0.0))
    cases: list[list[Event]] = [[], [nan, Ended()]]
    for events in cases:
        source = FakeSource(CHANNELS, events)
        with Recorder(source, tmp_path / "run.csv") as recorder:
            assert len(list(recorder.events())) == len(events)
            assert not recorder.finish()
        assert recorder.summary().file is None
        assert list(tmp_path.iterdir()) == []


def test_channels_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    record(path, readings(5), channels=["level", "flow"])
    assert read_recording(path).channels == ("level", "flow")
    assert read_recording(path).values[3].tolist() == list(readings(5)[3].values[::-1])
    record(tmp_path / "one.csv", readings(5), channels=["level"])
    assert read_recording(tmp_path / "one.csv").values[:, 0].tolist() == [
        reading.values[1] for reading in readings(5)
    ]
    with pytest.raises(ConfigurationError, match="no channel 'depth'; there are flow, level"):
        record(tmp_path / "two.csv", readings(5), channels=["depth"])
    assert not part_path(tmp_path / "two.csv").exists()


def test_no_more_readings_than_asked_for(tmp_path: Path) -> None:
    source = FakeSource(CHANNELS, iter(readings(100)))
    with Recorder(source, tmp_path / "run.csv", limit=7) as recorder:
        assert len(list(recorder.events())) == 7
        assert recorder.is_full
        recorder.finish()
    assert recorder.summary().rows == 7


def test_resampled_readings_are_on_the_grid(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    summary = record(path, readings(1000), resampler=Resampler(0.1))
    recording = read_recording(path)
    assert summary.readings == 1000
    assert summary.rows == len(recording)
    assert len(recording) == 101  # from 0 to 10 s, and so half of the last one, too
    steps = np.round(np.diff(recording.timestamps), 6)
    assert set(steps.tolist()) == {0.1}


def test_what_the_device_lost_is_counted_from_the_beginning_of_the_recording(
    tmp_path: Path,
) -> None:
    events: list[Event] = [
        Statistics(1000, 50, 7, 0),  # before, as far as is known
        *readings(10),
        Statistics(1200, 53, 7, 0),
        Restarted(),
        Statistics(20, 1, 4, 0),
    ]
    summary = record(tmp_path / "run.csv", events)
    assert (summary.dropped_by_device, summary.missed_by_device) == (4, 4)


def test_a_lost_source_leaves_what_came(tmp_path: Path) -> None:
    def events() -> Iterator[Event]:
        yield from readings(20)
        raise SourceError("Lost it.")

    path = tmp_path / "run.csv"
    with Recorder(FakeSource(CHANNELS, events()), path) as recorder:
        with pytest.raises(SourceError):
            list(recorder.events())
        assert recorder.finish()
    assert len(read_recording(path)) == 20


def test_a_minute_of_readings_takes_no_memory(tmp_path: Path) -> None:
    """Rows leave for the disk; only those of the last moment wait."""
    path = tmp_path / "run.csv"
    with RecordingFile(path, CHANNELS, flush_interval=0.001) as file:
        for reading in readings(50_000):
            file.append(reading)
        deadline = time.monotonic() + 30
        while file._pending:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        file.finish()
    assert re.fullmatch(r"timestamp,flow,level\n(2024-.*\n){50000}", path.read_text())
