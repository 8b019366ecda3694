from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from edgelstm.commands.evaluation_lines import format_report
from edgelstm.evaluation.judging import DETECTOR, Figures, Series, Track, judge
from edgelstm.evaluation.labels import Labels, Window, all_normal, from_column, from_windows
from edgelstm.evaluation.report import SCHEMA, make_report

ROWS = 100
TIMES = np.arange(ROWS, dtype=np.float64) * 864 + 1e9  # 100 rows a day


def truth() -> Labels:
    column = np.zeros(ROWS)
    column[30:40] = column[70:80] = 1
    return from_column(column, "x")


def track(*spans: tuple[int, int]) -> Track:
    alarm = np.zeros(ROWS, bool)
    for start, stop in spans:
        alarm[start:stop] = True
    return Track(alarm, None, np.where(alarm, 5.0, 1.0))


def series(
    *spans: tuple[int, int], labels: Labels | None = None, from_row: int = 0, name: str = "pump.csv"
) -> Series:
    return Series(name, TIMES, labels or truth(), 864.0, {DETECTOR: track(*spans)}, from_row)


def test_figures_of_a_detector_by_hand() -> None:
    figures = judge([series((5, 7), (32, 42), (90, 91))], draws=10)[DETECTOR]
    assert (figures.events, figures.found, figures.alerts, figures.false_alarms) == (2, 1, 3, 2)
    assert figures.precision == pytest.approx(1 / 3)
    assert figures.recall == 0.5
    assert figures.event_f1 == pytest.approx(0.4)
    assert figures.delay_s == 2 * 864
    assert figures.delay_readings == 2
    assert figures.false_alarms_per_day == pytest.approx(2 / 0.8)
    assert figures.false_alarm_rate == pytest.approx(100 * 5 / 80)
    assert figures.missed_alarm_rate == pytest.approx(60)
    assert figures.j == pytest.approx(100 - 6.25 - 60)
    assert figures.point_f1 == pytest.approx(8 / (8 + (12 + 5) / 2))
    assert figures.point_adjusted_f1 == pytest.approx(10 / (10 + (10 + 5) / 2))


def test_perfect_alerts_and_scores() -> None:
    figures = judge([series((30, 40), (70, 80))], buffer=0, draws=10)[DETECTOR]
    assert figures.precision == figures.recall == figures.event_f1 == figures.point_f1 == 1
    assert figures.vus_pr == figures.auc_pr == figures.auc_roc == 1
    assert figures.j == 100
    assert figures.false_alarm_rate == figures.missed_alarm_rate == figures.delay_s == 0


def test_floors_stand_beside_in_this_order() -> None:
    one = series((32, 42))
    one.alerts["ridge"] = one.alerts[DETECTOR]
    assert list(judge([one], draws=10)) == [DETECTOR, "ridge", "random", "clock", "always_on"]


def test_floors_know_nothing() -> None:
    figures = judge([series((5, 7), (32, 42), (90, 93))], draws=400)
    assert figures["always_on"].j == 0
    assert figures["always_on"].found == 0
    assert figures["always_on"].already_open == 2
    assert figures["clock"].j == pytest.approx(100 - 100 * 60 / 80)
    random = figures["random"]
    assert random.j == pytest.approx(0, abs=5)
    assert random.false_alarm_rate == pytest.approx(15, abs=2)  # 15 of 100 rows in alarm
    assert random.alerts == 3
    assert random.auc_roc == pytest.approx(0.5, abs=0.15)


def test_same_seed_same_floors() -> None:
    first = judge([series((5, 7), (32, 42))], draws=30)
    assert judge([series((5, 7), (32, 42))], draws=30) == first
    assert judge([series((5, 7), (32, 42))], draws=30, seed=1)["random"] != first["random"]


def test_rows_before_the_first_that_counts_are_left_out() -> None:
    figures = judge([series((5, 7), (37, 42), from_row=35)], draws=10)[DETECTOR]
    assert (figures.alerts, figures.found, figures.events) == (1, 1, 2)
    assert figures.delay_readings == 2  # from row 35 on
    assert figures.false_alarm_rate == pytest.approx(100 * 2 / 50)


@pytest.mark.parametrize("said", [True, False])
def test_alert_from_before_the_first_row_that_counts(said: bool) -> None:
    onsets = np.zeros(ROWS, bool)
    onsets[[5, 32]] = True
    given = replace(track((5, 7), (32, 42)), onsets=onsets if said else None)
    one = Series("x", TIMES, truth(), 864.0, {DETECTOR: given}, 35)
    figures = judge([one], draws=10)[DETECTOR]
    assert (figures.alerts, figures.found, figures.already_open) == (0, 0, 1)
    assert figures.missed_alarm_rate == pytest.approx(100 * 10 / 15)


def test_rows_without_a_label_are_left_out() -> None:
    column = truth().anomalous.astype(float)
    column[:10] = np.nan
    figures = judge([series((5, 7), (32, 42), labels=from_column(column, "x"))], draws=10)
    assert figures[DETECTOR].false_alarms == 0
    assert figures[DETECTOR].false_alarm_rate == pytest.approx(100 * 2 / 70)


