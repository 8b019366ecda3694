from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelstm.alert import (
    Alert,
    AlertChange,
    AlertEvent,
    AlertKind,
    AlertPolicy,
    AlertRule,
    Channels,
    ChannelShare,
    RuleState,
    Severity,
)
from edgelstm.errors import ConfigurationError, StateError
from edgelstm.threshold import Judgement

OPENED, UPDATED, CLOSED = AlertEvent.OPENED, AlertEvent.UPDATED, AlertEvent.CLOSED
ESCALATED = AlertEvent.ESCALATED


def feed(rule: AlertRule, scores: str, start: float = 100) -> list[tuple[int, AlertChange]]:
    """Feeds one digit per second: 5 and more exceed, 3 and less are calm; "|" is a gap.

    Gives the changes with the place of their reading in the text.
    """
    changes = []
    for i, digit in enumerate(scores):
        if digit == "|":
            rule.gap()
            continue
        score = float(digit)
        change = rule.update(start + i, score, Judgement(4.5, score > 4.5, 3.0))
        if change:
            changes.append((i, change))
    return changes


def onsets(rule: AlertRule, scores: str, start: float = 100) -> list[int]:
    return [i for i, change in feed(rule, scores, start) if change.event is OPENED]


def quick(**settings: float) -> AlertRule:
    return AlertRule(AlertPolicy(quiet=3, **settings))  # type: ignore[arg-type]


# Opening and closing


def test_no_alert_without_an_exceeded_threshold() -> None:
    rule = quick()
    assert feed(rule, "0123443210") == []
    assert rule.open is None
    assert rule.opened == 0


def test_alert_opens_once_and_closes_once() -> None:
    opened, closed = feed(quick(), "00567751000000")
    anomaly = Alert(1, AlertKind.ANOMALY, opened=102, peak_score=5, threshold=4.5, peaked=102)
    assert opened == (2, AlertChange(OPENED, anomaly))
    at_the_end = dataclasses.replace(anomaly, peak_score=7, peaked=104, closed=109)
    assert closed == (9, AlertChange(CLOSED, at_the_end))


def test_closed_alert_tells_how_long_it_was() -> None:
    (_, opened), (_, closed) = feed(quick(), "056000")
    assert opened.alert.duration is None
    assert closed.alert.duration == 4
    assert closed.alert.peak_score == 6


def test_alert_stays_open_when_the_quiet_is_too_short() -> None:
    assert [i for i, _ in feed(quick(), "5005005005000")] == [0, 12]


def test_quiet_of_one_closes_at_once() -> None:
    rule = AlertRule(AlertPolicy(quiet=1))
    assert [i for i, _ in feed(rule, "505000")] == [0, 1, 2, 3]


def test_default_quiet_is_ten_readings() -> None:
    assert [i for i, _ in feed(AlertRule(), "5" + "0" * 25)] == [0, 10]


def test_alerts_are_numbered_from_one() -> None:
    rule = quick()
    assert [(i, c.event, c.alert.number) for i, c in feed(rule, "500080005")] == [
        (0, OPENED, 1),
        (3, CLOSED, 1),
        (4, OPENED, 2),
        (7, CLOSED, 2),
        (8, OPENED, 3),
    ]
    assert rule.opened == 3


def test_peak_is_the_highest_score_of_its_own_alert() -> None:
    changes = feed(quick(), "590006000")
    assert [c.alert.peak_score for _, c in changes if c.event is CLOSED] == [9, 6]


def test_open_alert_can_be_looked_at() -> None:
    rule = quick()
    feed(rule, "57")
    assert rule.open == Alert(1, AlertKind.ANOMALY, 100, 7, threshold=4.5, peaked=101)
    feed(rule, "000")
    assert rule.open is None


def test_alert_that_was_handed_out_does_not_change() -> None:
    (_, opened), (_, updated) = feed(quick(), "59")
    assert opened.alert.peak_score == 5
    assert updated.alert.peak_score == 9


# Getting worse


def test_peak_that_has_grown_by_half_is_told() -> None:
    changes = feed(AlertRule(AlertPolicy(quiet=3, critical=9)), "5778577000")
    assert [(i, c.event, c.alert.peak_score) for i, c in changes] == [
        (0, OPENED, 5),
        (3, UPDATED, 8),
        (9, CLOSED, 8),
    ]


