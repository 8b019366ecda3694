"""`edgelstm bench`."""

from __future__ import annotations

import dataclasses
import importlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import edgelstm
from edgelstm.artifact import Artifact
from edgelstm.benchmark.footprint import Footprint, measure_footprint
from edgelstm.benchmark.fused_peer import fused_step
from edgelstm.benchmark.lstm_stack import lstm_stack
from edgelstm.benchmark.machine import cores, cpu_name
from edgelstm.benchmark.onnx_peer import PRECISIONS, onnx_steps
from edgelstm.benchmark.runtime import PACKAGES, bare_interpreter, inner_invoke, version_of
from edgelstm.benchmark.timing import SLICE_S, Candidate, Timing, time_in_turns
from edgelstm.commands.bench_on import bench_on
from edgelstm.commands.console import ProgressLine, backend_option, quiet_runtime
from edgelstm.commands.host_options import HostChoice, host_options
from edgelstm.commands.watching import open_verified
from edgelstm.errors import ConfigurationError
from edgelstm.manifest import Manifest
from edgelstm.session import Session

PEERS = ("float", "onnxruntime", "fused")
_INVOKE = "raw Invoke"
_LONGEST_S = 86_400
_TRIAL_S = 0.1  # to find the faster way to step a peer
_MB = 1e6


@dataclass(frozen=True)
class Report:
    """What `edgelstm bench` found out.

    Attributes:
        file: the artifact's name.
        recipe: how it was quantised.
        mode: "stream" or "window".
        window: readings in a window; None for a stream.
        hop: readings from one run to the next.
        states: how many state tensors it has.
        backend: the runtime that ran it.
        runtime: that runtime's package and version.
        cpu: what the machine calls its processor or itself.
        architecture: such as "aarch64".
        cores: processors that the process may use.
        versions: of Python, numpy and edgelstm.
        peers: what the peers are, one sentence each.
        timings: one for each row of the table.
        footprint: start-up and memory; None when they were not asked for.
    """

    file: str
    recipe: str
    mode: str
    window: int | None
    hop: int
    states: int
    backend: str
    runtime: str
    cpu: str
    architecture: str
    cores: int
    versions: dict[str, str]
    peers: tuple[str, ...]
    timings: tuple[Timing, ...]
    footprint: Footprint | None

    @property
    def invoke(self) -> Timing:
        """The row that the others are set against."""
        return next(timing for timing in self.timings if timing.name == _INVOKE)

    def to_json(self) -> str:
        """The report as indented JSON, with what follows from its figures."""
        data = dataclasses.asdict(self)
        for row, timing in zip(data["timings"], self.timings, strict=True):
            row["steps_per_second"] = timing.steps_per_second
            row["ratio_to_invoke"] = timing.ratio(self.invoke)
        return json.dumps(data, indent=2)


