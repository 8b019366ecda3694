"""`open_source`: readings by a URL, wherever they come from."""

from __future__ import annotations

from pathlib import Path

from edgelstm import parquet
from edgelstm.errors import ConfigurationError
from edgelstm_bridge.auto_receiver import AutoReceiver
from edgelstm_bridge.capture import MAGIC, CaptureReader, CaptureWriter, capturing
from edgelstm_bridge.formats import Format
from edgelstm_bridge.frame_receiver import FrameReceiver
from edgelstm_bridge.link_source import CONNECT_TIMEOUT_S, QUEUE_SIZE, LinkSource
from edgelstm_bridge.links import Link, Opener, make_opener
from edgelstm_bridge.plugins import PluginLink, find_plugin, plugin_schemes
from edgelstm_bridge.receiver import Receiver
from edgelstm_bridge.recording_source import RecordingSource
from edgelstm_bridge.source import Source
from edgelstm_bridge.text_receiver import TextReceiver
from edgelstm_bridge.urls import SCHEMES, SourceUrl, parse_url

_WHOLE = ("stdin", "mqtt", "mqtts")  # a file begins with a line, and a message is one


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
        capture: a file that everything received and sent is written to, with its time. One that
            exists is replaced once the link is open; one in which nothing came is removed again.
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
    receiver = _make_receiver(format, sample_period, whole_start=_begins_with_a_line(parsed))
    opened = _open(parsed)
    if isinstance(opened, Source):
        return opened
    if capture is None:
        return LinkSource(
            opened,
            receiver,
            reconnect=reconnect,
            queue_size=queue_size,
            connect_timeout=connect_timeout,
        )
    first = opened()  # a capture of yesterday is not given up for a port that is not there
    try:
        writer = CaptureWriter(capture, str(parsed))
    except BaseException:
        first.close()
        raise
    try:
        return LinkSource(
            capturing(_beginning_with(first, opened), writer),
            receiver,
            reconnect=reconnect,
            queue_size=queue_size,
            connect_timeout=connect_timeout,
            on_close=writer.close,
        )
    except BaseException:
        writer.close()
        if not writer.has_received and capture.is_file():  # only in the way of the next
            capture.unlink()
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
    first = plugin.open(url, (Link, Source))
    if isinstance(first, Source):
        return first

    def guarded(link: object) -> Link:
        assert isinstance(link, Link)  # noqa: S101 - it is none of the other kind
        return PluginLink(link, plugin)

    return _beginning_with(guarded(first), lambda: guarded(plugin.open(url, (Link,))))


def _beginning_with(first: Link, opener: Opener) -> Opener:
    """Returns an opener whose first link is open already."""
    links = [first]
    return lambda: links.pop() if links else opener()


def _begins_with_a_line(url: SourceUrl) -> bool:
    """Whether what comes first is the beginning of a line, not perhaps the rest of one."""
    scheme = url.scheme
    if scheme == "replay":
        with CaptureReader(Path(url.path)) as capture:
            scheme = str(capture.header.get("url", "")).partition(":")[0].lower()
    return scheme in _WHOLE


def _is_capture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC) - 1) == MAGIC[:-1]
    except OSError:
        return False  # whoever reads it says why