def test_peak_must_grow_by_half_of_what_was_told_last() -> None:
    rule = AlertRule(AlertPolicy(critical=1000))
    scores = [10, 14, 15, 22, 22.4, 22.5, 20, 30, 40]
    changes = [rule.update(i, score, Judgement(9, True, 5)) for i, score in enumerate(scores)]
    assert [change.event if change else None for change in changes] == [
        OPENED,
        None,
        UPDATED,
        None,
        None,
        UPDATED,
        None,
        None,
        UPDATED,
    ]
    assert rule.open is not None
    assert rule.open.peaked == 8


def severities(scores: list[float], thresholds: list[float]) -> list[tuple[AlertEvent, Severity]]:
    """What an alert that is critical from three times the threshold tells of itself."""
    rule = AlertRule(AlertPolicy(quiet=1, critical=3))
    changes = [
        rule.update(i, score, Judgement(level, score > level, level))
        for i, (score, level) in enumerate(zip(scores, thresholds, strict=True))
    ]
    return [(change.event, change.alert.severity) for change in changes if change]


def test_alert_is_critical_from_a_multiple_of_the_threshold_on() -> None:
    assert severities([29.9], [10]) == [(OPENED, Severity.WARNING)]
    assert severities([30], [10]) == [(OPENED, Severity.CRITICAL)]


def test_alert_that_becomes_critical_is_told() -> None:
    # 30 is less than one and a half times 25
    assert severities([25, 29, 30, 35], [10] * 4) == [
        (OPENED, Severity.WARNING),
        (ESCALATED, Severity.CRITICAL),
    ]


def test_severity_never_falls() -> None:
    assert severities([30, 12, 31, 50, 2], [10, 10, 20, 20, 10]) == [
        (OPENED, Severity.CRITICAL),
        (UPDATED, Severity.CRITICAL),
        (CLOSED, Severity.CRITICAL),
    ]


def test_threshold_that_falls_makes_a_peak_critical_for_good() -> None:
    assert severities([25, 26, 27], [10, 8, 10]) == [
        (OPENED, Severity.WARNING),
        (ESCALATED, Severity.CRITICAL),
    ]


def test_slow_climb_that_lifts_the_threshold_becomes_critical() -> None:
    assert severities([12, 17, 24, 31], [10, 12, 14, 16]) == [
        (OPENED, Severity.WARNING),
        (UPDATED, Severity.WARNING),
        (ESCALATED, Severity.CRITICAL),
    ]


SCORE = st.floats(0, 60)
LEVEL = st.floats(1, 20)


@given(st.lists(st.tuples(SCORE, LEVEL), max_size=60), st.floats(1, 4), st.integers(1, 3))
def test_whatever_comes_each_alert_opens_gets_worse_and_closes(
    rows: list[tuple[float, float]], critical: float, quiet: int
) -> None:
    rule = AlertRule(AlertPolicy(critical=critical, quiet=quiet))
    told: Alert | None = None
    for i, (score, level) in enumerate(rows):
        change = rule.update(i, score, Judgement(level, score > level, level / 2))
        if change is None:
            continue
        event, alert = change
        if event is OPENED:
            assert told is None
            assert (alert.opened, alert.peaked, alert.peak_score, alert.threshold) == (
                i,
                i,
                score,
                level,
            )
            told = alert
            continue
        assert told is not None
        assert (alert.number, alert.opened, alert.threshold) == (
            told.number,
            told.opened,
            told.threshold,
        )
        assert alert.peak_score == max(each for each, _ in rows[int(alert.opened) : i + 1])
        risen = (told.severity, alert.severity) == (Severity.WARNING, Severity.CRITICAL)
        assert risen or alert.severity is told.severity
        if event is UPDATED:
            assert told.peak_score is not None
            assert risen or score >= 1.5 * told.peak_score
            assert alert.peaked == i
        told = None if event is CLOSED else alert
    assert (rule.open is None) == (told is None)


def test_alert_keeps_the_threshold_at_which_it_opened() -> None:
    rule = AlertRule()
    rule.update(0, 9, Judgement(5, True, 5))
    change = rule.update(1, 15, Judgement(6, True, 5))
    assert change is not None
    assert change.event is ESCALATED
    assert change.alert.threshold == 5


# Hysteresis


def test_score_between_release_and_threshold_is_not_calm() -> None:
    assert [i for i, _ in feed(quick(), "5444444004000")] == [0, 12]


