"""What `edgelstm status` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from edgelstm.commands import alert_lines
from edgelstm.commands.alert_lines import printable
from edgelstm.errors import OutboxError
from edgelstm.notice import Notice
from edgelstm.recording import format_time
from edgelstm.sinks.log import format_duration
from edgelstm_devices.condition import Condition, Word

_COLOURS: dict[Word, str] = {
    "ok": "green",
    "degraded": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "failing": "red",
    "stopped": "red",
    "unknown": "red",
    "no release": "red",
}
_LABEL = 12
_MB = 1e6
_Row = tuple[str, ...]


def page(
    host: str, services: Sequence[tuple[Mapping[str, Any], Condition]], left_out: Sequence[str]
) -> Iterator[str]:
    """How the services of a device are, as lines.

    Args:
        host: of the device.
        services: as the agent's `status` gives them, and how well each does.
        left_out: as it gives them.
    """
    for service, condition in services:
        yield from _service(service, condition)
        yield ""
    if left_out:
        yield click.style("left out", bold=True)
        yield from (f"  {printable(text)}" for text in left_out)
        yield ""
    failing = [service["name"] for service, condition in services if not condition.ok]
    if not services:
        yield f"{host} has no service; 'edgelstm deploy' brings one there."
    elif not failing:
        number = len(services)
        yield f"{host}: {'the service is' if number == 1 else f'all {number} services are'} well."
    else:
        yield f"{host}: not well: {', '.join(failing)}."


def _service(service: Mapping[str, Any], condition: Condition) -> Iterator[str]:
    word = click.style(condition.word, fg=_COLOURS[condition.word])
    yield f"{click.style(service['name'], bold=True)}  {word}"
    for reason in condition.reasons:
        yield f"  {printable(reason)}"
    if service["trial"]:
        yield f"  Release {printable(service['trial'])} is on trial now."
    yield from _known(_facts, service)
    if service["health"] is not None:
        yield from _known(_figures, service["health"])
    if service["alerts"]:
        yield from ("", "  last alerts")
        yield from _known(_alerts, service["alerts"])
    if service["history"]:
        yield from ("", "  last deployments")
        yield from _known(_history, service["history"])
    if service["journal"]:
        yield from ("", "  log")
        yield from (f"    {printable(line)}" for line in service["journal"])


def _known(lines: Callable[[Any], Iterator[str]], told: Any) -> Sequence[str]:
    """Lines on what a device tells, whose edgelstm may be older or newer than this one."""
    try:
        return list(lines(told))
    except (KeyError, TypeError, ValueError, OutboxError):
        return ["  (as another edgelstm tells it, see --json)"]


def _facts(service: Mapping[str, Any]) -> Iterator[str]:
    health = service["health"]
    facts = [("release", _release(service)), ("process", _process(service["unit"]))]
    if health is not None:
        facts += [("health", _age(health))]
        facts += [("model", _model(name, one)) for name, one in health["sensors"].items()]
    for label, text in facts:
        if text:
            yield f"  {label:<{_LABEL}}{printable(text)}"


def _figures(health: Mapping[str, Any]) -> Iterator[str]:
    for rows in (_sensors(health), _sources(health), _sinks(health)):
        if len(rows) > 1:
            yield ""
            yield from _table(rows)


def _release(service: Mapping[str, Any]) -> str:
    made = service["made"]
    if made is None:
        return service["release"] or ""
    at = str(made["made"]).replace("T", " ")[:16]
    return f"{service['release']}, edgelstm {made['edgelstm']}, made {at} by {made['by']}"


def _process(unit: Mapping[str, Any] | None) -> str:
    if unit is None:
        return ""
    parts = [f"{unit['active']} ({unit['sub']})"]
    if unit["seconds"] is not None:
        parts[0] += f" for {format_duration(unit['seconds'])}"
    if unit["memory"] is not None and unit["active"] == "active":
        parts.append(f"{unit['memory'] / _MB:.0f} MB")
    if unit["restarts"]:
        parts.append(f"restarted {unit['restarts']:,} x")
    if not unit["enabled"]:
        parts.append("not started at boot")
    return ", ".join(parts)


def _age(health: Mapping[str, Any]) -> str:
    said = f"told {format_duration(health['age'])} ago by edgelstm {health['version']}"
    bytes_, alerts = health["outbox"]["bytes"], health["outbox"]["alerts"]
    return f"{said}; outbox {bytes_ / _MB:.1f} MB, {alerts:,} alert{'' if alerts == 1 else 's'}"


def _model(name: str, sensor: Mapping[str, Any]) -> str:
    return (
        f"{name}: {sensor['artifact']}, {sensor['recipe']}, {sensor['sha256'][:12]}, "
        f"{sensor['backend']}"
    )


def _sensors(health: Mapping[str, Any]) -> list[_Row]:
    header = ("sensor", "status", "readings", "scored", "alerts", "open", "silent", "score",
              "threshold", "step median", "p99")  # fmt: skip
    return [header] + [
        (
            name,
            "warming up" if one["warming_up"] and one["status"] == "ok" else one["status"],
            f"{one['readings']:,}",
            f"{one['scored']:,}",
            f"{one['alerts']:,}",
            f"{one['open_alerts']:,}",
            format_duration(one["silent_seconds"]),
            _figure(one["score"]),
            _figure(one["threshold"]),
            _micros(one["step_microseconds"]["median"]),
            _micros(one["step_microseconds"]["p99"]),
        )
        for name, one in health["sensors"].items()
    ]


def _sources(health: Mapping[str, Any]) -> list[_Row]:
    counts = ("readings", "lost", "damaged", "overflow", "reconnects")
    return [("source", "link", *counts)] + [
        (name, "open" if one["connected"] else "away", *(f"{one[count]:,}" for count in counts))
        for name, one in health["sources"].items()
    ]


def _sinks(health: Mapping[str, Any]) -> list[_Row]:
    counts = ("sent", "pending", "failures", "refused")
    return [("sink", "type", *counts, "last sent")] + [
        (
            name,
            one["kind"],
            *(f"{one[count]:,}" for count in counts),
            "never" if one["last_sent"] is None else format_time(one["last_sent"]),
        )
        for name, one in health["sinks"].items()
    ]


def _figure(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"


def _micros(number: float | None) -> str:
    return "-" if number is None else f"{number:,.1f} us"


def _table(rows: Sequence[_Row]) -> Iterator[str]:
    """Two columns of words on the left, figures on the right."""
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = [
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()


def _alerts(alerts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    notices = [Notice.from_dict(dict(one)) for one in alerts]
    yield from (f"    {line}" for line in alert_lines.table(notices))


def _history(history: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for entry in history:
        when, what, release = format_time(entry["time"]), entry["what"], entry["release"]
        ended = "ok" if entry["committed"] else f"not taken: {entry['reason']}"
        yield f"    {printable(f'{when}  {what:<8}  {release}  {ended}')}"
