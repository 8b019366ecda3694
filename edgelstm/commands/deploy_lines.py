"""What `edgelstm deploy` shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from edgelstm.commands.alert_lines import printable
from edgelstm.commands.console import ProgressLine
from edgelstm.commands.doctor import page
from edgelstm.commands.trial_lines import step
from edgelstm.diagnosis.finding import Finding

if TYPE_CHECKING:
    from edgelstm_devices.deploying import Outcome, Sending
    from edgelstm_devices.planning import ReleasePlan

_TITLE = 10
_WIDEST = 100


class Narrator:
    """Says what a deployment does: lines for what is done, one that changes for what goes on."""

    def __init__(self) -> None:
        self._progress = ProgressLine()

    def step(self, title: str, text: str) -> None:
        """Shows what is done."""
        self._progress.done()
        click.echo(f"{title:<{_TITLE}}{printable(text)}", err=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows what goes on."""
        self._progress(printable(what), done, total)

    def hear(self, event: Mapping[str, Any]) -> None:
        """Shows what the device tells: lines of a trial stay."""
        if "release" in event:
            self._progress.done()
            click.echo(f"{'Trial':<{_TITLE}}{step(event).strip()}", err=True)
        else:
            more = event.get("name") or event.get("why") or ""
            self.progress(f"{event['what']} {more}".strip(), 0, 0)

    def done(self) -> None:
        """Takes the line away that changes."""
        self._progress.done()


def about_device(facts: Mapping[str, Any]) -> str:
    """What a device is, in a line."""
    system = (facts.get("os") or {}).get("PRETTY_NAME") or "a system that does not say its name"
    python = facts.get("python")
    parts = [
        facts.get("model") or "",
        system,
        f"Python {python['version']}" if python else "no Python",
        python["architecture"] if python else facts.get("machine") or "",
    ]
    return printable(", ".join(filter(None, parts)))


def findings_page(findings: Sequence[Finding]) -> Iterator[str]:
    """All findings of the preflight, with what is well."""
    yield from page(findings, min(shutil.get_terminal_size().columns, _WIDEST))


def troubles(findings: Sequence[Finding]) -> Iterator[str]:
    """What is wrong with a device, or may matter, each with what mends it."""
    for one in findings:
        if one.level != "ok":
            colour = "red" if one.level == "problem" else "yellow"
            yield click.style(f"{one.level.capitalize():<{_TITLE}}", fg=colour) + printable(
                f"{one.name}: {one.what}"
            )
            if one.mend:
                yield f"{'':<{_TITLE}}  {printable(one.mend)}"


def plan_lines(plan: ReleasePlan, sending: Sending, as_root: Sequence[str]) -> Iterator[str]:
    """What is going to be deployed."""
    spec, shipment = plan.ready.spec, plan.shipment
    models = ", ".join(
        f"{name} ({model.manifest.recipe})" for name, model in shipment.models.items()
    ) if shipment else ""  # fmt: skip
    ports = ", ".join(shipment.ports) if shipment else ""
    runtime = spec.runtime
    wheels = "all wheels sent" if runtime.offline else "wheels from the device's index"
    yield f"{'Release':<{_TITLE}}{spec.id} of {spec.service}: {models}"
    yield f"{'Readings':<{_TITLE}}{printable(ports)}"
    package = next(r for r in runtime.requirements if plan.runtime and r.startswith(
        plan.runtime.package
    ))  # fmt: skip
    yield f"{'Runtime':<{_TITLE}}{package.replace('==', ' ')} for Python {runtime.python}, {wheels}"
    size, whole = f"{sending.bytes / 1e6:.1f}", f"{sending.whole / 1e6:.1f}"
    yield f"{'To send':<{_TITLE}}{sending.counted}, {size} MB of {whole} MB"
    if as_root:
        yield f"{'As root':<{_TITLE}}{', '.join(as_root)}"


def plan_data(plan: ReleasePlan, sending: Sending, as_root: Sequence[str]) -> dict[str, Any]:
    """What is going to be deployed, as JSON has it."""
    spec = plan.ready.spec
    return {
        "ok": True,
        "findings": [one.to_dict() for one in plan.findings],
        "service": spec.service,
        "release": spec.id,
        "digest": spec.digest,
        "artifacts": list(spec.artifacts),
        "ports": list(plan.shipment.ports) if plan.shipment else [],
        "runtime": spec.runtime.id,
        "offline": spec.runtime.offline,
        "send": {"files": len(sending.files), "bytes": sending.bytes, "of_bytes": sending.whole},
        "as_root": list(as_root),
    }


def outcome_lines(outcome: Outcome, host: str, service: str) -> Iterator[str]:
    """How it ended, but for the trial itself (see `trial_lines`)."""
    for proof in outcome.proofs:
        if not proof.ok:
            yield f"{click.style('failed', fg='red')}  {proof.what} on {host}:"
            yield from (f"    {printable(line)}" for line in proof.text.splitlines())
    if outcome.nothing_to_do:
        yield f"{click.style('ok', fg='green')}  {host} runs this release of {service} already."
    elif outcome.trial is None:
        yield f"Nothing was switched: {host} goes on with what it ran."
