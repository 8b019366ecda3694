from __future__ import annotations

from edgelstm.alert import Alert, AlertEvent, AlertRule


def feed(rule: AlertRule, scores: str) -> list[tuple[int, AlertEvent, Alert]]:
    """Feeds one digit per reading, 5 and more exceed; gives the events with their readings."""
    events = []
    for i, digit in enumerate(scores):
        if happened := rule.update(100.0 + i, float(digit), digit >= "5"):
            events.append((i, *happened))
    return events


def test_no_alert_without_an_exceeded_threshold() -> None:
    rule = AlertRule(quiet=3)
    assert feed(rule, "0123443210") == []
    assert rule.open is None
    assert rule.opened == 0


def test_alert_opens_once_and_closes_once() -> None:
    rule = AlertRule(quiet=3)
    opened, closed = feed(rule, "00567751000000")
    assert opened == (2, AlertEvent.OPENED, Alert(1, opened=102, peak_score=5))
    assert closed == (9, AlertEvent.CLOSED, Alert(1, opened=102, peak_score=7, closed=109))


def test_alert_stays_open_when_the_quiet_is_too_short() -> None:
    rule = AlertRule(quiet=3)
    assert [i for i, *_ in feed(rule, "5005005005000")] == [0, 12]


def test_quiet_of_one_closes_at_once() -> None:
    assert [i for i, *_ in feed(AlertRule(quiet=1), "505000")] == [0, 1, 2, 3]


def test_default_quiet_is_twenty_readings() -> None:
    assert [i for i, *_ in feed(AlertRule(), "5" + "0" * 25)] == [0, 20]


def test_alerts_are_numbered_from_one() -> None:
    rule = AlertRule(quiet=2)
    events = feed(rule, "5008005")
    assert [(i, event, alert.number) for i, event, alert in events] == [
        (0, AlertEvent.OPENED, 1),
        (2, AlertEvent.CLOSED, 1),
        (3, AlertEvent.OPENED, 2),
        (5, AlertEvent.CLOSED, 2),
        (6, AlertEvent.OPENED, 3),
    ]
    assert rule.opened == 3


def test_peak_is_the_highest_score_of_its_own_alert() -> None:
    rule = AlertRule(quiet=2)
    events = feed(rule, "5900600")
    assert [alert.peak_score for _, event, alert in events if event is AlertEvent.CLOSED] == [9, 6]


def test_open_alert_can_be_looked_at() -> None:
    rule = AlertRule(quiet=2)
    feed(rule, "57")
    assert rule.open == Alert(1, opened=100, peak_score=7)
    feed(rule, "00")
    assert rule.open is None


def test_alert_that_was_handed_out_does_not_change() -> None:
    rule = AlertRule(quiet=2)
    (_, _, alert), *_ = feed(rule, "59")
    assert alert.peak_score == 5
