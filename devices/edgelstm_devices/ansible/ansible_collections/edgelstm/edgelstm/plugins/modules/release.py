"""The Ansible module `edgelstm.edgelstm.release`: the agent's calls, as a task of a playbook."""

from __future__ import annotations

import io
import json
import re
import traceback
from typing import Any, BinaryIO

from ansible.module_utils.basic import AnsibleModule

# Ansible sends what is imported here; `perform` imports by name what a call needs.
from ansible_collections.edgelstm.edgelstm.plugins.module_utils.agent import (  # noqa: F401
    facts,
    preparing,
    proving,
    releases,
    runtimes,
    status,
    store,
    trial,
    trust,
    uninstalling,
)
from ansible_collections.edgelstm.edgelstm.plugins.module_utils.agent.context import (
    AgentError,
    Context,
)
from ansible_collections.edgelstm.edgelstm.plugins.module_utils.agent.layout import Layout
from ansible_collections.edgelstm.edgelstm.plugins.module_utils.agent.serve import perform

DOCUMENTATION = r"""
module: release
short_description: Releases of edgelstm on a device
version_added: 0.1.0
description:
  - Installs a release beside the one that serves, proves it on the device, switches to it, and goes
    back by itself if it does not get ready, receives nothing or does not stay healthy.
  - Needs nothing on the device but Python 3.9 to be asked, and Python 3.11 and systemd to serve.
  - The role C(edgelstm.edgelstm.edgelstm) has its actions in the right order.
author:
  - The edgelstm developers
options:
  action:
    description:
      - V(facts) looks at the device, V(status) at its services; both change nothing.
      - V(compare) makes the folders and says which files of a release have to be copied there.
      - V(deploy) takes what was copied, proves the release and switches to it.
      - V(rollback), V(uninstall) and V(trust) do what they are called.
    type: str
    required: true
    choices: [facts, status, compare, deploy, rollback, uninstall, trust]
  mode:
    description: Whether it is the whole device's (needs root) or one user's own service.
    type: str
    choices: [system, user]
    default: system
  root:
    description: Folder of everything; empty for the mode's own.
    type: str
    default: ""
  name:
    description: Of the service; may be empty for O(action=facts) and O(action=status).
    type: str
    default: ""
  port:
    description: A serial port to look at with O(action=facts).
    type: str
    default: ""
  spec:
    description: C(release.json) of the release, for O(action=compare) and O(action=deploy).
    type: dict
  groups:
    description: Whose members may open the devices that the service needs; empty for the unit's.
    type: list
    elements: str
    default: []
  to:
    description: Id of the release to go back to; empty for the last good one.
    type: str
    default: ""
  purge:
    description: Whether state and logs go with O(action=uninstall).
    type: bool
    default: false
  keys:
    description:
      - Public keys in PEM by file name, for O(action=trust).
      - With O(action=deploy) they are trusted once the release is; with O(action=compare) a release
        that serves already is proved again.
    type: dict
    default: {}
  ready_timeout:
    description: Seconds until the service must say that it is ready.
    type: float
    default: 120
  readings_timeout:
    description: Seconds until the first reading must have come.
    type: float
    default: 60
  grace:
    description: Seconds for which it must stay healthy then.
    type: float
    default: 30
  keep:
    description: How many releases stay on the device.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Look at the device
  edgelstm.edgelstm.release:
    action: facts

- name: Go back to the last good release
  edgelstm.edgelstm.release:
    action: rollback
    name: pump
  become: true
"""

RETURN = r"""
answer:
  description: What the device says, as the action has it.
  returned: success, or a release that was not proved
  type: raw
missing:
  description: SHA-256 of the files that have to be copied, for O(action=compare).
  returned: success
  type: list
  elements: str
store:
  description: Folder that they are copied to, as C(SHA256.part).
  returned: success
  type: str
serves:
  description: Whether this very content serves already, and is well.
  returned: success
  type: bool
release:
  description: Id that what serves has there, as it may have been made at another time.
  returned: success, if it serves
  type: str
"""


_ACTIONS = ["facts", "status", "compare", "deploy", "rollback", "uninstall", "trust"]
_PATIENCE = ("ready_timeout", "readings_timeout", "grace")


class _Copied(Context):
    """Ansible, which waits for the end, and has copied all of a file before."""

    def body(self) -> BinaryIO:
        """Nothing more comes of it."""
        return io.BytesIO()


