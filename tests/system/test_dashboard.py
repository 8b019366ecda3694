"""The page in a real browser."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from browser import Browser, find_chromium

from edgelstm.configuration.settings import DashboardSettings
from edgelstm.dashboard import Dashboard, FakeFeed
from edgelstm.secret import Secret
from edgelstm.verdict_ring import VerdictRing

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="chromium is not installed")

XSS = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 2</script>'
TOKEN = "beside-the-pump"  # noqa: S105

# How many pixels of a plot have the colour of its line.
DRAWN = """(() => {
  const canvas = document.querySelector(%r + " canvas");
  if (!canvas) return 0;
  const style = getComputedStyle(document.documentElement);
  const lines = ["--score", "--observed"].map((name) =>
    [1, 3, 5].map((at) => parseInt(style.getPropertyValue(name).trim().slice(at, at + 2), 16)));
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const near = (at, line) => line.every((part, i) => Math.abs(part - data[at + i]) < 40);
  let drawn = 0;
  for (let at = 0; at < data.length; at += 4) {
    drawn += data[at + 3] > 200 && lines.some((line) => near(at, line));
  }
  return drawn;
})()"""
PICTURE = "document.querySelector('#score-plot canvas').toDataURL()"
STATE = 'document.getElementById("state-text").textContent'
ALERT = 'document.querySelector("#alerts .alert")'
DIALOG = 'document.getElementById("alert")'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture
def feed() -> Iterator[FakeFeed]:
    made = FakeFeed(("pump", "fan", "compressor-in-the-basement-of-hall-2"), history=60)
    made.start()
    yield made
    made.close()


@pytest.fixture
def dashboard(feed: FakeFeed) -> Iterator[Dashboard]:
    started = Dashboard(DashboardSettings(port=0), feed)
    started.start()
    yield started
    started.close()


@pytest.fixture
def page(browser: Browser, dashboard: Dashboard) -> Iterator[Browser]:
    """The page, drawn; at the end it must have logged nothing, and asked nobody else."""
    browser.size(1280, 900)
    browser.colours("light")
    browser.logged.clear()
    browser.asked.clear()
    browser.go(dashboard.url)
    browser.wait_for(f"{DRAWN % '#score-plot'} > 300")
    yield browser
    own = urlsplit(dashboard.url).netloc
    assert {urlsplit(url).netloc for url in browser.asked} == {own}
    assert [line for line in browser.logged if "ERR_CONNECTION_REFUSED" not in line] == []
    browser.go("about:blank")


def test_everything_is_drawn_and_goes_on(page: Browser) -> None:
    for number in range(8):
        holder = f"#channels section:nth-child({number + 1}) .plot"
        page.run(f"document.querySelector({holder!r}).scrollIntoView()")
        page.wait_for(f"{DRAWN % holder} > 200")
    assert page.run("document.querySelectorAll('#channels section').length") == 8
    readout = 'document.querySelector("#channels .now b").textContent'
    before = page.run(readout)
    page.wait_for(f"{readout} !== {before!r}")
    page.run("scrollTo(0, 0)")
    drawn = page.run(PICTURE)
    page.wait_for(f"{PICTURE} !== {drawn!r}", patience=5)  # sooner than an alert draws it anew
    assert "less than 1 s ago" in page.run('document.getElementById("age").textContent')
    label = page.run('document.querySelector("#channels .plot").getAttribute("aria-label")')
    assert re.fullmatch(r"vibration_x: \S+ mm/s, predicted \S+", label)


def test_frames_keep_coming(page: Browser) -> None:
    gaps = page.run(
        """new Promise((done) => {
          const gaps = [];
          let last = performance.now();
          const frame = (now) => {
            gaps.push(now - last);
            last = now;
            if (gaps.length < 120) requestAnimationFrame(frame);
            else done(gaps.sort((a, b) => a - b));
          };
          requestAnimationFrame(frame);
        })"""
    )
    # Only that it never stands still: how fast it is is the machine's business.
    assert gaps[len(gaps) // 2] < 200


def test_other_lengths_of_time_are_chosen_and_kept(page: Browser, dashboard: Dashboard) -> None:
    pressed = "document.querySelector('#windows [aria-pressed=true]').textContent"
    assert page.run(pressed) == "1 min"
    page.run("document.querySelectorAll('#windows button')[1].click()")
    assert page.run(pressed) == "5 min"
    page.go(dashboard.url)
    page.wait_for(f"{DRAWN % '#score-plot'} > 300")
    assert page.run(pressed) == "5 min"
    page.run("document.querySelectorAll('#windows button')[0].click()")


def test_another_sensor_is_chosen(page: Browser) -> None:
    tabs = "document.querySelectorAll('#sensors button')"
    page.wait_for(f"{tabs}[1].textContent === 'fannormal'")
    page.run(f"{tabs}[1].click()")
    assert page.run("document.getElementById('sensor-name').textContent") == "fan"
    page.wait_for(f"{DRAWN % '#score-plot'} > 300")
    assert page.run("location.hash") == "#fan"


def test_it_comes_back_after_the_server_without_a_hole(
    page: Browser, dashboard: Dashboard, feed: FakeFeed
) -> None:
    page.wait_for(f"{STATE} !== 'Connecting'")
    dashboard.close()
    page.wait_for(f"{STATE} === 'No connection'")
    assert page.run("!document.getElementById('banner').hidden")
    page.pause(1.0)
    port = urlsplit(dashboard.url).port
    assert port is not None
    again = Dashboard(DashboardSettings(port=port), feed)
    again.start()
    try:
        page.wait_for(f"{STATE} !== 'No connection'")
        page.wait_for("document.getElementById('banner').hidden")
        page.wait_for("document.getElementById('age').textContent.includes('less than 1 s')")
        holes = page.run(
            """import("/assets/app.js").then(({ page }) => {
              const [times] = page.stores.get("pump").drawn(60);
              return Math.max(...times.slice(1).map((time, at) => time - times[at]));
            })"""
        )
        assert 0 < holes < 0.15
    finally:
        again.close()


def test_after_a_restart_the_page_keeps_what_it_had(page: Browser, feed: FakeFeed) -> None:
    first = """import("/assets/app.js").then(({ page }) => {
      const [times] = page.stores.get("pump").drawn(60);
      return [times[0], times[times.length - 1]];
    })"""
    begin, end = page.run(first)
    machine = feed._machines["pump"]
    machine.ring = VerdictRing(1000)
    page.wait_for(f"({first}).then((span) => span[1] > {end + 2})")
    assert page.run(first)[0] < begin + 10


def test_an_alert_shows_the_readings_around_it(page: Browser) -> None:
    page.wait_for(f"!!{ALERT}")
    page.run(f"{ALERT}.focus()")
    page.run("document.activeElement.click()")
    page.wait_for(f"{DIALOG}.open && {DIALOG}.querySelectorAll('.evidence canvas').length === 9")
    page.wait_for(f"{DRAWN % '#alert .evidence'} > 300")
    assert "bearing_temp" in page.run(f"{DIALOG}.querySelector('.shares').textContent")
    page.run(f"{DIALOG}.querySelector('#alert-close').click()")
    assert not page.run(f"{DIALOG}.open")


def test_an_acknowledgement_reaches_the_service_and_stays_text(
    page: Browser, feed: FakeFeed
) -> None:
    page.wait_for(f"!!{ALERT}")
    chosen = page.run(f"{ALERT}.dataset.alert")
    page.run(f"{ALERT}.click()")
    page.wait_for("!!document.getElementById('seen-by')")
    fill = "document.getElementById('seen-{}').value = {}"
    page.run(fill.format("by", json.dumps("Ada " + XSS)))
    page.run(fill.format("note", json.dumps(XSS)))
    page.run("document.querySelector('.acknowledge button').click()")
    page.wait_for(f"!!{DIALOG}.querySelector('.seen .note')")
    assert page.run(f"{DIALOG}.querySelector('.seen .note').textContent") == XSS
    page.wait_for(f"{ALERT}.parentElement.parentElement.textContent.includes('onerror')")
    page.pause(0.3)
    assert page.run("window.hacked") is None
    (notice,) = [one for one in feed.alerts() if one.alert_id == chosen]
    assert notice.acknowledged is not None
    assert notice.acknowledged.note == XSS
    page.run("localStorage.clear()")


def test_one_that_is_seen_already_is_told_so(page: Browser, feed: FakeFeed) -> None:
    page.wait_for(f"!!{ALERT}")
    chosen = page.run(f"{ALERT}.dataset.alert")
    page.run(f"{ALERT}.click()")
    page.wait_for("!!document.getElementById('seen-by')")
    feed.acknowledge(chosen, "Grace", "on my way")
    page.wait_for(f"{DIALOG}.textContent.includes('Seen by Grace')")


def test_problems_are_told_in_words(page: Browser, feed: FakeFeed) -> None:
    page.wait_for(f"{STATE} !== 'Connecting'")
    feed.problem = f"The disk is full {XSS}"
    page.wait_for("document.getElementById('problems').textContent.includes('The disk is full')")
    assert page.run("window.hacked") is None
    page.wait_for("document.title.includes('pump-room')")


def test_times_and_colours_can_be_changed(page: Browser) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(background)
    page.colours("dark")
    page.wait_for(f"{background} !== {light!r}")
    page.run("document.getElementById('theme').click()")  # light, whatever the system says
    assert page.run(background) == light
    page.run("document.getElementById('zone').click()")
    assert page.run("document.getElementById('zone').textContent") == "UTC"
    page.wait_for(f"{DRAWN % '#score-plot'} > 300")
    page.run("localStorage.clear()")


@pytest.mark.parametrize(("width", "height"), [(360, 640), (768, 1024), (1920, 1080)])
def test_nothing_is_wider_than_the_page(page: Browser, width: int, height: int) -> None:
    page.size(width, height, phone=width < 700)
    page.wait_for(f"innerWidth === {width}")
    page.pause(0.3)
    assert page.run("document.documentElement.scrollWidth") <= width
    page.wait_for(f"!!{ALERT}")
    assert page.run("(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(alerts)")
    page.run(f"{ALERT}.click()")
    page.wait_for(f"{DIALOG}.querySelectorAll('.evidence canvas').length === 9")
    assert page.run(f"{DIALOG}.scrollWidth <= {DIALOG}.clientWidth")
    # A picture of it is not of one colour.
    assert len(base64.b64encode(page.picture())) > 20_000


def test_the_way_in_with_a_token(browser: Browser, feed: FakeFeed) -> None:
    settings = DashboardSettings("0.0.0.0", 0, Secret(TOKEN))  # noqa: S104
    dashboard = Dashboard(settings, feed)
    dashboard.start()
    try:
        url = f"http://127.0.0.1:{urlsplit(dashboard.url).port}/"
        browser.go(url)
        browser.wait_for("!!document.getElementById('token')")
        browser.run("document.getElementById('token').value = 'something else'")
        browser.run("document.querySelector('form button').click()")
        browser.wait_for("!!document.getElementById('wrong')?.checkVisibility()")
        browser.run(f"document.getElementById('token').value = '{TOKEN}'")
        browser.run("document.querySelector('form button').click()")
        browser.wait_for("!!document.getElementById('state-text')")
        browser.wait_for(f"{DRAWN % '#score-plot'} > 300")
        assert browser.run("location.search") == ""
        assert "edgelstm_page" not in browser.run("document.cookie")
    finally:
        dashboard.close()
        browser.go("about:blank")