def test_alert_that_opened_in_a_row_without_a_label_is_none() -> None:
    column = truth().anomalous.astype(float)
    column[30:34] = column[88:91] = np.nan
    labels = from_column(column, "x")
    figures = judge([series((32, 42), (90, 95), labels=labels)], draws=10)[DETECTOR]
    assert (figures.alerts, figures.false_alarms) == (0, 0)
    assert (figures.found, figures.already_open) == (0, 1)
    assert figures.false_alarm_rate == pytest.approx(100 * (2 + 4) / 77)


def test_several_series_are_summed() -> None:
    both = [series((5, 7), (32, 42)), series((71, 75), labels=truth())]
    figures = judge(both, draws=10)[DETECTOR]
    assert (figures.events, figures.found, figures.false_alarms) == (4, 2, 1)
    assert figures.false_alarm_rate == pytest.approx(100 * 4 / 160)


def test_areas_are_the_mean_over_series_with_events() -> None:
    normal = series((5, 7), labels=all_normal(ROWS))
    perfect, blind = series((30, 40), (70, 80)), series()
    figures = judge([normal, perfect, blind], buffer=0, draws=10)[DETECTOR]
    assert figures.auc_pr == pytest.approx((1 + 0.2) / 2)
    assert figures.auc_roc == pytest.approx((1 + 0.5) / 2)


def test_nothing_labelled() -> None:
    figures = judge([series((5, 7), labels=all_normal(ROWS))], draws=10)[DETECTOR]
    assert figures.recall is figures.event_f1 is figures.j is figures.vus_pr is None
    assert figures.false_alarms == 1
    assert figures.precision == 0


def test_scores_without_alerts() -> None:
    one = Series("x", TIMES, truth(), 864.0, {DETECTOR: replace(track((32, 42)), alarm=None)})
    figures = judge([one], buffer=0, draws=10)
    assert figures[DETECTOR].found is None
    assert figures[DETECTOR].auc_roc is not None
    assert figures["random"].found is None
    assert figures["random"].auc_pr is not None
    text = "\n".join(format_report(make_report([one], draws=10)))
    assert "AUC-ROC" in text


def test_lead_counts_everywhere() -> None:
    early = series((28, 42), (70, 71))
    assert judge([early], draws=5)[DETECTOR].found == 1
    report = make_report([early], lead=2 * 864.0, draws=5)
    assert report.methods[DETECTOR].found == 2
    assert report.files[0].events[0].delay_s == -2 * 864
    assert report.files[0].false_alarms == ()


# What is told


def test_report_of_events() -> None:
    windows = [Window(TIMES[30], TIMES[39], TIMES[35]), Window(TIMES[70], TIMES[79])]
    report = make_report(
        [series((33, 42), (68, 90), labels=from_windows(TIMES, windows, "x"))], draws=5
    )
    found, missed = report.files[0].events
    assert found.alert == TIMES[33]
    assert (found.delay_s, found.delay_readings) == (3 * 864, 3)
    assert found.after_time_s == -2 * 864
    assert missed.alert is None
    assert missed.already_open
    assert report.files[0].false_alarms == (TIMES[68],)
    lines = "\n".join(format_report(report))
    assert "found 43 min after its start (3 readings), 29 min before it happened" in lines
    assert "not found: an alert was open already" in lines


def test_json_has_all_figures_and_no_point_adjustment_unless_asked() -> None:
    one = series((5, 7), (32, 42))
    report = json.loads(make_report([one], budget_per_day=0.5, draws=5).to_json())
    assert report["schema"] == SCHEMA
    assert set(report) == {
        *("schema", "files", "methods", "budget_per_day", "lead_s", "buffer", "remarks"),
    }
    fields = set(vars(Figures())) - {"point_adjusted_f1"}
    assert set(report["methods"]) == {DETECTOR, "random", "clock", "always_on"}
    assert all(set(figures) == fields for figures in report["methods"].values())
    assert set(report["files"][0]["figures"]) == fields
    assert report["buffer"] == 10  # the median event is shorter than 100
    asked = json.loads(make_report([one], point_adjusted=True, draws=5).to_json())
    assert "point_adjusted_f1" in asked["methods"]["random"]


def test_table_says_what_flatters_only_when_asked_and_with_randoms_figure() -> None:
    one = series((5, 7), (32, 42), (75, 76))
    plain = "\n".join(format_report(make_report([one], draws=5)))
    assert "adjusted" not in plain
    report = make_report([one], draws=50, point_adjusted=True)
    lines = "\n".join(format_report(report))
    random = report.methods["random"].point_adjusted_f1
    assert f"(point-adjusted: flatters, random gets {random:.2f})" in lines


def test_table_has_a_column_for_each_floor_and_the_budget() -> None:
    report = make_report([series((5, 7), (32, 42))], budget_per_day=1 / 7, draws=5)
    lines = list(format_report(report))
    assert lines[0] == "pump.csv: 100 readings judged, 2 labelled events (20.0% of the rows)."
    assert lines[2].split() == ["detector", "random", "clock", "always", "on"]
    assert any(line.startswith("False alarm rate") and " 5.0 %" in line for line in lines)
    assert any("one false alarm in 7 days" in line for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(("count", "lines"), [(20, 20), (21, 0)])
def test_each_file_has_a_line_up_to_twenty(count: int, lines: int) -> None:
    report = make_report(
        [series((32, 42), name=f"{k}.csv") for k in range(count)], draws=2, buffer=0
    )
    told = list(format_report(report))
    assert told[0].startswith(f"{count} recordings: {count * 100:,} readings")
    assert sum(line.partition(" ")[0].endswith(".csv") for line in told) == lines
