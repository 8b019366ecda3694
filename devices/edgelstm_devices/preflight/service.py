"""Judges what of edgelstm is on the device already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight.wanted import Wanted

SECTION = "service"


def judge(facts: Mapping[str, Any], wanted: Wanted) -> Iterator[Finding]:
    """Whether the name of the service is free or that of an earlier deployment."""
    yield from _trusted(facts.get("trusted") or [], wanted)
    there = facts.get("installation")
    if there is None or not wanted.service:
        return
    name = f"edgelstm@{wanted.service}"
    scope = "systemctl --user" if wanted.mode == "user" else "sudo systemctl"
    service = next((s for s in there["services"] if s["name"] == wanted.service), None)
    unit, data = there["unit"], {k: v for k, v in there.items() if k != "services"}
    if unit and not there["made"] and not unit.endswith("@.service"):
        what = f"{unit} is there, and no deployment made it; it would be replaced."
        mend = (
            f"{scope} disable --now {name} && "
            f"{'sudo ' if wanted.mode == 'system' else ''}mv {unit} {unit}.old"
        )
        yield Finding(SECTION, name, "problem", what, mend, data)
    elif unit and not there["made"]:
        what = f"{unit} was set up by hand; for {name} the deployment takes its place"
        running = there["state"] in ("active", "activating", "reloading")
        what += ", and its configuration is no longer used." if running else "."
        yield Finding(SECTION, name, "note", what, data=data)
    elif service and service["current"]:
        what = f"release {service['current']} is there, {there['state'] or 'state unknown'}"
        yield Finding(SECTION, name, "ok", what, data={**data, **service})
    else:
        yield Finding(SECTION, name, "ok", "new on this device", data=data)
    if there["drop_ins"]:
        what = f"what is in {', '.join(there['drop_ins'])} counts for it, too."
        mend = f"systemctl{' --user' if wanted.mode == 'user' else ''} cat {name}"
        yield Finding(SECTION, "drop-ins", "note", what, mend, data)
    if service and service["trial"]:
        what = "a release is on trial now; another deployment goes on, or was cut off."
        mend = "Wait a minute; then see: edgelstm status HOST"
        yield Finding(SECTION, "trial", "note", what, mend, service)


def _trusted(keys: list[str], wanted: Wanted) -> Iterator[Finding]:
    if not keys:
        return
    data = {"trusted": keys, "unsigned": list(wanted.unsigned)}
    if wanted.unsigned:
        what = (
            f"the device takes only artifacts signed for {', '.join(keys)}, and nobody signed "
            f"{', '.join(wanted.unsigned)}."
        )
        mend = f"edgelstm sign {wanted.unsigned[0]} --key KEY.pem  # here, not on the device"
        yield Finding(SECTION, "signatures", "problem", what, mend, data)
    else:
        what = f"the device takes only artifacts signed for {', '.join(keys)}"
        yield Finding(SECTION, "signatures", "ok", what, data=data)