@click.command(short_help="Measure speed, memory and start-up of an artifact here.")
@click.argument("artifact", required=False, type=click.Path(path_type=Path))
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also N sensors in one Invoke.",
)
@click.option(
    "--against",
    type=click.Choice(PEERS),
    help="Also a peer: the same graph in float; an LSTM of its sizes in ONNX Runtime, or as the "
    "fused operation of older converters.",
)
@backend_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="How long to time steps.",
)
@click.option(
    "--footprint/--no-footprint",
    default=True,
    show_default=True,
    help="Start-up and memory, of fresh processes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option(
    "--on",
    "host",
    metavar="HOST",
    help="Measure there, with the runtime of a service that was deployed; without ARTIFACT its own "
    "model.",
)
@host_options
@click.pass_context
def bench(
    ctx: click.Context,
    artifact: Path | None,
    streams: int | None,
    against: str | None,
    backend: str,
    seconds: float,
    footprint: bool,
    as_json: bool,
    chosen: HostChoice,
) -> None:
    """Measure what a step costs on this machine or a device, in a table to paste.

    Everything runs on one thread, in turns of a millisecond, so that a busy machine slows all of
    it alike. "raw Invoke" is the runtime alone, without reading, states or result.

    Example: edgelstm bench pump.tflite --streams 64
    """
    if not seconds <= _LONGEST_S:  # NaN is not
        raise ConfigurationError(f"--seconds is {seconds:g}; give {_LONGEST_S:,} at most.")
    if chosen.host:
        given = {"--streams": streams, "--against": against, "--backend": backend}
        options = [f"{name}={value}" for name, value in given.items() if value is not None]
        options += [f"--seconds={seconds:g}", "--footprint" if footprint else "--no-footprint"]
        ctx.exit(bench_on(chosen, artifact, [*options, *(["--json"] if as_json else [])]))
    if chosen != HostChoice("", "system", "", ()):
        raise click.UsageError("--name, --user and the options for ssh go with --on HOST.")
    if artifact is None:
        raise click.UsageError("Missing argument 'ARTIFACT', or --on HOST.")
    with open_verified(artifact, backend, calibration=False) as session, ProgressLine() as progress:
        readings = _readings(session.artifact)
        candidates = [
            Candidate("session.step", session.step, readings),
            Candidate(_INVOKE, _invoke(_model(session.artifact), session.backend)),
        ]
        if streams:
            candidates.append(_streams(session, streams, readings))
        peers: Sequence[str] = ()
        if against:
            progress(f"preparing {against}", 0, 1)
            more, peers = _peer(against, session, readings, progress)
            candidates += more
        timings = time_in_turns(
            candidates,
            seconds,
            on_progress=lambda done, total: progress("timing in turns", done, total),
        )
        found = None
        if footprint:
            found = measure_footprint(
                artifact,
                _model(session.artifact),
                session.backend,
                on_progress=lambda done, total: progress("start-up and memory", done, total),
            )
        report = _report(artifact, session, peers, timings, found)
    if as_json:
        click.echo(report.to_json())
        return
    for line in _page(report):
        click.echo(line)


def _readings(artifact: Artifact) -> list[NDArray[np.float64]]:
    """The readings of the golden vectors, each (channels,), physical units."""
    if not len(artifact.golden.x):  # a plain model has none
        return [np.array([c.mean for c in artifact.manifest.channels], np.float64)]
    return list(artifact.golden.x.astype(np.float64))


def _model(artifact: Artifact) -> bytes:
    """What a CPU runs: of a model compiled for an Edge TPU, the one that it was compiled from."""
    return artifact.cpu or artifact.flatbuffer


def _invoke(flatbuffer: bytes, backend: str) -> Any:
    with quiet_runtime():
        return inner_invoke(bare_interpreter(flatbuffer, backend))


def _streams(session: Session, streams: int, readings: Sequence[NDArray[np.float64]]) -> Candidate:
    """N sensors in one Invoke, each at another place of the readings."""
    with quiet_runtime():
        group = edgelstm.Streams(session.artifact, streams, backend=session.backend)
    rows = [
        np.array([readings[(i + k) % len(readings)] for k in range(streams)])
        for i in range(len(readings))
    ]
    return Candidate(f"Streams({streams}).step", group.step, rows, streams)


def _peer(
    name: str, session: Session, readings: Sequence[NDArray[np.float64]], progress: ProgressLine
) -> tuple[list[Candidate], list[str]]:
    """What to time of a peer, and what it is."""
    if name == "float":
        return _float_peer(session, readings)
    if name == "onnxruntime":
        return _onnx_peer(session.artifact.manifest, readings)
    return _fused_peer(session, readings, progress)


def _float_peer(
    session: Session, readings: Sequence[NDArray[np.float64]]
) -> tuple[list[Candidate], list[str]]:
    from edgelstm.benchmark.float_twin import float_twin

    artifact = session.artifact
    twin = dataclasses.replace(artifact, flatbuffer=float_twin(_model(artifact)), cpu=None)
    with quiet_runtime():
        stepper = Session(twin, backend=session.backend)
    return [
        Candidate("float session.step", stepper.step, readings),
        Candidate("float raw Invoke", _invoke(twin.flatbuffer, session.backend)),
    ], [f"float: the same graph with float32 weights, {len(twin.flatbuffer):,} bytes"]


def _onnx_peer(
    manifest: Manifest, readings: Sequence[NDArray[np.float64]]
) -> tuple[list[Candidate], list[str]]:
    stack = lstm_stack(manifest)
    candidates, ways = [], set()
    for precision in PRECISIONS:
        steps = onnx_steps(stack, precision)
        trial = time_in_turns(
            [Candidate(way, step, readings) for way, step in steps.items()], _TRIAL_S
        )
        way = min(trial, key=lambda timing: timing.mean_us).name
        candidates.append(Candidate(f"ONNX Runtime {precision}", steps[way], readings))
        ways.add(way)
    version = importlib.import_module("onnxruntime").__version__
    return candidates, [
        f"ONNX Runtime {version}: {stack}, random weights, int8 by quantize_dynamic; "
        f"{' and '.join(sorted(ways))}, the faster of run and IOBinding"
    ]


