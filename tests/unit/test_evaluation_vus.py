from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelstm.evaluation.labels import Event
from edgelstm.evaluation.vus import Areas, areas, default_buffer, vus_pr, without_gaps

NAN = np.nan


def brute_softened(truth: list[bool], length: int) -> list[float]:
    """The labels as the paper defines them, row by row and event by event."""
    count = len(truth)
    labels = [1.0 if value else 0.0 for value in truth]
    for start in range(count):
        if not truth[start] or (start and truth[start - 1]):
            continue
        end = start
        while end + 1 < count and truth[end + 1]:
            end += 1
        for row in range(count):
            distance = start - row if row < start else row - end
            if distance > 0 and distance <= length // 2 and not start <= row <= end:
                labels[row] += math.sqrt(1 - distance / length)
    return [min(1.0, label) for label in labels]


def brute_range_pr(scores: list[float], truth: list[bool], length: int) -> float:
    labels = brute_softened(truth, length)
    positives = (sum(labels) + sum(truth)) / 2
    events: list[list[int]] = []
    for row, label in enumerate(labels):
        if label > 0 and row and labels[row - 1] > 0:
            events[-1].append(row)
        elif label > 0:
            events.append([row])
    area = last = 0.0
    for threshold in sorted(set(scores), reverse=True):
        alarm = {row for row, score in enumerate(scores) if score >= threshold}
        hits = sum(labels[row] for row in alarm)
        met = sum(any(row in alarm for row in event) for event in events) / len(events)
        recall = min(1.0, hits / positives) * met
        area += (recall - last) * hits / len(alarm)
        last = recall
    return area


def brute_vus_pr(scores: list[float], truth: list[bool], buffer: int) -> float:
    return sum(brute_range_pr(scores, truth, k) for k in range(buffer + 1)) / (buffer + 1)


rows = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({truth for _, truth in rows}) == 2
)


@given(rows, st.integers(0, 12))
@settings(max_examples=60)
def test_vus_pr_is_what_the_formula_says(case: list[tuple[int, bool]], buffer: int) -> None:
    scores, truth = [float(s) for s, _ in case], [t for _, t in case]
    found = vus_pr(scores, truth, buffer)
    assert found == pytest.approx(brute_vus_pr(scores, truth, buffer), abs=1e-12)
    assert 0 <= found <= 1 + 1e-12


def test_small_case_by_hand() -> None:
    # Buffer 2: labels 0, sqrt(1/2), 1, sqrt(1/2), 0; P = (1 + sqrt(2) + 1) / 2.
    root = math.sqrt(0.5)
    p = (1 + 2 * root + 1) / 2
    first = 1 / p  # the highest score is at the event: precision 1
    second = (1 + root) / p  # then the row after it: precision (1 + root) / 2
    with_two = first + (min(1, second) - first) * (1 + root) / 2
    # Then the row before it fills the recall, where there is room: (1 + 2 root) / 3.
    with_two += (1 - min(1, second)) * (1 + 2 * root) / 3
    found = vus_pr([1, 3, 5, 4, 0], [False, False, True, False, False], 2)
    assert found == pytest.approx((1 + 1 + with_two) / 3)  # buffers 0 and 1: a perfect score


def test_areas_by_hand() -> None:
    # From the top: hit, false, hit, false.
    found = areas([4, 3, 2, 1], [True, False, True, False], 0)
    assert found is not None
    assert found.auc_pr == pytest.approx((1 + 2 / 3) / 2)
    assert found.auc_roc == pytest.approx(3 / 4)
    # Without a buffer all that is left is that events count: half of them met by the first hit.
    assert found.vus_pr == pytest.approx(0.25 * 1 + 0.75 * 2 / 3)


def test_perfect_score() -> None:
    truth = np.repeat([False, True, False, True, False], 20)
    assert areas(truth * 1.0, truth, 0) == Areas(1, 1, 1)
    found = areas(truth * 1.0, truth, 20)
    assert found is not None
    assert 0.8 < found.vus_pr < 1  # the buffers ask for a rise


def test_constant_score_gets_the_share_of_anomalous_rows() -> None:
    truth = np.arange(100) < 30
    found = areas(np.zeros(100), truth, 0)
    assert found == pytest.approx((0.3, 0.3, 0.5))


def test_random_score_gets_about_the_share_of_anomalous_rows() -> None:
    truth = np.zeros(5000, bool)
    truth[1000:1500] = truth[3000:3500] = True
    found = areas(np.random.default_rng(3).random(5000), truth, 50)
    assert found is not None
    assert found.auc_pr == pytest.approx(0.2, abs=0.02)
    assert found.auc_roc == pytest.approx(0.5, abs=0.03)
    assert found.vus_pr == pytest.approx(0.2, abs=0.03)


def test_worst_score() -> None:
    truth = np.arange(100) >= 50
    found = areas(-1.0 * truth, truth, 0)
    assert found is not None
    assert found.auc_roc == 0


def test_early_or_late_rise_is_forgiven_within_the_buffer_only() -> None:
    truth = np.zeros(200, bool)
    truth[100:120] = True
    late = np.roll(truth, 5) * 1.0
    assert vus_pr(late, truth, 40) > vus_pr(late, truth, 0) + 0.05


@pytest.mark.parametrize("truth", [[False] * 4, [True] * 4])
def test_no_two_kinds_of_rows_no_area(truth: list[bool]) -> None:
    assert areas([1, 2, 3, 4], truth, 5) is None


@given(rows, st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=15)
def test_only_the_order_of_the_scores_counts(
    case: list[tuple[int, bool]], factor: float, shift: float
) -> None:
    scores, truth = np.array([s for s, _ in case], float), [t for _, t in case]
    assert areas(scores, truth, 4) == areas(np.exp(scores * 0.5) * factor + shift, truth, 4)


def test_buffer_is_never_longer_than_the_events() -> None:
    assert default_buffer([Event(0, 300), Event(400, 900)]) == 100
    assert default_buffer([Event(0, 4), Event(10, 16), Event(20, 920)]) == 6
    assert default_buffer([]) == 100


def test_missing_scores_are_those_before_them() -> None:
    assert without_gaps([NAN, 3, NAN, NAN, 2, 5, NAN]).tolist() == [2, 3, 3, 3, 2, 5, 5]
    assert without_gaps([NAN, NAN]).tolist() == [0, 0]
