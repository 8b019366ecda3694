"""edgelstm_devices: what is known about the devices that artifacts run on."""

from edgelstm_devices.profiles import Profile, find_profile, load_profiles
from edgelstm_devices.runtimes import Runtime

__all__ = ["Profile", "Runtime", "find_profile", "load_profiles"]
