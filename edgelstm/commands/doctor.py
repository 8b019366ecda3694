"""`edgelstm doctor`."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import click

import edgelstm
from edgelstm.commands.console import ProgressLine
from edgelstm.diagnosis.diagnose import diagnose
from edgelstm.diagnosis.finding import Finding, Level

_MARKS: dict[Level, str] = {"ok": "ok", "note": "note", "problem": "PROBLEM"}
_COLOURS: dict[Level, str] = {"ok": "green", "note": "yellow", "problem": "red"}
_MARK_WIDTH = 9
_NAME_WIDTH = 20  # at most; longer names push their line to the right
_WIDEST = 100


@click.command(short_help="Look for what keeps edgelstm from working here.")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a TFLite runtime may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def doctor(ctx: click.Context, artifact: Path | None, timeout: float, as_json: bool) -> None:
    """Look for what keeps edgelstm from working here, and say how to mend it.

    It looks at Python, the machine, the TFLite runtimes and what each computes correctly, serial
    ports, Edge TPUs, disks and the clock. With an ARTIFACT it also tries that file in every
    runtime. It changes nothing, and works where a runtime is broken.

    Exit code: 0 when there is no problem (at least one runtime works then), 1 when there is one.

    Example: edgelstm doctor pump.tflite
    """
    with ProgressLine() as progress:
        findings = diagnose(artifact, timeout, progress)
    problems = [finding for finding in findings if finding.level == "problem"]
    if as_json:
        answer = {
            "edgelstm": edgelstm.__version__,
            "ok": not problems,
            "findings": [finding.to_dict() for finding in findings],
        }
        click.echo(json.dumps(answer, indent=2))
    else:
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        for line in page(findings, width):
            click.echo(line)
    ctx.exit(1 if problems else 0)


def page(findings: Sequence[Finding], width: int) -> Iterator[str]:
    """The findings as lines: by section, then what to do about the problems and notes."""
    names = max(len(f.name) for f in findings if len(f.name) <= _NAME_WIDTH)
    for section, group in groupby(findings, lambda finding: finding.section):
        yield click.style(section, bold=True)
        for finding in group:
            yield from _finding(finding, names, width)
        yield ""
    notes = [f for f in findings if f.level == "note" and f.mend]
    problems = [f for f in findings if f.level == "problem"]
    for title, chosen in (("what may matter", notes), ("what to mend", problems)):
        if chosen:
            yield click.style(title, bold=True)
            for finding in chosen:
                yield from _wrapped(f"  {finding.name}: {finding.what}", width, " " * 4)
                yield f"      {finding.mend}"  # never wrapped: it is there to be copied
            yield ""
    if problems:
        yield f"{len(problems)} problem{'s' * (len(problems) > 1)}."
    else:
        yield "No problem."


def _finding(finding: Finding, names: int, width: int) -> Iterator[str]:
    mark = click.style(_MARKS[finding.level], fg=_COLOURS[finding.level])
    gap = " " * (_MARK_WIDTH - len(_MARKS[finding.level]))
    label = f"{finding.name:<{names}}  "
    start = " " * (2 + _MARK_WIDTH + names + 2)
    first, *rest = _wrapped(start + " " * (len(label) - names - 2) + finding.what, width, start)
    yield f"  {mark}{gap}{label}{first.lstrip()}"
    yield from rest


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    """Lines of a text; those after the first are indented."""
    return textwrap.wrap(
        text,
        max(width, len(indent) + 30),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
