"""Sources of other people: a scheme of their own, offered through an entry point.

A distribution declares it so:

    [project.entry-points."edgelstm.sources"]
    i2c = "my_package.source:open_i2c"

`open_i2c` gets a `SourceUrl` and returns a `Link` (bytes, read as those of a serial port are) or
a `Source` (readings). For a link it is called again whenever the link was lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from edgelstm.errors import ConfigurationError, EdgelstmError, SourceError
from edgelstm_bridge.links.link import Chunk, Link, LinkLost
from edgelstm_bridge.urls import ENTRY_POINT_GROUP, SCHEMES, SourceUrl


@dataclass(frozen=True)
class Plugin:
    """An installed plug-in.

    Attributes:
        scheme: what its URLs begin with, in lower case.
        distribution: the name of the installed package that it comes from.
        entry_point: what it is called by.
    """

    scheme: str
    distribution: str
    entry_point: EntryPoint

    def __str__(self) -> str:
        """What a message about it begins with."""
        return f"The plug-in {self.distribution}, which brings {self.scheme}:"

    def open(self, url: SourceUrl, kinds: tuple[type, ...]) -> object:
        """Lets the plug-in open a source.

        Args:
            url: as the user gave it; its options are the plug-in's.
            kinds: the classes that the plug-in may return an object of.

        Raises:
            EdgelstmError: whatever the plug-in raises of it, such as `SourceError`.
            SourceError: the plug-in raised another OSError.
            ConfigurationError: the plug-in cannot be imported, raised any other error, or
                returned something else.
        """
        try:
            factory = self.entry_point.load()
        except Exception as error:
            raise ConfigurationError(
                f"{self}, cannot be loaded ({_named(error)}): repair it or uninstall it."
            ) from error
        try:
            result: object = factory(url)
        except EdgelstmError:
            raise
        except OSError as error:
            raise SourceError(f"{self.scheme}: cannot be opened: {error}.") from error
        except Exception as error:
            raise ConfigurationError(
                f"{self}, failed ({_named(error)}): tell its author."
            ) from error
        if not isinstance(result, kinds):
            wanted = " or a ".join(kind.__name__ for kind in kinds)
            raise ConfigurationError(
                f"{self}, returned a {type(result).__name__} instead of a {wanted}: tell its "
                "author."
            )
        return result


class PluginLink(Link):
    """A plug-in's link, whose mistakes become one sentence that names the plug-in.

    Args:
        link: of the plug-in.
        plugin: that made it.
    """

    def __init__(self, link: Link, plugin: Plugin) -> None:
        self.description = link.description
        self.can_write = link.can_write
        self.is_live = link.is_live
        self.can_wait = link.can_wait
        self._link = link
        self._plugin = plugin

    def read(self, timeout: float) -> Chunk | None:
        """Reads from the plug-in's link; see `Link.read`."""
        with self._guard():
            return self._link.read(timeout)

    def write(self, data: bytes) -> None:
        """Writes to the plug-in's link; see `Link.write`."""
        with self._guard():
            self._link.write(data)

    def close(self) -> None:
        """Closes the plug-in's link."""
        with self._guard():
            self._link.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except EdgelstmError:
            raise
        except OSError as error:
            raise LinkLost(f"Lost {self.description} ({error}).") from error
        except Exception as error:
            raise ConfigurationError(
                f"{self._plugin}, failed ({_named(error)}): tell its author."
            ) from error


def plugin_schemes() -> tuple[str, ...]:
    """The schemes of the installed plug-ins, sorted; edgelstm's own are never a plug-in's."""
    offered = {entry.name.lower() for entry in entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(offered.difference(SCHEMES)))


def find_plugin(scheme: str) -> Plugin:
    """Returns the plug-in of a scheme, without importing it.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    entries = entry_points(group=ENTRY_POINT_GROUP)
    # A distribution that is found twice on the path is one.
    found = {
        _distribution(entry): entry
        for entry in entries
        if entry.name.lower() == scheme and scheme not in SCHEMES
    }
    if not found:
        raise ConfigurationError(f"No plug-in brings {scheme}: - is its package installed?")
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise ConfigurationError(f"{names} both bring {scheme}: - uninstall all but one.")
    distribution, entry = found.popitem()
    return Plugin(scheme, distribution, entry)


def _distribution(entry: EntryPoint) -> str:
    return "of an unknown package" if entry.dist is None else entry.dist.name


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
