"""`Faults`: what goes wrong on a virtual device, and the noise on its line. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Self

from edgelstm.errors import ConfigurationError

_EXAMPLE = "drop=0.2%,garble=2000ppm,hang=500:3,restart=1000,unplug=2000:1,lose=10,damage=7,seed=1"


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on purpose. *Every N readings* counts those that have left the device.

    Attributes:
        drop: share of the bytes to the host that are lost on the line, from 0 to below 1.
        garble: share of the bytes to the host in which one bit is flipped, from 0 to below 1.
        lose: every Nth sample frame is lost as a whole; 0 for none, as below.
        damage: one bit is flipped in every Nth sample frame, so that its CRC is wrong.
        hang: every N readings the device neither sends, samples nor hears.
        hang_seconds: how long that takes.
        restart: every N readings the device boots anew.
        unplug: every N readings the port goes away, once its reader has taken everything.
        unplug_seconds: after which time a new port is there.
        seed: makes the noise and the boot_ids the same every time; None for others each time.

    Raises:
        ConfigurationError: a number is out of its range.
    """

    drop: float = 0.0
    garble: float = 0.0
    lose: int = 0
    damage: int = 0
    hang: int = 0
    hang_seconds: float = 3.0
    restart: int = 0
    unplug: int = 0
    unplug_seconds: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("drop", "garble"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(
                    f"The fault {name} is a share of the bytes from 0 to below 100%, "
                    f"not {getattr(self, name):g}."
                )
        for name in ("lose", "damage", "hang", "restart", "unplug"):
            if getattr(self, name) < 0:
                raise ConfigurationError(
                    f"The fault {name} comes every N readings: N cannot be {getattr(self, name)}."
                )
        for name in ("hang", "unplug"):
            seconds = getattr(self, f"{name}_seconds")
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ConfigurationError(
                    f"The fault {name} lasts a time above 0 seconds, not {seconds:g}."
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the faults of a text such as `drop=0.2%,hang=500:3,seed=1`.

        Shares are written as 0.002, 0.2% or 2000ppm; hang and unplug as N or N:SECONDS.

        Raises:
            ConfigurationError: the text names no fault, or a number makes no sense.
        """
        settings: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if name not in _PARSERS or not equals:
                raise ConfigurationError(
                    f"{part.strip()!r} is no fault; write them as in {_EXAMPLE}."
                )
            if name in settings:
                raise ConfigurationError(f"The fault {name} is given twice.")
            try:
                settings |= _PARSERS[name](name, value)
            except ValueError as error:
                raise ConfigurationError(
                    f"{value!r} makes no sense for the fault {name}; write them as in {_EXAMPLE}."
                ) from error
        return cls(**settings)

    def until_next(self, sent: int) -> int | None:
        """Returns how many readings may still leave before a fault comes; None for no limit."""
        periods = [period for period in (self.hang, self.restart, self.unplug) if period]
        return min((period - sent % period for period in periods), default=None)


def _parse_share(name: str, text: str) -> dict[str, float]:
    for unit, factor in (("%", 100), ("ppm", 1_000_000)):
        if text.endswith(unit):
            return {name: float(text.removesuffix(unit)) / factor}
    return {name: float(text)}


def _parse_period(name: str, text: str) -> dict[str, int]:
    period = int(text)
    if period < 1:
        raise ValueError(text)
    return {name: period}


def _parse_period_and_time(name: str, text: str) -> dict[str, float]:
    period, colon, seconds = text.partition(":")
    settings: dict[str, float] = dict(_parse_period(name, period))
    if colon:
        settings[f"{name}_seconds"] = float(seconds)
    return settings


def _parse_seed(name: str, text: str) -> dict[str, int]:
    return {name: int(text)}


_PARSERS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "drop": _parse_share,
    "garble": _parse_share,
    "lose": _parse_period,
    "damage": _parse_period,
    "hang": _parse_period_and_time,
    "restart": _parse_period,
    "unplug": _parse_period_and_time,
    "seed": _parse_seed,
}


class LineNoise:
    """Loses and garbles bytes of a line at random, and says which frames that hits.

    Args:
        faults: how many.
        random: where the chance comes from.
    """

    def __init__(self, faults: Faults, random: Random) -> None:
        self.silent = not (faults.drop or faults.garble)
        self._random = random
        self._drops = _Hits(faults.drop, random)
        self._garbles = _Hits(faults.garble, random)
        self._joined = False

    def apply(self, frame: bytes) -> tuple[bytes, bool]:
        """Returns what of a frame, with the delimiter at its end, comes out of the line.

        And whether the frame is hit: it is also when it runs into the one before it, whose
        delimiter was hit.
        """
        if not frame:
            return frame, False
        size = len(frame)
        drops, garbles = self._drops.within(size), self._garbles.within(size)
        hit = bool(drops or garbles or self._joined)
        self._joined = size - 1 in drops or size - 1 in garbles
        if drops or garbles:
            damaged = bytearray(frame)
            for position in garbles:
                damaged[position] ^= 1 << self._random.randrange(8)
            for position in reversed(drops):
                del damaged[position]
            frame = bytes(damaged)
        return frame, hit

    def cut(self) -> None:
        """The line was cut: nothing runs into what comes next."""
        self._joined = False


class _Hits:
    """The places in an endless run of bytes that chance hits, each with the same probability."""

    def __init__(self, share: float, random: Random) -> None:
        self._random = random
        self._log_miss = math.log1p(-share)
        self._next = self._draw()

    def within(self, size: int) -> list[int]:
        """Returns the places in the next `size` bytes, in order."""
        places = []
        while self._next < size:
            places.append(int(self._next))
            self._next += 1 + self._draw()
        self._next -= size
        return places

    def _draw(self) -> float:
        """How many bytes are missed before the next hit: a geometric distribution."""
        if not self._log_miss:
            return math.inf
        return math.floor(math.log1p(-self._random.random()) / self._log_miss)
