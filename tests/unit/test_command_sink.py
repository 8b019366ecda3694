from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgelstm.alert import Alert, AlertKind, ChannelShare
from edgelstm.errors import ConfigurationError, RefusedNoticeError, SinkError
from edgelstm.notice import Notice
from edgelstm.secret import Secret
from edgelstm.sinks import SinkContext
from edgelstm.sinks.command import CommandConfig, CommandSink
from edgelstm.sinks.templates import FIELDS

ALERT = Alert(1, AlertKind.ANOMALY, 1000.0, 12.0, (ChannelShare("flow", 1.0),))
NOTICE = Notice("a-1/1", "a-1", "opened", 1000.0, "here", "pump", ALERT, "ALERT 1 opened", 12, 9)


@pytest.fixture
def here(tmp_path: Path) -> SinkContext:
    return SinkContext(directory=tmp_path)


def shell(script: str, context: SinkContext, **options: Any) -> CommandSink:
    return CommandSink(CommandConfig(("/bin/sh", "-c", script), **options), context)


def failed(script: str, context: SinkContext, **options: Any) -> str:
    with pytest.raises(SinkError) as caught:
        shell(script, context, **options).send(NOTICE)
    assert not isinstance(caught.value, RefusedNoticeError)
    return str(caught.value)


def test_a_program_gets_the_notice_and_its_fields(
    here: SinkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "geheim")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    more: dict[str, str | Secret] = {"TOKEN": Secret("t0ken"), "PLACE": "hall"}
    script = "cat > stdin.json; env > env; printf '%s' \"$1\" > argument"
    argv = ("/bin/sh", "-c", script, "sh", "$(touch no) *")
    CommandSink(CommandConfig(argv, environment=more), here).send(NOTICE)
    folder = here.directory
    assert json.loads((folder / "stdin.json").read_text()) == NOTICE.to_dict()
    assert (folder / "argument").read_text() == "$(touch no) *"
    assert not (folder / "no").exists()
    pairs = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
    assert {f"EDGELSTM_{name.upper()}" for name in FIELDS} <= set(pairs)
    assert pairs["EDGELSTM_SENSOR"] == "pump"
    assert pairs["EDGELSTM_CHANNELS"] == "flow"
    assert pairs["EDGELSTM_CLOSED"] == ""
    assert (pairs["TOKEN"], pairs["PLACE"]) == ("t0ken", "hall")
    assert pairs["PATH"] == os.environ["PATH"]
    assert not {"MQTT_PASSWORD", "NOTIFY_SOCKET"} & set(pairs)


def test_a_long_notice_goes_in_whole(here: SinkContext) -> None:
    channels = tuple(ChannelShare(f"channel {number}", 0.0) for number in range(5000))
    long = replace(NOTICE, alert=replace(ALERT, channels=channels))
    shell("sleep 0.05; cat > all", here).send(long)
    assert json.loads((here.directory / "all").read_text()) == long.to_dict()
    assert (here.directory / "all").stat().st_size > 200_000  # more than a pipe holds


def test_exit_codes_say_what_to_do(here: SinkContext) -> None:
    with pytest.raises(RefusedNoticeError, match=r"^/bin/sh refuses it with exit code 65: so not"):
        shell("echo so; echo not >&2; exit 65", here).send(NOTICE)
    assert failed("echo later; exit 75", here) == "/bin/sh failed with exit code 75: later."
    assert failed("exit 1", here) == "/bin/sh failed with exit code 1."
    assert failed("kill -KILL $$", here) == "/bin/sh failed with signal SIGKILL."
    assert failed("kill -40 $$", here) == "/bin/sh failed with signal 40."


def test_odd_names_of_channels_hold_nothing_up(here: SinkContext) -> None:
    odd = replace(NOTICE, alert=replace(ALERT, channels=(ChannelShare("a\0b\ud800", 1.0),)))
    shell('cat > all; printf %s "$EDGELSTM_CHANNELS" > channels', here).send(odd)
    (channel,) = json.loads((here.directory / "all").read_text())["channels"]
    assert channel["name"] == "a\0b?"
    assert (here.directory / "channels").read_bytes() == b"a?b?"


def test_what_it_says_is_bounded_and_logged(
    here: SinkContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    shell("yes | head -c 3000000", here).send(NOTICE)
    (record,) = caplog.records
    assert record.getMessage().startswith("/bin/sh says: y y y")
    assert len(record.getMessage()) < 250
    assert len(failed("yes x | head -c 3000000; exit 1", here)) < 300
    code, output = shell("yes | head -c 3000000; exit 3", here)._run(NOTICE)
    assert (code, len(output)) == (3, 4096)


def test_a_program_that_cannot_be_started_is_told(here: SinkContext) -> None:
    with pytest.raises(SinkError, match=r"^/no/such cannot be started \(No such file or director"):
        CommandSink(CommandConfig(("/no/such",)), here).send(NOTICE)
    with pytest.raises(SinkError, match=r"cannot be started \(Permission denied\)"):
        CommandSink(CommandConfig((str(here.directory),)), here).send(NOTICE)


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and was not waited for does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_one_that_takes_too_long_is_ended_with_all_it_started(
    here: SinkContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgelstm.sinks.command._GRACE_S", 0.1)
    began = time.monotonic()
    script = "trap '' TERM; sleep 60 & echo $! > child; while true; do sleep 0.01; done"
    message = failed(script, here, timeout=0.2)
    assert message == "/bin/sh was not done within 0.2 s and was ended."
    assert time.monotonic() - began < 10
    child = int((here.directory / "child").read_text())
    end = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_that_is_told_to_end_may_clean_up(here: SinkContext) -> None:
    failed(
        "trap 'echo bye > clean; exit 0' TERM; while true; do sleep 0.01; done", here, timeout=0.2
    )
    assert (here.directory / "clean").read_text() == "bye\n"


def test_what_it_leaves_running_is_not_waited_for(here: SinkContext) -> None:
    began = time.monotonic()
    shell("sleep 30 & echo $! > child", here).send(NOTICE)  # it holds the output open
    assert time.monotonic() - began < 10
    child = int((here.directory / "child").read_text())
    assert alive(child)
    os.kill(child, signal.SIGKILL)


def test_one_that_closes_its_output_is_waited_for(here: SinkContext) -> None:
    code = "import os, time; os.close(1); os.close(2); time.sleep(0.1); open('done', 'w').close()"
    CommandSink(CommandConfig((sys.executable, "-S", "-c", code)), here).send(NOTICE)
    assert (here.directory / "done").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"argv": ()}, "names no program"),
        ({"argv": ("",)}, "names no program"),
        ({"argv": ("a\0",)}, "NUL"),
        ({"argv": ("a",), "timeout": 0.0}, "timeout"),
        ({"argv": ("a",), "timeout": float("nan")}, "timeout"),
        ({"argv": ("a",), "environment": {"A=B": ""}}, "'A=B'"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CommandConfig(**options)
