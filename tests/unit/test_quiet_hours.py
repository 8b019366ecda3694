from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from edgelstm.errors import ConfigurationError
from edgelstm.sinks.quiet import QuietHours

ZONE = "Europe/Berlin"


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "time_text", "quiet"),
    [
        ("22:00-06:00", "2026-01-10 21:59:59", False),
        ("22:00-06:00", "2026-01-10 22:00:00", True),
        ("22:00-06:00", "2026-01-11 00:00:00", True),
        ("22:00-06:00", "2026-01-11 05:59:59", True),
        ("22:00-06:00", "2026-01-11 06:00:00", False),
        ("12:30-14:00", "2026-07-11 12:29:59", False),
        ("12:30-14:00", "2026-07-11 13:59:59", True),
        ("12:30-14:00", "2026-07-11 14:00:00", False),
        ("23:59-00:01", "2026-07-11 00:00:59", True),
        ("00:00-23:59", "2026-07-11 23:59:00", False),
    ],
)
def test_hours_are_those_of_the_clock_on_the_wall(hours: str, time_text: str, quiet: bool) -> None:
    parsed = QuietHours.parse(hours)
    assert parsed is not None
    assert parsed.hold(at(time_text)) is quiet


def test_daylight_saving_moves_no_end() -> None:
    night, hour = QuietHours.parse("22:00-06:00"), QuietHours.parse("02:15-02:45")
    assert night is not None
    assert hour is not None
    for morning in ("2026-03-29", "2026-10-25"):  # nights of 7 and of 9 hours
        assert night.hold(at(f"{morning} 05:59:59"))
        assert not night.hold(at(f"{morning} 06:00:00"))
    assert hour.hold(at("2026-10-25 02:30:00", fold=0))
    assert hour.hold(at("2026-10-25 02:30:00", fold=1))  # the hour that there is twice
    before = at("2026-03-29 01:59:59")
    assert not any(hour.hold(before + seconds) for seconds in range(0, 3600, 60))  # and never


def test_without_hours_nothing_is_quiet() -> None:
    assert QuietHours.parse("") is None


@pytest.mark.parametrize(
    "text", ["22:00", "22-06", "24:00-06:00", "22:60-06:00", "22:00-6:00", "22:00 - 06:00", "night"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not of the form 22:00-06:00"):
        QuietHours.parse(text)


def test_hours_that_end_when_they_begin_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="begin when they end"):
        QuietHours.parse("08:00-08:00")
