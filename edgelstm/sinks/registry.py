"""Which sinks there are: edgelstm's own, and those of other people.

A distribution offers one through an entry point:

    [project.entry-points."edgelstm.sinks"]
    pager = "my_package.pager:PagerSink"

`PagerSink` is a subclass of `edgelstm.sinks.Sink`; `docs/alerts.md` has an example.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
from importlib.metadata import EntryPoint, entry_points

from edgelstm.errors import ConfigurationError, EdgelstmError
from edgelstm.sinks import Sink

SINKS = {
    "log": ("edgelstm.sinks.log", "LogSink"),
    "jsonl": ("edgelstm.sinks.jsonl", "JsonlSink"),
    "mqtt": ("edgelstm.sinks.mqtt", "MqttSink"),
    "webhook": ("edgelstm.sinks.webhook", "WebhookSink"),
    "command": ("edgelstm.sinks.command", "CommandSink"),
    "syslog": ("edgelstm.sinks.syslog", "SyslogSink"),
    "journal": ("edgelstm.sinks.journal", "JournalSink"),
}
"""Our own: type -> (module, class). A plug-in cannot take one of these names."""

ENTRY_POINT_GROUP = "edgelstm.sinks"


def sink_types() -> tuple[str, ...]:
    """The types that there are: our own, then those of plug-ins, sorted. Imports none of them."""
    offered = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}
    return (*SINKS, *sorted(offered.difference(SINKS)))


def find_sink(name: str) -> type[Sink]:
    """The class of a type of sink.

    Args:
        name: of the type.

    Raises:
        ConfigurationError: there is none, more than one plug-in brings it, or the plug-in cannot
            be imported or is no sink.
        MissingDependencyError: it needs a package that is not installed.
    """
    if name in SINKS:
        module, attribute = SINKS[name]
        found: type[Sink] = getattr(importlib.import_module(module), attribute)
        return found
    # A distribution that is found twice on the path is one.
    offered = {
        _distribution(entry): entry
        for entry in entry_points(group=ENTRY_POINT_GROUP)
        if entry.name == name
    }
    if not offered:
        types = sink_types()
        near = difflib.get_close_matches(name, types, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(types)}."
        raise ConfigurationError(f"There is no sink of the type {name!r}; {hint}")
    if len(offered) > 1:
        names = " and ".join(sorted(offered))
        raise ConfigurationError(f"{names} both bring the sink {name}; uninstall all but one.")
    ((distribution, entry),) = offered.items()
    return _load(entry, f"The plug-in {distribution}, which brings the sink {name},")


def _load(entry: EntryPoint, plugin: str) -> type[Sink]:
    try:
        found = entry.load()
    except EdgelstmError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{plugin} cannot be loaded ({type(error).__name__}: {error}): repair it or uninstall "
            "it."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Sink)):
        raise ConfigurationError(
            f"{plugin} gives something else than a class of edgelstm.sinks.Sink: tell its author."
        )
    if inspect.isabstract(found):
        raise ConfigurationError(f"{plugin} lacks the method send: tell its author.")
    config = getattr(found, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise ConfigurationError(
            f"{plugin} lacks a dataclass Config of its options: tell its author."
        )
    return found


def _distribution(entry: EntryPoint) -> str:
    return "of an unknown package" if entry.dist is None else entry.dist.name
