"""Releases on many devices: what Ansible does for `edgelstm deploy --inventory`.

`deploy_fleet` looks at all devices, makes a bundle for each kind of them, and has the role
`edgelstm.edgelstm.edgelstm` bring it to them in batches.
"""

from edgelstm_devices.fleet.choosing import planner
from edgelstm_devices.fleet.outcome import FleetResult, HostResult
from edgelstm_devices.fleet.playbooks import COLLECTIONS
from edgelstm_devices.fleet.rollout import FleetOptions, deploy_fleet
from edgelstm_devices.fleet.survey import Wish

__all__ = [
    "COLLECTIONS",
    "FleetOptions",
    "FleetResult",
    "HostResult",
    "Wish",
    "deploy_fleet",
    "planner",
]
