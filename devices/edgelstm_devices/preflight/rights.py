"""Judges what the user may do there, and the systemd that is to run the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight.wanted import Wanted

LOWEST_SYSTEMD = 247
"""The first with ProtectProc=; Debian 11 has it. Older ones start the unit, but not hardened."""

_SUDO = {
    "root": "logged in as root",
    "passwordless": "without a password",
    "password": "with a password, which is asked for when it is needed",
}
_BROKEN = ("maintenance", "stopping", "offline")


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """What the user may do, and whether systemd will have the service."""
    systemd = facts.get("systemd") or {}
    if wanted.mode == "system":
        yield from _sudo(facts)
        yield from _systemd(systemd.get("version"), systemd.get("state"), systemd)
        yield from _groups(facts.get("service_user"))
    else:
        yield from _user_systemd(systemd, facts.get("user") or {})


def _sudo(facts: Mapping[str, Any]) -> Iterator[Finding]:
    kind = facts.get("sudo")
    data = {"sudo": kind}
    if kind == "none":
        what = "this user may not become root, which the service of a machine needs."
        user = (facts.get("user") or {}).get("name", "$USER")
        mend = f"su -c 'usermod -aG sudo {user}'  # then log in again; or deploy with --user"
        yield Finding("rights", "sudo", "problem", what, mend, data)
    elif kind is None:
        yield Finding("rights", "sudo", "note", "sudo does not answer.", "sudo -v", data)
    else:
        yield Finding("rights", "sudo", "ok", _SUDO[kind], data=data)


def _systemd(version: int | None, state: str | None, data: Mapping[str, Any]) -> Iterator[Finding]:
    if data.get("running") is False:
        what = "it does not run here; edgelstm deploys services of systemd."
        mend = "Use a system with systemd, such as Raspberry Pi OS or Debian."
        yield Finding("systemd", "systemd", "problem", what, mend, data)
    elif version is None:
        what = "whether it runs services could not be found out: systemctl does not answer."
        mend = "systemctl status  # and try again when the device is less busy"
        yield Finding("systemd", "systemd", "problem", what, mend, data)
    elif version < LOWEST_SYSTEMD:
        what = f"{version}; before {LOWEST_SYSTEMD} it cannot confine the service as it should."
        mend = "Write a newer system to its card, such as Raspberry Pi OS 12."
        yield Finding("systemd", "systemd", "problem", what, mend, data)
    elif state in _BROKEN:
        what = f"{version}, but the system is in the state {state!r}."
        yield Finding("systemd", "systemd", "problem", what, "sudo systemctl default", data)
    else:
        yield Finding("systemd", "systemd", "ok", f"{version}, {state}", data=data)


def _groups(service_user: Mapping[str, Any] | None) -> Iterator[Finding]:
    if service_user is not None and not service_user["port_group"]:
        what = "there is no group dialout, in which the service has to be."
        yield Finding("rights", "dialout", "problem", what, "sudo groupadd --system dialout")


def _user_systemd(systemd: Mapping[str, Any], user: Mapping[str, Any]) -> Iterator[Finding]:
    name = user.get("name", "$USER")
    known = systemd.get("running") and not systemd.get("user_silent")
    if known and systemd.get("user_version") is None:
        what = f"{name} has no systemd of his own here."
        mend = (
            f"sudo apt-get install libpam-systemd dbus-user-session && "
            f"sudo loginctl enable-linger {name}  # then log in again"
        )
        yield Finding("systemd", "user instance", "problem", what, mend, systemd)
    else:
        yield from _systemd(systemd.get("user_version"), systemd.get("user_state"), systemd)
    if user.get("linger") is False:
        # The deployment turns it on, where the user may.
        what = f"the services of {name} end with the last login and do not start with the machine."
        mend = f"loginctl enable-linger {name}"
        yield Finding("rights", "linger", "note", what, mend, user)
    elif user.get("linger"):
        what = f"the services of {name} start with the machine"
        yield Finding("rights", "linger", "ok", what, data=user)
