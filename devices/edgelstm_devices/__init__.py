"""edgelstm_devices: what is known about the devices that artifacts run on."""

from edgelstm_devices.profiles import Profile, load_profiles

__all__ = ["Profile", "load_profiles"]