def _fused_peer(
    session: Session, readings: Sequence[NDArray[np.float64]], progress: ProgressLine
) -> tuple[list[Candidate], list[str]]:
    from edgelstm_quantize.fused import fused_lstm

    stack = lstm_stack(session.artifact.manifest)
    model = fused_lstm(stack.channels, stack.units, stack.targets, on_progress=progress)
    with quiet_runtime():
        step = fused_step(model, session.backend)
    return [Candidate("fused int8", step, readings)], [
        f"fused: {stack}, random weights, as int8 UNIDIRECTIONAL_SEQUENCE_LSTM"
    ]


def _report(
    path: Path,
    session: Session,
    peers: Sequence[str],
    timings: Sequence[Timing],
    footprint: Footprint | None,
) -> Report:
    manifest = session.artifact.manifest
    return Report(
        file=path.name,
        recipe=manifest.recipe,
        mode=manifest.mode,
        window=manifest.window,
        hop=manifest.hop,
        states=len(manifest.states),
        backend=session.backend,
        runtime=f"{PACKAGES[session.backend]} {version_of(session.backend)}",
        cpu=cpu_name(),
        architecture=platform.machine(),
        cores=cores(),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "edgelstm": edgelstm.__version__,
        },
        peers=tuple(peers),
        timings=tuple(timings),
        footprint=footprint,
    )


def _page(report: Report) -> list[str]:
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    rows = [
        ("file", f"{report.file}: {report.recipe}, {_kept(report)}"),
        ("runtime", f"{report.runtime}, one thread"),
        ("machine", f"{report.cpu}, {report.architecture}, {_count(report.cores, 'core')}"),
        ("versions", versions),
        *(("peer", peer) for peer in report.peers),
    ]
    lines = [f"{label:<10}{text}" for label, text in rows]
    lines += ["", *_table(report), ""]
    if report.footprint:
        lines += _footprint(report.footprint)
    noise = max(timing.spread for timing in report.timings)
    lines.append(
        f"Timed in {report.invoke.rounds:,} rounds, slices of {1000 * SLICE_S:g} ms in turns; "
        f"the middle 80 % of a row's slices lie within {noise:.0%} of its median at most."
    )
    return lines


def _table(report: Report) -> list[str]:
    """Quantiles of single calls; steps a second and ratio from slices timed as a whole."""
    header = ("", "median", "p90", "p99", "steps/s", "to raw Invoke")
    rows: list[tuple[str, ...]] = [header]
    for timing in report.timings:
        figures = (timing.median_us, timing.p90_us, timing.p99_us)
        rows.append(
            (
                timing.name,
                *(f"{value:,.1f} us" for value in figures),
                f"{timing.steps_per_second:,.0f}",
                f"{timing.ratio(report.invoke):.2f}",
            )
        )
        if timing.streams > 1:
            each = (f"{value / timing.streams:,.2f} us" for value in figures)
            rows.append(("  per stream", *each, "", ""))
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    return [_aligned(row, widths) for row in rows]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """A name on the left, figures on the right."""
    figures = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join((row[0].ljust(widths[0]), *figures)).rstrip()


def _footprint(footprint: Footprint) -> list[str]:
    base = footprint.runtime_bytes
    own, bare = ((n - base) / _MB for n in (footprint.session_bytes, footprint.bare_bytes))
    return [
        f"Memory    {own:.1f} MB over numpy and the runtime's {base / _MB:.0f} MB "
        f"(the bare runtime with this model: {bare:.1f} MB)",
        f"Start-up  {1000 * footprint.session_s:.0f} ms from import to the first step "
        f"(the bare runtime: {1000 * footprint.bare_s:.0f} ms)",
        f"          each the median of {footprint.processes} fresh processes",
    ]


def _kept(report: Report) -> str:
    if report.window is None:
        return _count(report.states, "state")
    every = "reading" if report.hop == 1 else f"{report.hop} readings"
    return f"window of {report.window}, run every {every}; session.step over all readings"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
