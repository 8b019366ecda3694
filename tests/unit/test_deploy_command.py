"""What `edgelstm deploy` says before it connects to anything, and how it shows what it did."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from edgelstm.cli import main
from edgelstm.commands.deploy_lines import (
    Narrator,
    about_device,
    findings_page,
    outcome_lines,
    plan_lines,
    troubles,
)
from edgelstm.commands.host_options import HostChoice, host_options
from edgelstm.diagnosis.finding import Finding
from edgelstm.keys import write_new_keys
from edgelstm_devices.deploying import Outcome, Proof, Sending
from edgelstm_devices.planning import ReleasePlan
from edgelstm_devices.release import ReleaseSpec, RuntimeSpec
from edgelstm_devices.runtimes import load_runtimes

HOST = "pi@pump-3"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with an artifact; whatever would connect fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copy(tiny_path, "pump.tflite")
    Path("bin").mkdir()
    for name in ("ssh", "ansible-playbook", "ansible-inventory"):
        program = Path("bin", name)
        program.write_text("#!/bin/sh\necho connected > connected\nexit 255\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["deploy", *arguments])


def refusal(*arguments: str) -> str:
    """The one sentence with which it ends, before it connects."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    *said, line = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert said in ([], [f"  connecting to {arguments[-1]} ..."])
    assert not Path("connected").exists()
    assert not Path("cache").exists()
    return line.removeprefix("Error: ")


def test_the_help_says_how_and_how_it_ends() -> None:
    text = invoke("--help").stdout
    assert "Example: edgelstm deploy pump.tflite pi@pump-3" in text
    assert "--inventory hosts.ini --batch 10%" in text
    assert "Exit code: 0" in text
    for option in ("--check", "--dry-run", "--offline", "--user", "--trust", "--ssh-option"):
        assert option in text


def test_no_host() -> None:
    assert refusal("pump.tflite") == (
        "Name the device, such as pi@pump-3, or many of them with --inventory hosts.ini."
    )


@pytest.mark.parametrize("source", ["gone.tflite", "bin"])
def test_no_source(source: str) -> None:
    assert refusal(source, HOST) == f"There is no file {source}."
    assert refusal(source, "--inventory", "hosts.ini") == f"There is no file {source}."


@pytest.mark.parametrize(
    "arguments",
    [
        (HOST,),
        ("-p", "2222"),
        ("-i", "key"),
        ("-F", "config"),
        ("-o", "User=pi"),
    ],
)
def test_one_host_and_many(arguments: tuple[str, ...]) -> None:
    Path("hosts.ini").write_text("pump-1\n")
    assert refusal("pump.tflite", *arguments, "--inventory", "hosts.ini") == (
        "With --inventory the hosts and how to get there are in the inventory; leave out HOST and "
        "the options for ssh."
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--limit", "hall-3"),
        ("--skip-unfit",),
        ("--ask-become-pass",),
        ("--keep-bundles", "here"),
    ],
)
def test_what_is_for_many_devices_needs_an_inventory(arguments: tuple[str, ...]) -> None:
    assert refusal("pump.tflite", HOST, *arguments) == (
        "--limit, --skip-unfit, --ask-become-pass and --keep-bundles are for many devices; name "
        "them with --inventory."
    )


def test_an_inventory_that_is_not_there() -> None:
    assert "gone.ini" in refusal("pump.tflite", "--inventory", "gone.ini")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--grace", "-1"),
        ("--grace", "nan"),
        ("--grace", "inf"),
        ("--ready-timeout", "0"),
        ("--ready-timeout", "nan"),
        ("--readings-timeout", "inf"),
        ("--baud-rate", "0"),
        ("--rate", "guess"),
        ("-p", "0"),
        ("-p", "70000"),
    ],
)
def test_values_that_will_not_do(arguments: tuple[str, ...]) -> None:
    result = invoke("pump.tflite", HOST, *arguments)
    assert result.exit_code == 2
    assert "Invalid value for" in result.stderr
    assert not Path("connected").exists()


def test_a_host_that_is_an_option() -> None:
    assert refusal("pump.tflite", "--", "-oProxyCommand=x") == (
        "'-oProxyCommand=x' is no name of a host."
    )


def test_a_name_that_no_service_can_have_is_refused_at_once() -> None:
    message = refusal("pump.tflite", HOST, "--name", "../x")
    assert message.startswith("A service cannot be called '../x'")


def test_keys_that_will_not_do_are_refused_at_once() -> None:
    assert "gone.pem" in refusal("pump.tflite", HOST, "--trust", "gone.pem")
    write_new_keys(Path("key.pem"))
    assert "is a private key" in refusal("pump.tflite", HOST, "--trust", "key.pem")


def test_two_keys_of_one_name() -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
        write_new_keys(Path(name, "key.pem"))
    keys = ("--trust", "a/key.pub.pem", "--trust", "b/key.pub.pem")
    assert refusal("pump.tflite", HOST, *keys) == (
        "Two keys are called key.pub.pem, and on the device each has its name; rename one."
    )


def test_a_connection_that_fails_is_a_mistake_too() -> None:
    result = invoke("pump.tflite", HOST)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert Path("connected").exists()
    assert result.stderr.splitlines() == [
        f"  connecting to {HOST} ...",
        f"Error: {HOST} cannot be reached (ssh did not say why); try: ssh {HOST}",
    ]