class _Device:
    """The calls of one task.

    Args:
        parameters: of the task.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._context = _Copied()
        self._layout = {"mode": parameters["mode"], "root": parameters["root"] or None}

    def perform(self) -> dict[str, Any]:
        """Does what the task is for; the result is the task's, with `failed` where it is."""
        action = self._parameters["action"]
        done: dict[str, Any] = getattr(self, f"_{action}")()
        return done

    def _facts(self) -> dict[str, Any]:
        chosen = {key: self._parameters[key] for key in ("name", "port")}
        answer = perform(self._context, "facts", {**self._layout, **chosen})
        return {"changed": False, "facts": answer}

    def _status(self) -> dict[str, Any]:
        answer = self._call("status", service=self._parameters["name"])
        return {"changed": False, "answer": answer}

    def _trust(self) -> dict[str, Any]:
        answer = self._call("trust", keys=self._parameters["keys"])
        return {"changed": bool(answer["added"]), "answer": answer}

    def _compare(self) -> dict[str, Any]:
        spec = self._spec()
        # With keys it goes on in any case: they are put there at the end.
        if not self._parameters["keys"] and (release := self._serving(spec)):
            done = {"changed": False, "serves": True, "missing": [], "store": ""}
            return {**done, "release": release}
        groups = self._parameters["groups"] or _groups(spec["unit"])
        self._call("prepare", service=spec["service"], groups=groups)
        missing = [one["sha256"] for one in self._call("missing", files=_files(spec))]
        there = Layout(**self._layout).store
        return {"changed": True, "serves": False, "missing": missing, "store": str(there)}

    def _deploy(self) -> dict[str, Any]:
        spec = self._spec()
        for file in _files(spec):
            # It is all there by now; this looks whether it is what it should be.
            if self._call("missing", files=[file]):
                self._call("receive", offset=file["size"], **file)
        self._call("install_runtime", runtime=spec["runtime"])
        self._call("stage", spec=spec)
        proofs = self._call("prove", spec=spec)
        for proof in proofs:
            if not proof["ok"]:
                reason = f"{proof['what']}: {proof['text']}"
                return {"failed": True, "changed": True, "msg": reason, "proofs": proofs}
        tried = self._tried(self._call("trial", spec=spec, **self._patience()))
        if not tried.get("failed"):
            # Not before: the old release may be signed by nobody, and had to be able to start.
            if self._parameters["keys"]:
                self._call("trust", keys=self._parameters["keys"])
            self._call("prune", service=spec["service"], keep=self._parameters["keep"])
        return {**tried, "proofs": proofs}

    def _rollback(self) -> dict[str, Any]:
        name, to = self._parameters["name"], self._parameters["to"]
        return self._tried(self._call("rollback", service=name, to=to, **self._patience()))

    def _uninstall(self) -> dict[str, Any]:
        name, purge = self._parameters["name"], self._parameters["purge"]
        return {"changed": True, "answer": self._call("uninstall", service=name, purge=purge)}

    def _call(self, name: str, **arguments: Any) -> Any:
        return perform(self._context, name, {"layout": self._layout, **arguments})

    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] | None = self._parameters["spec"]
        if not spec:
            raise AgentError("This action needs `spec`, what release.json of a bundle says.")
        return spec

    def _patience(self) -> dict[str, float]:
        return {key: self._parameters[key] for key in _PATIENCE}

    def _serving(self, spec: dict[str, Any]) -> str:
        """The id of the release that has this content, if it runs already and is well; else ""."""
        told = self._call("status", service="", alerts=0, history=0, journal=0)
        for service in told["services"]:
            if service["name"] == spec["service"] and not service["trial"]:
                made, unit = service["made"] or {}, service["unit"] or {}
                health = service["health"] or {}
                runs = unit.get("active") == "active" and unit.get("enabled")
                # Degraded is what a trial takes, too: else it would be proved again each time.
                well = runs and health.get("status") in ("ok", "degraded")
                if well and made.get("digest") == spec["digest"]:
                    return str(service["release"])
        return ""

    @staticmethod
    def _tried(answer: dict[str, Any]) -> dict[str, Any]:
        if answer["committed"]:
            return {"changed": True, "answer": answer}
        return {"failed": True, "changed": True, "msg": answer["reason"], "answer": answer}


def _files(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every file of a release that the device's store needs, once."""
    every = [*spec["files"].values(), *spec["runtime"]["wheels"].values()]
    return list({file["sha256"]: file for file in every}.values())


def _groups(unit: str) -> list[str]:
    """The groups that a unit's user has to be in, for the devices."""
    return " ".join(re.findall(r"^SupplementaryGroups=(.*)$", unit, re.MULTILINE)).split()


def main() -> None:
    """What Ansible starts on the device."""
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "required": True, "choices": _ACTIONS},
            "mode": {"type": "str", "choices": ["system", "user"], "default": "system"},
            "root": {"type": "str", "default": ""},
            "name": {"type": "str", "default": ""},
            "port": {"type": "str", "default": ""},
            "spec": {"type": "dict"},
            "groups": {"type": "list", "elements": "str", "default": []},
            "to": {"type": "str", "default": ""},
            "purge": {"type": "bool", "default": False},
            # They are public, whatever Ansible thinks of the word.
            "keys": {"type": "dict", "default": {}, "no_log": False},
            "ready_timeout": {"type": "float", "default": 120.0},
            "readings_timeout": {"type": "float", "default": 60.0},
            "grace": {"type": "float", "default": 30.0},
            "keep": {"type": "int", "default": 3},
        }
    )
    try:
        done = _Device(module.params).perform()
    except AgentError as error:
        done = {"failed": True, "msg": str(error)}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        done = {"failed": True, "msg": f"On the device: {where}{error.strerror or error}."}
    except Exception as error:  # whatever it is, it has to be one sentence
        told = f"This is a fault of edgelstm: {type(error).__name__}: {error}."
        done = {"failed": True, "msg": told, "trace": traceback.format_exc()}
    # What is no JSON, such as a Path, would end in a traceback of Ansible's.
    done = json.loads(json.dumps(done, default=str))
    if done.pop("failed", False):
        module.fail_json(**done)
    module.exit_json(**done)


if __name__ == "__main__":
    main()
