"""`open_source`: readings by a URL, wherever they come from."""

from __future__ import annotations

from pathlib import Path

from edgelstm import parquet
from edgelstm.errors import ConfigurationError
from edgelstm_bridge.auto_receiver import AutoReceiver
from edgelstm_bridge.capture import MAGIC, CaptureWriter, capturing
from edgelstm_bridge.formats import Format
from edgelstm_bridge.links import Link, Opener, make_opener
from edgelstm_bridge.plugins import find_plugin, plugin_schemes
from edgelstm_bridge.receiver import FrameReceiver, Receiver
from edgelstm_bridge.recording_source import RecordingSource
from edgelstm_bridge.source import CONNECT_TIMEOUT_S, QUEUE_SIZE, LinkSource, Source
from edgelstm_bridge.text_receiver import TextReceiver
from edgelstm_bridge.urls import SCHEMES, SourceUrl, parse_url

FORMATS = ("auto", "frames", "csv", "label", "json", "keyvalue")
"""What a format may begin with."""


def open_source(
    url: str,
    *,
    baud_rate: int | None = None,
    format: str = "auto",  # noqa: A002 - what the command line calls it
    sample_period: float | None = None,
    reconnect: bool = True,
    capture: Path | None = None,
    queue_size: int = QUEUE_SIZE,
    connect_timeout: float = CONNECT_TIMEOUT_S,
) -> Source:
    """Opens a source of readings.

    ```
    with open_source("/dev/ttyACM0") as source:
        for reading in source:
            print(reading.timestamp, reading.values)
    ```

    Args:
        url: a serial port's path; or `serial:` with a USB device's numbers, `socket:`, `rfc2217:`,
            `stdin:`, `replay:`, `mqtt:` or the scheme of a plug-in.
        baud_rate: of a serial port, where the URL does not say it; 115,200 when nothing does.
        format: `auto` tells it from what comes; `frames` is the frame protocol; anything else is
            a text format as `Format.parse` takes it.
        sample_period: what to ask a device with the frame protocol for, in seconds.
        reconnect: whether a lost link is opened again, for as long as it takes.
        capture: a file that everything received and sent is written to, with its time.
        queue_size: how many events may wait to be taken.
        connect_timeout: how long to wait for the first thing that is understood, in seconds.

    Raises:
        ConfigurationError: the URL or the format makes no sense.
        SourceError: it cannot be opened, or nothing came that could be understood.
        ProtocolError: what came cannot be understood.
    """
    parsed = _parse(url).with_baud_rate(baud_rate)
    if parsed.scheme == "replay" and not _is_capture(Path(parsed.path)):
        if capture is not None:
            raise ConfigurationError(f"{parsed.path} is a recording: there are no bytes to write.")
        return RecordingSource(parquet.read_recording(parsed.path), parsed.speed)
    receiver = _make_receiver(format, sample_period, whole_start=parsed.scheme == "stdin")
    opened = _open(parsed)
    if isinstance(opened, Source):
        return opened
    writer = None if capture is None else CaptureWriter(capture, str(parsed))
    try:
        return LinkSource(
            opened if writer is None else capturing(opened, writer),
            receiver,
            reconnect=reconnect,
            queue_size=queue_size,
            connect_timeout=connect_timeout,
            on_close=None if writer is None else writer.close,
        )
    except BaseException:
        if writer is not None:
            writer.close()
        raise


def _parse(url: str) -> SourceUrl:
    scheme = url.partition(":")[0].lower() if ":" in url else ""
    # What is installed is looked through only for a scheme that is not our own.
    return parse_url(url, () if scheme in ("", *SCHEMES) else plugin_schemes())


def _make_receiver(text: str, sample_period: float | None, *, whole_start: bool) -> Receiver:
    if text == "auto":
        return AutoReceiver(sample_period, whole_start=whole_start)
    if text == "frames":
        return FrameReceiver(sample_period)
    return TextReceiver(Format.parse(text), whole_start=whole_start)


def _open(url: SourceUrl) -> Opener | Source:
    """What opens the links of a URL, or the source that a plug-in makes of it."""
    if url.scheme in SCHEMES:
        return make_opener(url)
    plugin = find_plugin(url.scheme)
    kinds = (Link, Source)
    first = plugin.open(url, kinds)
    if isinstance(first, Source):
        return first
    links = [first]

    def open_link() -> Link:
        link = links.pop() if links else plugin.open(url, kinds)
        assert isinstance(link, Link)  # noqa: S101 - it was one the first time
        return link

    return open_link


def _is_capture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC) - 1) == MAGIC[:-1]
    except OSError:
        return False  # whoever reads it says why
