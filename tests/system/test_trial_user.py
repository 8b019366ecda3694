"""Trials of one user's services, without root."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from systemd_machine import Machine, booted, why_not, write
from trial_rig import HOME, Trials, make_trial_root

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

_RUNTIME = "/run/user/1000"
_AS_PI = (
    "setpriv", "--reuid=1000", "--regid=1000", "--groups=1000,20", "env", f"HOME={HOME}",
    f"XDG_RUNTIME_DIR={_RUNTIME}", "LANG=C.UTF-8",
)  # fmt: skip
# What logind and PAM do for a user who lingers.
_MANAGER = f"""[Service]
Type=notify
User=pi
SupplementaryGroups=dialout
Delegate=yes
Environment=XDG_RUNTIME_DIR={_RUNTIME} HOME={HOME}
ExecStartPre=+/bin/sh -c "mkdir -p {_RUNTIME} && chown pi {_RUNTIME} && chmod 700 {_RUNTIME}"
ExecStart=/usr/lib/systemd/systemd --user
KillMode=mixed
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine") / "root"
    make_trial_root(root)
    for name, line in (("passwd", f"pi:x:1000:1000::{HOME}:/bin/sh\n"), ("group", "pi:x:1000:\n")):
        with (root / "etc" / name).open("a") as file:
            file.write(line)
    write(root / "etc/systemd/system/manager.service", _MANAGER)
    (root / HOME[1:]).mkdir()
    shutil.chown(root / HOME[1:], 1000, 1000)
    with booted(root) as machine:
        machine.run("systemctl", "start", "manager.service")
        yield machine


def systemctl(machine: Machine, *arguments: str) -> str:
    return machine.run(*_AS_PI, "systemctl", "--user", *arguments).stdout.strip()


def own(machine: Machine) -> None:
    """Gives everything in the home to its user."""
    machine.run("chown", "-R", "1000:1000", HOME)


def test_good_and_bad_releases(machine: Machine) -> None:
    trials, unit = Trials(machine, "user"), "edgelstm@pump.service"
    spec = trials.stage("pump", "r1")
    own(machine)
    done = trials.trial(spec, *_AS_PI)
    assert done.result["committed"], done
    assert systemctl(machine, "show", "--value", "-p", "ActiveState", unit) == "active"
    assert systemctl(machine, "is-enabled", unit) == "enabled"
    process = systemctl(machine, "show", "--value", "-p", "MainPID", unit)
    status = machine.run("cat", f"/proc/{process}/status").stdout.split()
    assert status[status.index("Seccomp:") + 1] == "2"
    assert status[status.index("NoNewPrivs:") + 1] == "1"

    spec = trials.stage("pump", "r2", exit=3, say="no pump here")
    own(machine)
    done = trials.trial(spec, *_AS_PI)
    assert "exit status 3" in done.result["reason"]
    assert done.result["restored"] == "active"
    assert trials.current("pump") == "r1"
    assert systemctl(machine, "show", "--value", "-p", "ActiveState", unit) == "active"
    assert not (machine.root / "run/user/1000/systemd/user.control" / unit).exists()


def test_a_release_is_cut_off(machine: Machine) -> None:
    trials, unit = Trials(machine, "user"), "edgelstm@cut.service"
    spec = trials.stage("cut", "r1")
    own(machine)
    assert trials.trial(spec, *_AS_PI, grace=0.0).result["committed"]
    spec = trials.stage("cut", "r2")
    own(machine)
    before = systemctl(machine, "show", "--value", "-p", "MainPID", unit)
    # Killed at the last moment before it would be taken.
    assert not trials.trial(spec, *_AS_PI, grace=0.0, die_after=0).result
    machine.wait(
        lambda: systemctl(machine, "list-units", "--all", "-q", "edgelstm-guard-*") == "",
        "the end of the guard",
    )
    machine.wait(
        lambda: systemctl(machine, "show", "--value", "-p", "SubState", unit) == "running",
        "another start",
    )
    assert systemctl(machine, "show", "--value", "-p", "MainPID", unit) not in ("0", before)
    assert "/current/" in systemctl(machine, "show", "-p", "ExecStart", unit)
    assert trials.current("cut") == "r1"
    done = trials.call("settle", *_AS_PI, service="cut")
    assert done.result == {"release": "r1", "what": "nothing"}
