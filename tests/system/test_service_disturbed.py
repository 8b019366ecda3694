"""One service that goes on while the world around it does not.

Nothing here depends on how fast the machine is: readings and notices are counted, never timed.
`benchmarks/disturbances.py` has what the disturbances cost.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from disturbing import Disturbed
from service_rig import assert_whole, skipped, until

HOUR, DAY = 3600, 86_400


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disturbed]:
    """Of all these tests: it is never started again."""
    with Disturbed(tmp_path_factory.mktemp("disturbed")) as started:
        started.service.until_taken(500)
        yield started


@pytest.fixture
def rig(started: Disturbed) -> Iterator[Disturbed]:
    """Before each test all is well; after it nothing is lost, and no alert is open."""
    health = started.service.health()
    assert health["status"] == "ok", health
    before = started.service.figures()
    yield started
    sent = started.device.pause()
    try:
        figures = started.service.until_taken(sent)
    finally:
        started.device.go_on()
    assert_whole(figures, sent)
    assert figures["edgelstm_scored_total pump"] > before["edgelstm_scored_total pump"]
    assert skipped(figures) == skipped(before)
    assert figures["edgelstm_resets_total pump"] == before["edgelstm_resets_total pump"]
    assert figures["edgelstm_alerts_total pump sensor_fault"] == 0
    assert figures["edgelstm_open_alerts pump"] == 0
    assert figures["edgelstm_outbox_dropped_total"] == 0
    assert started.service.health()["status"] == "ok"


def test_a_disk_that_is_full(rig: Disturbed) -> None:
    rig.fill_disk()
    for _ in range(3):
        rig.alert()
    rig.service.until_problem("disk full")
    until(lambda: faults(rig) == ["opened"], "an alert about the disk")
    rig.alert()
    assert rig.service.figures()["edgelstm_outbox_unsaved"] > 0
    assert len(rig.of_the_pump(rig.late())) < len(rig.of_the_pump(rig.service.notices()))
    rig.free_disk()
    rig.until_no_problem("disk full")
    until(lambda: faults(rig) == ["opened", "closed"], "its end")
    rig.alert()
    rig.until_all_arrived()


@pytest.mark.parametrize("seconds", [-HOUR, DAY])
def test_a_clock_that_jumps(rig: Disturbed, seconds: int) -> None:
    kept = rig.stored()
    rig.hook.fail(1)
    rig.set_clock(seconds)
    rig.alert()  # at once, and again
    rig.alert()
    rig.until_all_arrived()
    rig.hook.fail(1)
    rig.set_clock(0)
    rig.alert()
    rig.until_all_arrived()
    assert rig.stored()[: len(kept)] == kept


def test_a_sink_that_hangs(rig: Disturbed) -> None:
    rig.slow.hang()
    for _ in range(3):
        rig.alert()
    rig.until_all_arrived()
    assert rig.service.figures()["edgelstm_sink_pending slow"] >= 6
    rig.slow.answer()
    rig.until_all_arrived(slow=True)


def test_a_webhook_that_fails_and_then_does_not(rig: Disturbed) -> None:
    failures = rig.hook.failures
    rig.hook.fail(2)
    rig.alert()
    rig.until_all_arrived()
    assert rig.hook.failures == failures + 2
    assert rig.service.figures()["edgelstm_sink_failures_total hook"] == rig.hook.failures


def test_pages_that_never_read(rig: Disturbed) -> None:
    pages = rig.mute_pages(8)
    rig.device.wait_for(2000)
    rig.alert()
    rig.until_all_arrived()
    for page in pages:
        page.close()


def test_all_of_that_at_once(rig: Disturbed) -> None:
    told = len(faults(rig))
    rig.slow.hang()
    rig.hook.fail(2)
    pages = rig.mute_pages(4)
    rig.fill_disk()
    rig.set_clock(DAY)
    for _ in range(3):
        rig.alert()
    rig.service.until_problem("disk full")
    rig.set_clock(-HOUR)
    rig.alert()
    rig.free_disk()
    rig.set_clock(0)
    rig.until_no_problem("disk full")
    rig.until_all_arrived()
    rig.slow.answer()
    rig.until_all_arrived(slow=True)
    until(lambda: faults(rig)[told:] == ["opened", "closed"], "the alert about the disk")
    for page in pages:
        page.close()


def test_it_ends_in_time_while_a_sink_hangs_and_others_get_what_is_due(started: Disturbed) -> None:
    started.slow.hang()
    started.alert()
    started.until_all_arrived()
    stored = started.of_the_pump(started.hook.taken)
    failures = started.hook.failures
    started.hook.fail(1, retry_after=600)
    started.device.misbehave(10**9)
    until(lambda: started.hook.failures > failures, "the alert")
    started.service.stop()
    assert len(started.of_the_pump(started.hook.taken)) == len(stored) + 1


def faults(rig: Disturbed) -> list[str]:
    """What was told about the service itself."""
    notices = {n["id"]: n for n in rig.service.notices() if n["kind"] == "service_fault"}
    return [n["event"] for n in notices.values() if n["reason"] == "disk full"]
