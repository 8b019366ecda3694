"""edgelstm_devices: what is known about the devices that artifacts run on."""

from edgelstm_devices.profiles import Profile, find_profile, load_profiles

__all__ = ["Profile", "find_profile", "load_profiles"]
