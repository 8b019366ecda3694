"""The preflight: what is wrong with a device before anything is changed on it, and how to mend it.

It is pure: it judges the facts that the agent found (`agent.facts`), which are plain data. None in
them is what could not be found out; that is told where it matters, and keeps nobody from deploying.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgelstm.diagnosis.finding import Finding
from edgelstm_devices.preflight import machine, ports, rights, service, software, storage, timing
from edgelstm_devices.preflight.fitting import choose_profile, choose_python, choose_runtime
from edgelstm_devices.preflight.ports import find_port, match_port
from edgelstm_devices.preflight.wanted import Wanted

__all__ = [
    "Wanted",
    "choose_profile",
    "choose_python",
    "choose_runtime",
    "find_port",
    "match_port",
    "preflight",
]


def preflight(facts: Mapping[str, Any], wanted: Wanted) -> list[Finding]:
    """What a device is like for a deployment.

    Args:
        facts: as `agent.facts.facts` gives them, for the mode and the service of `wanted`.
        wanted: what is to be deployed.

    Returns:
        Findings by section. With a problem among them nothing should be deployed; its `mend` is a
        command to paste on the device, or a sentence where no command would do.
    """
    judges = (machine, software, storage, timing, rights, ports, service)
    return [finding for judge in judges for finding in judge.judge(facts, wanted)]
