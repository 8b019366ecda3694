"""Source URLs: where readings come from, in one line. Pure."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from edgelstm.errors import ConfigurationError

ENTRY_POINT_GROUP = "edgelstm.sources"
"""Where a plug-in offers its scheme."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_PASSWORD = re.compile(r"//([^:@/?]*):.*@", re.DOTALL)
_STABLE_NAMES = ("by-id/", "by-path/")
_ESCAPES = "a password or topic needs %2F %3F %23 %40 %3A for / ? # @ :"
_BAUD_SCHEMES = ("serial", "rfc2217")
_MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class UsbDevice:
    """What a USB serial port is chosen by; None stands for any.

    Attributes:
        vendor: the USB vendor number.
        product: the USB product number.
        serial_number: the device's own; letters count in either case.
    """

    vendor: int | None = None
    product: int | None = None
    serial_number: str | None = None

    def __str__(self) -> str:
        parts = [
            f"vid={self.vendor:04x}" if self.vendor is not None else "",
            f"pid={self.product:04x}" if self.product is not None else "",
            f"serial={self.serial_number}" if self.serial_number is not None else "",
        ]
        return "&".join(part for part in parts if part)


@dataclass(frozen=True)
class SourceUrl:
    """A source URL, taken apart and checked. Its text never shows the password.

    Attributes:
        scheme: in lower case, such as `serial`.
        path: of a port or a file; the topic of MQTT; what a plug-in makes of it.
        host: of a network source; an IPv6 address has no brackets here.
        port: of a network source.
        username: to log in with.
        password: to log in with.
        options: what follows the question mark, in order.
    """

    scheme: str
    path: str = ""
    host: str = ""
    port: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Host and port as messages write them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def baud_rate(self) -> int | None:
        """The option `baud`; None when it was not given."""
        return _baud_rate(self.options["baud"]) if "baud" in self.options else None

    @property
    def usb(self) -> UsbDevice | None:
        """What a USB port is chosen by; None when it is named by its path."""
        if not self.options.keys() & {"vid", "pid", "serial"}:
            return None
        vendor, product = self.options.get("vid"), self.options.get("pid")
        return UsbDevice(
            None if vendor is None else _usb_number(vendor),
            None if product is None else _usb_number(product),
            self.options.get("serial"),
        )

    @property
    def speed(self) -> float:
        """The option `speed`: how much faster than it was recorded; `inf` is as fast as it goes."""
        return _speed(self.options.get("speed", "max"))

    @property
    def qos(self) -> int:
        """The option `qos`, MQTT's quality of service."""
        return _qos(self.options.get("qos", "0"))

    def with_baud_rate(self, baud_rate: int | None) -> SourceUrl:
        """Returns this URL with a baud rate, unless it has its own or its scheme knows none."""
        if baud_rate is None or "baud" in self.options or self.scheme not in _BAUD_SCHEMES:
            return self
        return replace(self, options={**self.options, "baud": str(baud_rate)})

    def __str__(self) -> str:
        login = ""
        if self.username is not None:
            login = f"{self.username}:***@" if self.password is not None else f"{self.username}@"
        slashes = f"//{login}{self.address}" if self.host else ""
        path = f"/{self.path}" if slashes and self.path else self.path
        options = "&".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.scheme}:{slashes}{path}" + (f"?{options}" if options else "")


def parse_url(text: str, plugins: Collection[str] = ()) -> SourceUrl:
    """Takes a source URL apart; a bare path is a serial port.

    Args:
        text: such as `serial:///dev/ttyACM0?baud=115200`.
        plugins: the schemes of the installed plug-ins; their options are their own business.

    Raises:
        ConfigurationError: no such scheme, no such option, or a part is missing or makes no sense.
    """
    match = _SCHEME.fullmatch(text)
    scheme, rest = (match[1].lower(), match[2]) if match else ("serial", text)
    shown = without_password(text)
    try:
        if scheme in _SCHEMES:
            parse, options = _SCHEMES[scheme]
            url = parse(scheme, rest)
            _check_options(scheme, url.options, options)
        elif scheme in plugins:
            url = _parse_any(scheme, rest)
        else:
            raise _unknown(scheme, plugins)
    except ValueError as error:
        raise ConfigurationError(f"The source {shown!r} cannot be used: {error}.") from error
    return url


def without_password(text: str) -> str:
    """Returns a URL, well formed or not, as a message may show it."""
    return _PASSWORD.sub(r"//\1:***@", text)


def _unknown(scheme: str, plugins: Collection[str]) -> ValueError:
    known = ", ".join((*_SCHEMES, *sorted(set(plugins) - set(_SCHEMES))))
    return ValueError(
        f"no source is called {scheme}: edgelstm knows {known}, and the installed plug-ins with "
        f"an entry point in the group {ENTRY_POINT_GROUP}"
    )


def _parse_serial(scheme: str, rest: str) -> SourceUrl:
    path, options = _path_and_options(rest)
    if path.startswith("//"):
        path = path[2:]
        if not path.startswith("/"):
            raise ValueError(f"a port needs three slashes, so write serial:///{path}")
    if path.startswith(_STABLE_NAMES):
        path = f"/dev/serial/{path}"
    url = SourceUrl(scheme, path, options=options)
    if url.usb is not None and path:
        raise ValueError("name a port by its path or by vid, pid and serial, not by both")
    if url.usb is None and not path:
        raise ValueError("it names no port, so write one as serial:///dev/ttyACM0")
    return url