def test_release_can_be_a_share_of_the_threshold() -> None:
    # 0.9 of 4.5: 4 is calm, though the threshold's own release is 3
    assert [i for i, _ in feed(quick(release=0.9), "5444")] == [0, 3]
    assert [i for i, _ in feed(quick(release=0.4), "5222111")] == [0, 6]


def test_score_that_exceeds_is_never_calm() -> None:
    rule = quick()
    for second in range(10):  # the level is below its own release: a threshold that is wrong
        rule.update(second, 2.0, Judgement(1.0, True, 3.0))
    assert rule.open is not None
    assert rule.opened == 1


# k of n


def test_alert_opens_when_k_of_the_last_n_exceed() -> None:
    assert onsets(quick(k=2, n=3), "0050050500") == [7]
    assert onsets(quick(k=3, n=3), "0055055500") == [7]


def test_nothing_opens_before_there_are_n_scores() -> None:
    assert onsets(quick(k=2, n=4), "55550") == [3]


def test_reading_that_opens_an_alert_exceeds_itself() -> None:
    assert onsets(quick(k=2, n=4), "55000") == []


# Duration


def test_alert_opens_after_the_minimum_duration() -> None:
    assert onsets(quick(minimum_duration=3), "0555550") == [4]


def test_duration_begins_with_the_first_exceedance_that_no_calm_followed() -> None:
    # 4 is neither calm nor exceeding
    assert onsets(quick(minimum_duration=4), "05444500") == [5]
    assert onsets(quick(minimum_duration=4), "0500055555") == [9]


def test_duration_does_not_count_a_gap() -> None:
    # without the gap from 2 to 4 the three seconds are over at 6
    assert onsets(quick(minimum_duration=3), "055|555") == [6]


def test_clock_that_steps_back_does_not_put_an_alert_off() -> None:
    rule = quick(minimum_duration=3)
    assert onsets(rule, "55", start=10_000) == []
    assert onsets(rule, "5555") == [2]


# Cool-down


def test_no_alert_opens_in_the_cool_down() -> None:
    # closes at 4, so that none opens before 14
    assert [i for i, _ in feed(quick(cool_down=10), "0500005000000000050")] == [1, 4, 17]


def test_what_still_exceeds_after_the_cool_down_opens_then() -> None:
    assert onsets(quick(cool_down=10), "0500000555555555555") == [1, 14]


def test_clock_that_steps_back_does_not_lengthen_the_cool_down() -> None:
    rule = quick(cool_down=10)
    assert onsets(rule, "5000", start=10_000) == [0]
    assert onsets(rule, "005") == [2]


# Gaps


def test_what_exceeded_before_a_gap_does_not_count() -> None:
    assert onsets(quick(k=2, n=2), "05|55") == [4]
    assert onsets(quick(k=2, n=3), "05|50055") == [7]


def test_nothing_opens_after_a_gap_before_there_are_n_scores() -> None:
    assert onsets(quick(k=1, n=3), "000|5055") == [6]


def test_open_alert_stays_open_over_a_gap() -> None:
    assert [i for i, _ in feed(quick(), "500||00")] == [0, 5]


# Channels


def shares(*pairs: tuple[str, float]) -> Channels:
    return tuple(ChannelShare(*pair) for pair in pairs)


def test_alert_names_its_channels_the_largest_share_first() -> None:
    change = AlertRule().update(0, 9, Judgement(5, True, 5), shares(("a", 0.2), ("b", 0.8)))
    assert change is not None
    assert change.alert.channels == shares(("b", 0.8), ("a", 0.2))


def test_channels_are_those_of_the_peak() -> None:
    rule = AlertRule()
    rule.update(0, 9, Judgement(5, True, 5), shares(("a", 1.0)))
    rule.update(1, 8, Judgement(5, True, 5), shares(("b", 1.0)))
    assert rule.open is not None
    assert rule.open.channels == shares(("a", 1.0))
    rule.update(2, 9.5, Judgement(5, True, 5), shares(("c", 1.0)))
    assert rule.open.channels == shares(("c", 1.0))


def test_channels_are_only_asked_for_at_an_opening_and_at_a_peak() -> None:
    rule, asked = AlertRule(), []

    def channels() -> Channels:
        asked.append(score)
        return ()

    for score in (1, 9, 8, 9, 10, 2, 3):
        rule.update(score, score, Judgement(5, score > 5, 5), channels)
    assert asked == [9, 10]


# The state


def test_state_of_a_rule_before_the_first_score_is_empty() -> None:
    assert AlertRule().state == RuleState()


