"""`Intake`: from a device's readings to those that a sensor's model needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Manifest
from edgelstm.reading import Reading
from edgelstm_bridge.rate import RateMismatch, RateMonitor
from edgelstm_bridge.resampling import Resampler

if TYPE_CHECKING:
    from edgelstm.configuration.settings import Rate

log = logging.getLogger(__name__)


class Intake:
    """Picks the model's channels out of a device's readings, and minds their rate.

    Args:
        manifest: of the model.
        device: names of the device's channels.
        announced: seconds between two readings as the device says it; None when it does not.
        rate: what becomes of another rate than the model's: "refuse"; "any" goes on with a
            warning; "resample" puts the readings onto the model's; "set" is as "refuse", but what
            the device had announced does not count.
        names: what the device calls a channel of the model, where it is another name.
        warn: takes a warning.

    Raises:
        ConfigurationError: the device lacks a channel, or says that its rate is another.
    """

    def __init__(
        self,
        manifest: Manifest,
        device: Sequence[str],
        announced: float | None,
        *,
        rate: Rate = "refuse",
        names: Mapping[str, str] | None = None,
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._order = channel_order(manifest, device, names)
        self._tolerate, self._warn = rate == "any", warn
        self._resampler = None
        self._monitor = None
        if rate == "resample":
            self._resampler = Resampler(manifest.sample_period)
            return
        self._monitor = RateMonitor(manifest.sample_period)
        if rate != "set" and announced:
            mismatch = self._monitor.compare(announced)
            if mismatch is not None:
                self._mind(mismatch)

    def take(self, reading: Reading) -> Sequence[Reading]:
        """The readings for the model that this one brings about: itself, or resampled ones.

        Raises:
            ConfigurationError: they come at another rate.
        """
        order = self._order
        if order is not None:
            values = reading.values
            reading = reading._replace(values=tuple([values[i] for i in order]))
        if self._monitor is None:
            assert self._resampler is not None  # noqa: S101 - it is one or the other
            return self._resampler.push(reading)
        mismatch = self._monitor.update(reading)
        if mismatch is not None:
            self._mind(mismatch)
        return (reading,)

    def flush(self) -> Sequence[Reading]:
        """What is still held back when no more comes."""
        return () if self._resampler is None else self._resampler.flush()

    def take_all(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """What `take` makes of readings, to the last.

        Raises:
            ConfigurationError: they come at another rate.
        """
        for reading in readings:
            yield from self.take(reading)
        yield from self.flush()

    def _mind(self, mismatch: RateMismatch) -> None:
        if not self._tolerate:
            raise ConfigurationError(str(mismatch))
        self._warn(str(mismatch))


def channel_order(
    manifest: Manifest, device: Sequence[str], names: Mapping[str, str] | None = None
) -> list[int] | None:
    """Where the model's channels are among the device's; None when they are the same.

    Args:
        manifest: of the model.
        device: names of the device's channels.
        names: what the device calls a channel of the model, where it is another name.

    Raises:
        ConfigurationError: the device lacks a channel, or the model has none of a name.
    """
    names = dict(names or {})
    model = [channel.name for channel in manifest.channels]
    if strangers := [name for name in names if name not in model]:
        raise ConfigurationError(
            f"The configuration says what the device calls {', '.join(strangers)}, but the model "
            f"has the channels {', '.join(model)}."
        )
    wanted = [names.get(name, name) for name in model]
    if missing := [name for name in wanted if name not in device]:
        raise ConfigurationError(
            f"The device has the channels {', '.join(device)}, but the model also needs "
            f"{', '.join(missing)}: this model was made for another device."
        )
    if wanted == list(device):
        return None
    return [list(device).index(name) for name in wanted]
