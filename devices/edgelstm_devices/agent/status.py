"""How the services of a device are. It changes nothing, and works without root as far as it can."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from . import programs
from .context import AgentError, Context
from .history import read_history
from .layout import Layout, Service
from .systemd import Systemd
from .uninstalling import data_of
from .watching import read_health

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "MainPID",
    "NRestarts",
    "StateChangeTimestampMonotonic",
)
_ALERTS_S = 60.0  # for a program that is started; on a Zero 2 W it takes five seconds


def services(_context: Context, *, layout: Layout) -> list[dict[str, Any]]:
    """The services that there are, by name.

    Returns:
        For each its `name`, its folder (`home`), the id of the `release` that runs ("" when there
        is none), the `folder` of that release, `command`, the path of its edgelstm, `data`, the
        folders that systemd made for its states and its logs, and `log`, whether the user may read
        its log.
    """
    return [_where(layout.service(name)) for name in layout.names()]


def status(
    context: Context,
    *,
    layout: Layout,
    service: str = "",
    alerts: int = 5,
    history: int = 5,
    journal: int = 10,
) -> dict[str, Any]:
    """How services are.

    Args:
        context: of the caller.
        layout: of the installation.
        service: its name; "" for every one.
        alerts: how many of the last alerts are told.
        history: how many of the last deployments are told.
        journal: how many of the last lines of its log are told of a service that does not run.

    Returns:
        `services`, and `left_out`: sentences on what could not be told, and why. For each service
        what `services` gives, and

        - `made`: the release's release.json, None without one,
        - `unit`: of systemd: `load`, `active`, `sub`, `result`, `enabled`, `pid`, `restarts`,
          `memory` (bytes of its process) and `seconds` (in this state); None without systemd,
        - `health`: its health file, with `age` in seconds; None without one of this process,
        - `alerts`: the last ones, as `edgelstm alerts list --json` has them; None when left out,
        - `history`: the last deployments, the newest last,
        - `trial`: the id of the release that is on trial now, "" when none is,
        - `journal`: lines, of a service that does not run.

    Raises:
        AgentError: there is no service of that name.
    """
    names = layout.names()
    if service and service not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise AgentError(f"There is no service {service!r} on the device; {known}.")
    left_out: list[str] = []
    found = []
    for name in [service] if service else names:
        place = layout.service(name)
        where = _where(place)
        unit = _unit(place, left_out)
        pid = unit["pid"] if unit else 0
        found.append(
            {
                **where,
                "made": _release(place, where["release"], left_out),
                "unit": unit,
                "health": _health(place, pid),
                "alerts": _alerts(context, place, where, alerts, left_out) if alerts else None,
                "history": read_history(place)[-history:] if history else [],
                "trial": _trial(place),
                "journal": _journal(place, unit, journal),
            }
        )
    return {"services": found, "left_out": left_out}


def _where(service: Service) -> dict[str, Any]:
    release = service.current_release()
    return {
        "name": service.name,
        "home": str(service.folder),
        "release": release,
        "folder": str(service.release(release)) if release else "",
        "command": str(service.current / "runtime/bin/edgelstm") if release else "",
        "data": [str(path) for path in data_of(service.layout, service.name)],
        "log": _may_read_log(service.layout),
    }


def _may_read_log(layout: Layout) -> bool:
    """Of those who may not, journalctl takes no note: it shows them nothing."""
    names = ["system.journal"] + ([f"user-{os.getuid()}.journal"] if layout.mode == "user" else [])
    folders = [Path("/var/log/journal"), Path("/run/log/journal")]
    files = [file for folder in folders for name in names for file in folder.glob(f"*/{name}")]
    return not files or any(os.access(file, os.R_OK) for file in files)


def _release(service: Service, release: str, left_out: list[str]) -> dict[str, Any] | None:
    if not release:
        return None
    try:
        text = (service.release(release) / "release.json").read_text(encoding="utf-8")
        made = json.loads(text)
    except (OSError, ValueError) as error:
        left_out.append(f"What the release of {service.name} is: {_reason(error)}.")
        return None
    return made if isinstance(made, dict) else None


def _unit(service: Service, left_out: list[str]) -> dict[str, Any] | None:
    try:
        shown = Systemd(service.layout).show(service.unit, *_PROPERTIES)
    except (AgentError, OSError) as error:
        left_out.append(f"What systemd knows of {service.name}: {_reason(error)}.")
        return None
    changed = _number(shown["StateChangeTimestampMonotonic"])
    pid = _number(shown["MainPID"]) or 0
    return {
        "load": shown["LoadState"],
        "active": shown["ActiveState"],
        "sub": shown["SubState"],
        "result": shown["Result"],
        "enabled": shown["UnitFileState"].startswith("enabled"),
        "pid": pid,
        "restarts": _number(shown["NRestarts"]) or 0,
        "memory": _memory(pid),
        "seconds": max(0.0, time.monotonic() - changed / 1e6) if changed else None,
    }


def _trial(service: Service) -> str:
    try:
        unit = service.trial_unit_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return "unknown"
    found = re.search(r"/releases/([^/\s]+)/", unit)
    return found[1] if found else "unknown"


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _memory(pid: int) -> int | None:
    """Bytes that a process has in memory.

    systemd does not know them on a Raspberry Pi, whose kernel does not count memory for groups.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = re.search(r"^VmRSS:\s*(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(found[1]) if found else None


def _health(service: Service, pid: int) -> dict[str, Any] | None:
    """What the process that runs wrote of itself; None when there is none, or it did not."""
    told = read_health(service, str(pid))
    if not isinstance(told.get("time"), (int, float)):
        return None
    return {**told, "age": max(0.0, time.time() - told["time"])}


def _journal(service: Service, unit: dict[str, Any] | None, lines: int) -> list[str]:
    if unit is None or (unit["active"], unit["sub"]) == ("active", "running") or not lines:
        return []
    try:
        return list(Systemd(service.layout).journal(service.unit, lines))
    except (AgentError, OSError):
        return []  # those who may not read it see how it is all the same


def _alerts(
    context: Context, service: Service, where: dict[str, Any], limit: int, left_out: list[str]
) -> list[dict[str, Any]] | None:
    """The release's own edgelstm reads them: the file's form is its affair."""
    if not where["release"]:
        return []
    state = _state_directory(service)
    if state is not None and not os.access(state, os.R_OK | os.X_OK):
        left_out.append(
            f"The alerts of {service.name}: {state} may be read by {service.layout.user} and root "
            "only."
        )
        return None
    try:
        return _read_alerts(context, service, where, limit, state)
    except (AgentError, OSError, ValueError, KeyError) as error:
        left_out.append(f"The alerts of {service.name}: {_reason(error)}.")
        return None


def _read_alerts(
    context: Context, service: Service, where: dict[str, Any], limit: int, state: Path | None
) -> list[dict[str, Any]]:
    folder = Path(where["folder"])
    configuration = json.loads((folder / "release.json").read_bytes())["configuration"]
    done = programs.run(
        context,
        [where["command"], "alerts", "list", "--json", "--limit", str(limit), "--config",
         folder / configuration],
        environment={
            "PATH": programs.PATH,
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
            **({} if state is None else {"STATE_DIRECTORY": str(state)}),
        },
        timeout=_ALERTS_S,
        # Not root: SQLite makes files, which the service has to be able to write to.
        user=programs.identity(service.layout),
        umask=0o027,
    )  # fmt: skip
    if done.code == 0:
        alerts: list[dict[str, Any]] = json.loads(done.out)
        return alerts
    if "There are no alerts in" in done.err:  # it has not been started yet
        return []
    if done.code is None:
        raise AgentError(f"they were not told within {_ALERTS_S:.0f} s")
    raise AgentError(done.last_lines(1).replace("Error: ", "") or f"exit code {done.code}")


def _state_directory(service: Service) -> Path | None:
    """What `StateDirectory=` of the unit made; None when it has not been started yet."""
    made = (path for path in data_of(service.layout, service.name) if path.parts[-3] != "log")
    return next(made, None)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error).rstrip(".") or repr(error)