def test_restored_rule_closes_the_same_alert() -> None:
    rule, other = quick(), quick()
    rule.update(5, 9, Judgement(5, True, 5), shares(("b", 0.8), ("a", 0.2)))
    feed(rule, "00")
    other.state = rule.state
    assert other.open == rule.open
    assert feed(other, "0", start=200) == feed(rule, "0", start=200) != []
    assert other.state == rule.state


@pytest.mark.parametrize(
    ("policy", "scores", "changes"),
    [
        (
            AlertPolicy(k=2, n=3, minimum_duration=2, quiet=3, cool_down=6),
            "00|55|55550006500055500555|5555500040000555|5550",
            5,
        ),
        (AlertPolicy(minimum_duration=3, quiet=2), "055||5550005|5|5555|00", 4),
        (AlertPolicy(quiet=3, critical=1.9), "0567789|9000567", 5),
    ],
)
def test_rule_restored_anywhere_goes_on_as_before(
    policy: AlertPolicy, scores: str, changes: int
) -> None:
    whole = AlertRule(policy)
    expected = feed(whole, scores)
    assert len(expected) == changes
    for place in range(len(scores)):
        first, second = AlertRule(policy), AlertRule(policy)
        head = feed(first, scores[:place])
        second.state = first.state
        rest = feed(second, scores[place:], start=100 + place)
        assert head + [(i + place, change) for i, change in rest] == expected
        assert second.state == whole.state


def test_state_goes_on_with_another_policy() -> None:
    before = quick(k=3, n=5)
    feed(before, "55055" + "00")
    for after in (AlertRule(AlertPolicy(quiet=2)), quick(k=1, n=2), quick(k=1, n=9)):
        after.state = before.state
        assert after.open == before.open is not None
        assert [i for i, _ in feed(after, "00")] == [0]
    (strict, lax) = quick(k=2, n=9), quick(k=2, n=2)
    strict.state = lax.state = dataclasses.replace(before.state, open=None)
    assert onsets(lax, "505") == []
    assert onsets(lax, "5") == [0]
    assert onsets(strict, "55555") == [3]


OPEN = Alert(1, AlertKind.ANOMALY, 1.0, 9.0, threshold=5.0, peaked=2.0)


@pytest.mark.parametrize(
    "state",
    [
        None,
        RuleState(history=-1),
        RuleState(fresh=-1),
        RuleState(calm=-1),
        RuleState(since=float("nan")),
        RuleState(opened=-1),
        RuleState(opened=0, open=OPEN),
        RuleState(opened=2, open=OPEN),
        RuleState(opened=1, open=dataclasses.replace(OPEN, kind=AlertKind.SENSOR_FAULT)),
        RuleState(opened=1, open=dataclasses.replace(OPEN, closed=3.0)),
        RuleState(opened=1, open=dataclasses.replace(OPEN, peak_score=float("inf"))),
        RuleState(opened=1, open=dataclasses.replace(OPEN, peak_score=None)),
        RuleState(opened=1, open=dataclasses.replace(OPEN, threshold=None)),
        RuleState(opened=1, open=dataclasses.replace(OPEN, opened=float("inf"))),
        RuleState(opened=1, open=OPEN, told=float("nan")),
    ],
)
def test_wrong_state_is_refused(state: object) -> None:
    with pytest.raises(StateError, match="no state of an alert rule"):
        AlertRule(AlertPolicy(k=2, n=3)).state = state  # type: ignore[assignment]


# The policy


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 3, "n": 2}, "3 of the last 2 scores"),
        ({"k": 0, "n": 2}, "0 of the last 2 scores"),
        ({"k": 1, "n": 10**10}, "over 10,000,000,000 scores; take 100,000"),
        ({"minimum_duration": -1}, "minimum duration of an alert is -1 s"),
        ({"minimum_duration": float("nan")}, "minimum duration of an alert is nan s"),
        ({"cool_down": float("inf")}, "cool-down of an alert is inf s"),
        ({"quiet": 0}, "after 0 calm readings"),
        ({"release": 0}, "release is 0 of the threshold"),
        ({"release": 1.1}, "release is 1.1 of the threshold"),
        ({"release": float("nan")}, "release is nan of the threshold"),
        ({"critical": 0.9}, "from 0.9 times the threshold on"),
        ({"critical": float("nan")}, "from nan times the threshold on"),
    ],
)
def test_policy_that_makes_no_sense_is_refused(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        AlertPolicy(**settings)  # type: ignore[arg-type]