def _parse_network(scheme: str, rest: str) -> SourceUrl:
    url = _parse_any(scheme, rest)
    if not url.host or url.port is None:
        raise ValueError(f"it needs a host and a port, as in {scheme}://gateway.local:7000")
    if url.path:
        raise ValueError(f"a {scheme} source has no path, so leave out /{url.path}")
    if url.username is not None:
        raise ValueError(f"a {scheme} source has no login, so leave out what is before the @")
    return url


def _parse_mqtt(scheme: str, rest: str) -> SourceUrl:
    url = _parse_any(scheme, rest)
    if not url.host or not url.path:
        raise ValueError(
            f"it needs a host and a topic, as in {scheme}://broker.local/pump/vibration"
        )
    _check_topic(url.path)
    port = _MQTT_PORTS[scheme] if url.port is None else url.port
    return SourceUrl(
        scheme, url.path, url.host, port, url.username, url.password, options=url.options
    )


def _parse_stdin(scheme: str, rest: str) -> SourceUrl:
    path, options = _path_and_options(rest)
    if path:
        raise ValueError("stdin: stands alone, with nothing behind it")
    return SourceUrl(scheme, options=options)


def _parse_replay(scheme: str, rest: str) -> SourceUrl:
    path, options = _path_and_options(rest)
    if path.startswith("//"):
        path = path[2:]
        if not path.startswith("/"):
            raise ValueError(f"write replay:{path}, without the slashes")
    if not path:
        raise ValueError("it names no file, so write one as replay:field.capture")
    return SourceUrl(scheme, path, options=options)


def _parse_any(scheme: str, rest: str) -> SourceUrl:
    """[//[user[:password]@]host[:port]/]path[?options]."""
    path, options = _path_and_options(rest, decode=False)
    if not path.startswith("//"):
        return SourceUrl(scheme, unquote(path), options=options)
    network, _, path = path[2:].partition("/")
    if "@" in path:  # a password with a slash may have begun before it
        raise ValueError(_ESCAPES)
    try:
        parts = urlsplit(f"//{network}")
    except ValueError:
        raise ValueError("its host makes no sense") from None
    return SourceUrl(
        scheme,
        unquote(path),
        parts.hostname or "",
        _port(parts),
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        options=options,
    )


def _port(parts: SplitResult) -> int | None:
    with contextlib.suppress(ValueError):
        if parts.port != 0:
            return parts.port
    # Not what it is: after an unquoted slash it may be the front of a password.
    raise ValueError(f"its port is no number from 1 to 65535, or {_ESCAPES}")


def _path_and_options(rest: str, *, decode: bool = True) -> tuple[str, dict[str, str]]:
    path, mark, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True) if mark else []
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ValueError("an option is given twice")
    return unquote(path) if decode else path, options


def _check_options(scheme: str, options: Mapping[str, str], known: Mapping[str, _Check]) -> None:
    for name, value in options.items():
        if name not in known:
            names = ", ".join(known)
            there = f"the options of {scheme} are {names}" if names else f"{scheme} has none"
            raise ValueError(f"it has no option {name!r}; {there}")
        known[name](value)


def _baud_rate(value: str) -> int:
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 2**32):
        raise ValueError(f"baud={value} is no baud rate, such as 115200")
    return int(value)


def _usb_number(value: str) -> int:
    if not re.fullmatch(r"(0[xX])?[0-9A-Fa-f]{1,4}", value):
        raise ValueError(f"{value!r} is no USB number, such as 2341: up to four hex digits")
    return int(value, 16)


def _text(value: str) -> str:
    if not value:
        raise ValueError("an option is empty")
    return value


def _speed(value: str) -> float:
    if value == "max":
        return math.inf
    try:
        speed = float(value)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise ValueError(f"speed={value} is neither max nor a number above 0")
    return speed


def _qos(value: str) -> int:
    if value not in ("0", "1", "2"):
        raise ValueError(f"qos={value} is none of 0, 1 and 2")
    return int(value)


def _check_topic(topic: str) -> None:
    levels = topic.split("/")
    if "\0" in topic or len(topic.encode()) > 65_535:
        raise ValueError("MQTT knows no such topic")
    if "#" in "".join(levels[:-1]) or any(len(x) > 1 and re.search("[#+]", x) for x in levels):
        raise ValueError("in a topic + stands alone in its level, and # alone at the end")


_Check = Callable[[str], object]
_SCHEMES: Mapping[str, tuple[Callable[[str, str], SourceUrl], Mapping[str, _Check]]] = {
    "serial": (
        _parse_serial,
        {"baud": _baud_rate, "vid": _usb_number, "pid": _usb_number, "serial": _text},
    ),
    "socket": (_parse_network, {}),
    "rfc2217": (_parse_network, {"baud": _baud_rate}),
    "stdin": (_parse_stdin, {}),
    "replay": (_parse_replay, {"speed": _speed}),
    "mqtt": (_parse_mqtt, {"qos": _qos}),
    "mqtts": (_parse_mqtt, {"qos": _qos, "ca": _text}),
}

SCHEMES = tuple(_SCHEMES)
"""The schemes that edgelstm itself knows."""
