"""Delegates by name: `edgetpu`, `edgetpu:usb:0`, or the library of any other.

The grammar, where `[...]` may be left out:

    edgetpu[:usb | :pci][:INDEX]       Coral's library, and which of its devices
    LIBRARY[?KEY=VALUE[&KEY=VALUE]...] any TFLite delegate, and what it is told when it is loaded

A library with a slash in its name is that file; one without is looked for as the system looks for
libraries (LD_LIBRARY_PATH, ldconfig). For names or values with `?`, `&` or `=` in them give a
`Delegate` instead.
"""

from __future__ import annotations

import re

from edgelstm.backends.graph import Delegate
from edgelstm.errors import ConfigurationError

EDGE_TPU = "edgetpu"
EDGE_TPU_LIBRARY = "libedgetpu.so.1"

_LIBRARY = re.compile(r".*/.*|.*\.(so(\.\d+)*|dylib|dll)")


def parse_delegate(delegate: str | Delegate) -> Delegate:
    """The delegate that a text names; a `Delegate` is given back as it is.

    Raises:
        ConfigurationError: the text names none.
    """
    if isinstance(delegate, Delegate):
        return delegate
    name, colon, device = delegate.partition(":")
    if name == EDGE_TPU:
        return Delegate(EDGE_TPU_LIBRARY, {"device": _device(device)} if colon else {})
    library, question, text = delegate.partition("?")
    if not _LIBRARY.fullmatch(library):
        raise ConfigurationError(
            f"No delegate is called {delegate!r}; give edgetpu, edgetpu:usb:0 or the like, or the "
            "path of a delegate's library."
        )
    options: dict[str, str] = {}
    for option in text.split("&") if question else ():
        key, equals, value = option.partition("=")
        if not (key and equals) or key in options:
            raise ConfigurationError(
                f"The options of the delegate {library} are {text!r}; write them as "
                "key=value&key=value, each key once."
            )
        options[key] = value
    return Delegate(library, options)


def _device(text: str) -> str:
    """Which Edge TPU, as its library takes it: `usb`, `usb:0`, `pci:1`, `:0` (any, by index)."""
    match = re.fullmatch(r"(usb|pci)(?::(\d+))?|:?(\d+)", text)
    if not match:
        raise ConfigurationError(
            f"No Edge TPU is called {text!r}; give edgetpu, edgetpu:usb, edgetpu:pci, or with an "
            "index edgetpu:usb:0, edgetpu:pci:0, edgetpu:0."
        )
    bus, index = match[1] or "", match[2] or match[3]
    return bus if index is None else f"{bus}:{index}"
