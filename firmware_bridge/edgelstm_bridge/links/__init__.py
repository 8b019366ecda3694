"""Links: bytes from a port, a socket, a pipe, a broker or a capture, behind one interface.

The registry names the module and the function of each scheme, so that nothing is imported that
is not used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial

from edgelstm.errors import ConfigurationError
from edgelstm_bridge.links.link import Chunk, Link, LinkEnded, LinkLost, Opener
from edgelstm_bridge.urls import SourceUrl

__all__ = ["Chunk", "Link", "LinkEnded", "LinkLost", "Opener", "make_opener"]

_PACKAGE = "edgelstm_bridge.links"
# Each takes the URL and opens a link.
_OPEN: Mapping[str, tuple[str, str]] = {
    "serial": ("serial_link", "open_serial"),
    "socket": ("socket_link", "open_socket"),
    "rfc2217": ("rfc2217_link", "open_rfc2217"),
    "stdin": ("stdin_link", "open_stdin"),
    "mqtt": ("mqtt_link", "open_mqtt"),
    "mqtts": ("mqtt_link", "open_mqtt"),
}


def make_opener(url: SourceUrl) -> Opener:
    """Returns what opens the links of a source; nothing is opened yet.

    Raises:
        ConfigurationError: the scheme is none of edgelstm's own, but a plug-in's.
    """
    if url.scheme == "replay":
        from edgelstm_bridge.links.replay_link import replay_opener

        return replay_opener(url)
    if url.scheme not in _OPEN:
        raise ConfigurationError(f"{url.scheme}: is a plug-in's source, not one of edgelstm's own.")
    module, name = _OPEN[url.scheme]
    open_link: Callable[[SourceUrl], Link] = getattr(
        importlib.import_module(f"{_PACKAGE}.{module}"), name
    )
    return partial(open_link, url)
