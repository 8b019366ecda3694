"""Where everything is on a device.

The root is /opt/edgelstm, or ~/.local/share/edgelstm for one user's services (`--user`). In it:

- `store/<sha256>`: wheels and files of releases as they came; `<sha256>.part` while they come.
- `runtimes/<id>/`: virtual environments, which releases share.
- `services/<name>/releases/<id>/`: a configuration, its artifacts, `release.json`, and `runtime`, a
  relative link to the virtual environment.
- `services/<name>/current`: a relative link to the release that runs.
- `services/<name>/history.jsonl`: what was tried when, and how that ended.

The unit is /etc/systemd/system/edgelstm@<name>.service. While a release is on trial, one of that
name in /run/systemd/system.control is used instead: a reboot has the old one back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .context import AgentError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


class Layout:
    """The folders of an installation.

    Args:
        mode: "system" for the whole machine (needs root), "user" for one user's own services.
        root: of everything but the units; None for the mode's own.
        environ: has HOME and XDG_RUNTIME_DIR.

    Raises:
        AgentError: there is no such mode, or no home.
    """

    def __init__(
        self, mode: str, root: Any = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.mode = mode
        if mode == "system":
            self.root = Path(root or "/opt/edgelstm")
            self.units = Path("/etc/systemd/system")
            # Of all folders of units, this one wins, and a reboot empties it.
            self.trial_units = Path("/run/systemd/system.control")
            self.run = Path("/run/edgelstm")
            self.user = "edgelstm"
        elif mode == "user":
            home = environ.get("HOME", "")
            if not home.startswith("/"):
                raise AgentError("HOME is not set on the device; log in as a user with a home.")
            runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
            self.root = Path(root or f"{home}/.local/share/edgelstm")
            self.units = Path(home, ".config/systemd/user")
            self.trial_units = Path(runtime, "systemd/user.control")
            self.run = Path(runtime, "edgelstm")
            self.user = ""
        else:
            raise AgentError(f"The mode {mode!r} is neither 'system' nor 'user'.")
        self.store = self.root / "store"
        self.runtimes = self.root / "runtimes"
        self.services = self.root / "services"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"mode": self.mode, "root": str(self.root)}

    def service(self, name: str) -> Service:
        """The folders of a service.

        Raises:
            AgentError: that is no name of a service.
        """
        if not _NAME.match(name):
            raise AgentError(
                f"{name!r} is no name of a service: letters, digits, '_', '.' and '-' will do."
            )
        return Service(self, name)

    def names(self) -> list[str]:
        """Of the services that there are, sorted."""
        if not self.services.is_dir():
            return []
        return sorted(path.name for path in self.services.iterdir() if _NAME.match(path.name))


class Service:
    """The folders of one service; `Layout.service` makes it."""

    def __init__(self, layout: Layout, name: str) -> None:
        self.layout, self.name = layout, name
        self.folder = layout.services / name
        self.releases = self.folder / "releases"
        self.current = self.folder / "current"
        self.history = self.folder / "history.jsonl"
        self.unit = f"edgelstm@{name}.service"
        self.unit_file = layout.units / self.unit
        self.trial_unit_file = layout.trial_units / self.unit
        self.health_file = layout.run / name / "health.json"

    def current_release(self) -> str:
        """The id of the release that `current` points to; "" when there is none."""
        try:
            return self.current.readlink().name
        except OSError:
            return ""

    def release(self, identifier: str) -> Path:
        """The folder of a release.

        Raises:
            AgentError: that is no id of a release.
        """
        if not _NAME.match(identifier):
            raise AgentError(f"{identifier!r} is no id of a release.")
        return self.releases / identifier