def test_options_for_a_host_are_those_of_ssh() -> None:
    chosen: list[HostChoice] = []

    @click.command()
    @click.argument("host")
    @host_options
    def show(**arguments: Any) -> None:
        chosen.append(arguments["chosen"])

    assert CliRunner().invoke(show, ["pi@pump-3"]).exit_code == 0
    more = ["-o", "A=b c", "-p", "22", "-i", "~/k", "-F", "f", "--ssh-option", "C=d", "--user"]
    assert CliRunner().invoke(show, [*more, "--name", "hall", "pump"]).exit_code == 0
    assert chosen == [
        HostChoice("pi@pump-3", "system", "", ()),
        HostChoice(
            "pump",
            "user",
            "hall",
            ("-o", "A=b c", "-o", "C=d", "-p", "22", "-i", "~/k", "-F", "f"),
        ),
    ]


# What is shown


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (
            {
                "model": "Raspberry Pi 4 Model B Rev 1.4",
                "os": {"PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
                "python": {"version": "3.11.2", "architecture": "aarch64"},
                "machine": "aarch64",
            },
            "Raspberry Pi 4 Model B Rev 1.4, Debian GNU/Linux 12 (bookworm), Python 3.11.2, "
            "aarch64",
        ),
        (
            {"model": None, "os": None, "python": None, "machine": "armv6l"},
            "a system that does not say its name, no Python, armv6l",
        ),
        (
            {"model": "x\x1b[2J", "os": {"PRETTY_NAME": "y\nz"}, "python": None, "machine": None},
            "x\ufffd[2J, y\ufffdz, no Python",
        ),
    ],
)
def test_a_device_in_a_line(facts: Mapping[str, Any], line: str) -> None:
    shown = about_device(facts)
    assert shown.replace("\\x1b", "\ufffd").replace("\\n", "\ufffd") == line
    assert shown.isprintable()


def test_troubles_are_those_that_matter_with_what_mends_them() -> None:
    findings = [
        Finding("machine", "memory", "ok", "4 GB"),
        Finding("software", "python", "problem", "it is too old.", "sudo apt-get upgrade"),
        Finding("timing", "clock", "note", "nothing keeps it right."),
    ]
    lines = [click.unstyle(line) for line in troubles(findings)]
    assert lines == [
        "Problem   python: it is too old.",
        "            sudo apt-get upgrade",
        "Note      clock: nothing keeps it right.",
    ]
    page = "\n".join(click.unstyle(line) for line in findings_page(findings))
    assert "4 GB" in page
    assert "sudo apt-get upgrade" in page


def a_plan() -> ReleasePlan:
    runtime = RuntimeSpec(
        id="x",
        python="3.11",
        architecture="aarch64",
        wheels={},
        requirements=("ai-edge-litert==2.3.0", "numpy==2.4.0"),
        installer="pip.whl",
        offline=True,
    )
    spec = ReleaseSpec(
        service="pump",
        id="20261121-053012-3f2a9c1b",
        digest="",
        made="",
        by="",
        edgelstm="0.1.0",
        files={},
        configuration="pump.toml",
        artifacts=(),
        runtime=runtime,
        unit="",
    )
    from edgelstm_devices.bundle import Bundle

    chosen = load_runtimes()["ai-edge-litert", "aarch64"]
    return ReleasePlan([], runtime=chosen, bundle=Bundle(spec, {}))


def test_a_plan() -> None:
    sending = Sending([{"size": 3_000_000, "have": 1_000_000}], 45_000_000)
    lines = list(plan_lines(a_plan(), sending, ["make the user edgelstm", "write"]))
    assert lines == [
        "Release   20261121-053012-3f2a9c1b of pump: ",
        "Readings  ",
        "Runtime   ai-edge-litert 2.3.0 for Python 3.11, all wheels sent",
        "To send   1 file, 2.0 MB of 45.0 MB",
        "As root   make the user edgelstm, write",
    ]
    assert not any(line.startswith("As root") for line in plan_lines(a_plan(), sending, []))


def test_outcomes() -> None:
    def shown(outcome: Outcome) -> list[str]:
        return [click.unstyle(line) for line in outcome_lines(outcome, HOST, "pump")]

    bad = Outcome("x", [Proof("doctor", True, "No problem."), Proof("verify", False, "a\nb\x07")])
    assert not bad.committed
    assert shown(bad)[0] == f"failed  verify on {HOST}:"
    assert shown(bad)[1] == "    a"
    assert "\x07" not in shown(bad)[2]
    assert shown(bad)[3] == f"Nothing was switched: {HOST} goes on with what it ran."
    same = Outcome("x", nothing_to_do=True)
    assert same.committed
    assert shown(same) == [f"ok  {HOST} runs this release of pump already."]
    for committed in (True, False):
        tried = Outcome("x", trial={"committed": committed})
        assert tried.committed is committed
        assert tried.to_dict()["committed"] is committed
        assert shown(tried) == []


def test_a_narrator_without_a_terminal_has_lines_for_what_is_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    narrator = Narrator()
    narrator.progress("connecting", 0, 0)
    narrator.step("Sent", "3 files\x1b[2J")
    narrator.hear({"what": "proving", "name": "doctor"})
    narrator.hear({"what": "starting", "release": "20261121-053012-3f2a9c1b"})
    narrator.done()
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    lines = err.splitlines()
    assert lines[0] == "  connecting ..."
    assert lines[1].startswith("Sent      3 files")
    assert lines[2] == "  proving doctor ..."
    assert lines[3].startswith("Trial     ")
    assert len(lines) == 4
